"""How executors are found: those that come along, and one of another package."""

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from approval.actions.grammar import parse_action
from approval.executors.protocol import Executor, OperationFailedError, PlanCheck, RunContext
from approval.executors.registry import Executors, load_executors
from approval.model import OperationKind
from servicekit.process.settings import SettingsError

PLUGIN = Path(__file__).parents[2] / "executor_plugin"
ROLLBACK = parse_action("ROLLBACK deployment/web -n shop")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package with the plug-in, as if it were installed."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    yield
    sys.modules.pop("program_executor", None)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that records its arguments and exits with the code in the file `code`."""
    path = tmp_path / "program"
    path.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nexit $(cat {tmp_path}/code)\n')
    path.chmod(0o755)
    (tmp_path / "code").write_text("0")
    return path


@pytest.fixture
def endless(program: Path) -> Path:
    """A pipe into which the program writes its id, before it does not end."""
    pipe = program.with_name("pipe")
    os.mkfifo(pipe)
    program.write_text(f"#!/bin/sh\necho $$ > {pipe}\nexec sleep 600\n")
    return pipe


def of_the_plugin(path: Path | str) -> Executor:
    """The plug-in's executor, as the service gets it."""
    found = load_executors(["program"], {"PROGRAM_EXECUTOR_PATH": str(path)}).find(OperationKind.ROLLBACK)
    assert found is not None
    name, executor = found
    assert name == "program"
    return executor


def context() -> RunContext:
    """The context of a run."""
    return RunContext("APR-20260507-0000A1", "INC-20260507-0000A1", timedelta(minutes=10))


@pytest.mark.usefixtures("installed")
async def test_an_executor_of_another_package_is_found_by_its_entry_point_and_runs(program: Path) -> None:
    executor = of_the_plugin(program)
    assert await executor.plan(ROLLBACK) == [PlanCheck("program_exists", passed=True, message=str(program))]
    assert await executor.run(ROLLBACK, context()) == f"{program} has done it"
    arguments = program.with_name("arguments").read_text()
    assert arguments == "ROLLBACK deployment/web -n shop APR-20260507-0000A1\n"


@pytest.mark.usefixtures("installed")
async def test_its_failure_is_a_failed_operation(program: Path) -> None:
    program.with_name("code").write_text("3")
    with pytest.raises(OperationFailedError, match=f"^{program} ended with 3$"):
        await of_the_plugin(program).run(ROLLBACK, context())


@pytest.mark.usefixtures("installed")
async def test_a_run_that_is_cancelled_leaves_no_program_running(program: Path, endless: Path) -> None:
    running = asyncio.create_task(of_the_plugin(program).run(ROLLBACK, context()))
    pid = int(await asyncio.to_thread(endless.read_text))
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        pytest.param(
            ["dry-run", "nomad"],
            "APPROVAL_EXECUTORS: there is no executor 'nomad'; installed: dry-run, http, kubernetes, program",
            id="an unknown name",
        ),
        pytest.param(
            ["dry-run", "program"],
            "APPROVAL_EXECUTORS: dry-run and program both run ROLLBACK",
            id="two for one kind",
        ),
        pytest.param(
            ["program"],
            "PROGRAM_EXECUTOR_PATH: required by the executor program",
            id="a factory that refuses its settings",
        ),
    ],
)
def test_executors_that_cannot_be_loaded_are_reported(
    names: Sequence[str], reason: str, program: Path
) -> None:
    variables: Mapping[str, str] = {"PROGRAM_EXECUTOR_PATH": str(program)} if len(names) > 1 else {}
    with pytest.raises(SettingsError) as caught:
        load_executors(names, variables)
    assert str(caught.value) == reason


def test_an_executor_of_a_package_that_is_not_installed_is_unknown() -> None:
    with pytest.raises(SettingsError, match=r"installed: dry-run, http, kubernetes$"):
        load_executors(["program"], {})


def test_without_executors_nothing_can_be_run() -> None:
    executors = load_executors([], {})
    assert executors.kinds == frozenset()
    assert executors.find(OperationKind.RESTART) is None


async def test_dry_run_reports_what_it_would_do_for_every_kind_but_no_action() -> None:
    executors = load_executors(["dry-run"], {})
    assert executors.kinds == set(OperationKind) - {OperationKind.NO_ACTION}
    found = executors.find(OperationKind.ROLLBACK)
    assert found is not None
    name, executor = found
    assert name == "dry-run"
    assert await executor.run(ROLLBACK, context()) == (
        "dry run, nothing was done: ROLLBACK deployment/web -n shop"
    )
    assert await executor.plan(ROLLBACK) == [
        PlanCheck("dry_run", passed=True, message="would run: ROLLBACK deployment/web -n shop")
    ]
    await executors.close()


class Closing:
    """An executor that keeps in mind whether it was closed."""

    kinds = (OperationKind.HTTP,)
    is_closed = False

    async def plan(self, operation: object) -> Sequence[PlanCheck]:
        return []

    async def run(self, operation: object, context: RunContext) -> str:
        return ""

    async def close(self) -> None:
        self.is_closed = True


async def test_executors_are_closed_with_the_service() -> None:
    executor = Closing()
    await Executors({"closing": executor}).close()
    assert executor.is_closed
