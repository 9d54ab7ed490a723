"""Checks that depend on each other, each with a bound in time and what to do when it fails. Knows no deployment."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    # One that it needs has failed, or was not run.
    NOT_RUN = "not run"


class CheckFailedError(Exception):
    """What was found, and what to do."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Check:
    """A check. `run` returns what was found, in a few words, or raises CheckFailedError."""

    name: str
    run: Callable[[], Awaitable[str]]
    # Names of checks that must be OK before.
    needs: Sequence[str] = ()
    # Several times the timeout of a call, for one that waits for other processes.
    timeout_factor: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a check; `advice` is empty unless it failed."""

    name: str
    status: Status
    detail: str
    advice: str = ""
    seconds: float = 0.0


async def run_checks(checks: Sequence[Check], *, seconds: float) -> Sequence[Result]:
    """Run checks at the same time, each after those that it needs; returns their results in the given order.

    One ends within so many seconds, or as many times that as its timeout factor. An error that it does not expect fails it alone.
    """
    tasks: dict[str, asyncio.Task[Result]] = {}
    for check in checks:
        tasks[check.name] = asyncio.create_task(_run(check, tasks, seconds=seconds * check.timeout_factor))
    return await asyncio.gather(*tasks.values())


async def _run(check: Check, tasks: Mapping[str, "asyncio.Task[Result]"], *, seconds: float) -> Result:
    needed = await asyncio.gather(*(tasks[name] for name in check.needs))
    if missing := _not_ok(needed):
        return Result(check.name, Status.NOT_RUN, f"needs {', '.join(missing)}")
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            detail = await check.run()
    except CheckFailedError as exc:
        return Result(check.name, Status.FAILED, exc.problem, exc.advice, time.monotonic() - began)
    except TimeoutError:
        return Result(
            check.name,
            Status.FAILED,
            f"no answer within {seconds:g} s",
            "look at the log and the load of what is called; with a slow network give --timeout",
            time.monotonic() - began,
        )
    except Exception as exc:
        return Result(
            check.name,
            Status.FAILED,
            f"{type(exc).__name__}: {exc}",
            "this is not expected of a deployment of this version: look at the log of what is called",
            time.monotonic() - began,
        )
    return Result(check.name, Status.OK, detail, seconds=time.monotonic() - began)


def _not_ok(results: Iterable[Result]) -> Sequence[str]:
    return [result.name for result in results if result.status is not Status.OK]
