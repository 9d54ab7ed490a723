"""A service that is forked by a process that has loaded it is, to its test, one that was started."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from awoooi.client import CallError
from tests.approval.schemas import incident_database
from tests.callers import incidents_at
from tests.eventually import eventually
from tests.preloaded import ForkedService
from tests.services import ServiceProcess, healthy_service, without_settings


def forked(*arguments: str, **variables: str) -> ForkedService:
    return ForkedService("incident", arguments, without_settings() | variables)


def test_its_exit_code_and_messages_are_those_of_a_process_that_was_started() -> None:
    url = {"INCIDENT_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    for arguments, variables in ((["nonsense"], {}), (["migrate"], url)):
        started = ServiceProcess("incident", arguments, variables)
        service = forked(*arguments, **variables)
        code = started.wait()
        assert code > 0
        with service.stderr as stderr:
            assert stderr.readlines() == started.lines
        assert service.wait(60.0) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_a_signal_ends_it(number: signal.Signals) -> None:
    async with incident_database() as url, healthy_service("incident", url) as service:
        service.send(number)
        assert service.wait() == (-number if number == signal.SIGKILL else 0)
        # One more has no reader.
        service.send(number)


async def test_each_has_its_own_environment_and_no_descriptor_of_another() -> None:
    async with (
        incident_database() as url,
        healthy_service("incident", url, variables={"FAILPOINTS": "resolve_before_statement"}) as first,
        healthy_service("incident", url) as second,
        incidents_at(first.address) as at_first,
        incidents_at(second.address) as at_second,
    ):
        assert not pipes(first) & pipes(second)
        incident_id = await at_second.opened_id()
        with pytest.raises(CallError):
            await at_first.resolve(incident_id, resolution_type="HUMAN")
        assert await first.ended() == -signal.SIGKILL
        await at_second.resolve(incident_id, resolution_type="HUMAN")


def pipes(service: ServiceProcess) -> set[str]:
    """What the process has open to write to its test with."""
    found: set[str] = set()
    for each in Path(f"/proc/{service.pid}/fd").iterdir():
        # One of its connections may be closed meanwhile.
        with suppress(FileNotFoundError):
            found.add(str(each.readlink()))
    return {target for target in found if target.startswith("pipe:")}


async def test_none_is_left_when_its_tests_were_killed() -> None:
    script = """
import asyncio, os, signal
from tests.approval.schemas import incident_database
from tests.services import RunningService

async def start() -> None:
    async with incident_database() as url:
        print(RunningService("incident", url).pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(start())
"""
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    service = int(output)

    async def is_alive() -> bool:
        return psutil.pid_exists(service)

    await eventually(is_alive, lambda alive: not alive)
