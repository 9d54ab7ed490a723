"""The two services for the operator's commands, and the command itself, run in this process."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flywheel.__main__ import main
from tests.approval.schemas import approval_database, incident_database, rows
from tests.eventually import eventually
from tests.services import TIMEOUT_SECONDS, RunningService, healthy_service

# Without periodic work, which would change what a test looks at.
_AT_REST = {"APPROVAL_EXPIRE_EVERY": "24h", "APPROVAL_RECONCILE_EVERY": "24h"}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NAME = "here"


@dataclass(frozen=True)
class Deployment:
    """An incident and an approval service, and their databases."""

    runner: asyncio.Runner
    services: Mapping[str, RunningService]

    def sql(self, service: str, statement: str, *arguments: object) -> Sequence[tuple[Any, ...]]:
        """Run a statement on a service's database."""
        return self.runner.run(rows(self.services[service].database_url, statement, *arguments))

    def settle(self) -> None:
        """Return when the services have done what was queued."""
        for name in ("approval", "incident"):
            self.runner.run(self._until_idle(self.services[name].database_url))

    def until(self, read: Callable[[], str], accepted: Callable[[str], bool]) -> str:
        """The first text that is accepted, read again and again."""

        async def at_once() -> str:
            return read()

        return self.runner.run(eventually(at_once, accepted))

    async def _until_idle(self, url: str) -> None:
        waiting = "SELECT FROM outbox WHERE state = 'PENDING'"
        await eventually(lambda: rows(url, waiting), lambda found: not found)


@contextmanager
def deployed() -> Iterator[Deployment]:
    """Run the services until the block ends."""
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()

        async def start() -> Mapping[str, RunningService]:
            incident_url = await opened.enter_async_context(incident_database())
            incident = await opened.enter_async_context(healthy_service("incident", incident_url))
            variables = {"APPROVAL_INCIDENT_TARGET": incident.address, **_AT_REST}
            approval_url = await opened.enter_async_context(approval_database())
            approval = await opened.enter_async_context(
                healthy_service("approval", approval_url, variables=variables)
            )
            return {"incident": incident, "approval": approval}

        try:
            yield Deployment(runner, runner.run(start()))
        finally:
            runner.run(opened.aclose())


class Terminal(io.StringIO):
    """A person who types this."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


@dataclass
class Command:
    """`flywheel`, run by its `main` with an environment of the test's own."""

    monkeypatch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]
    configuration: Path
    arguments: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        for name in [name for name in os.environ if name.startswith("FLYWHEEL_")]:
            if name != "FLYWHEEL_TEST_RUN":
                self.monkeypatch.delenv(name)
        self.monkeypatch.setenv("XDG_CONFIG_HOME", str(self.configuration))
        self.monkeypatch.setenv("FLYWHEEL_ACTOR", "alice")
        # However busy the machine is.
        self.monkeypatch.setenv("FLYWHEEL_TIMEOUT", str(TIMEOUT_SECONDS))

    def __call__(self, *arguments: str, stdin: io.StringIO | None = None) -> Ended:
        """Run it with these arguments; without `stdin` there is no terminal."""
        self.capture.readouterr()
        # Some commands replace them for the rest of their process.
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        with self.monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["flywheel", *arguments])
            patched.setattr(sys, "stdin", stdin or io.StringIO())
            # `main` replaces it.
            patched.setattr(sys, "stderr", sys.stderr)
            try:
                main()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        printed = self.capture.readouterr()
        return Ended(status, printed.out, printed.err)

    def done(self, *arguments: str) -> str:
        """Run it, see that it succeeds, and return what it printed."""
        ended = self(*arguments)
        assert ended.status == 0, ended
        return ended.out
