"""An operator's own verifier: a package beside the service, found by its entry point, used by a running process."""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.approval.conftest import AT_REST
from tests.approval.hooks import WITHOUT_LIMITS
from tests.approval.repairs import EventType, assert_left_open, timeline_events
from tests.approval.schemas import approval_database, rows
from tests.callers import Approvals, Incidents, approvals_at
from tests.eventually import eventually
from tests.services import RunningService, ServiceProcess, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

Recovery = approval_pb2.Recovery
PLUGIN = Path(__file__).parents[2] / "verifier_plugin"
# Beside the service, as if it were installed there.
INSTALLED = {"PYTHONPATH": os.pathsep.join(filter(None, [str(PLUGIN), os.environ.get("PYTHONPATH")]))}
GONE, STILL_THERE, BROKEN = 0, 1, 3


@dataclass(frozen=True)
class Plugged:
    """An approval service with the package's verifier, and the program that this one calls."""

    approvals: Approvals
    incidents: Incidents
    database_url: str
    program: Path
    _numbers: Iterator[int]

    async def repaired(self, code: int) -> approval_pb2.Approval:
        """An operation that worked; the program answers with `code` about its incident."""
        number = next(self._numbers)
        self.program.with_name(f"code-fp-{number}").write_text(str(code))
        incident_id = await self.incidents.opened_id(fingerprint=f"fp-{number}")
        return await self.approvals.executed(incident_id, f"RESTART deployment/api-{number} -n prod")

    def calls(self, fingerprint: str) -> int:
        """How often the program was called with a fingerprint."""
        return self.program.with_name("calls").read_text().splitlines().count(fingerprint)

    async def ended(self, approval_id: str) -> approval_pb2.Approval:
        """The approval, once its recovery has ended."""
        return await eventually(
            lambda: self.approvals.get(approval_id),
            lambda found: found.recovery != Recovery.RECOVERY_PENDING,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plugged(
    incident_service: RunningService, incidents: Incidents, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Plugged]:
    folder = tmp_path_factory.mktemp("plugin")
    program = folder / "program"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\nexit $(cat "{folder}/code-$1")\n')
    program.chmod(0o755)
    variables: Mapping[str, str] = {
        "APPROVAL_INCIDENT_TARGET": incident_service.address,
        "APPROVAL_EXECUTORS": "dry-run",
        "APPROVAL_VERIFIER": "program",
        "APPROVAL_VERIFIER_INTERVAL": "100ms",
        "PROGRAM_VERIFIER_PATH": str(program),
        **INSTALLED,
        **WITHOUT_LIMITS,
        **AT_REST,
    }
    async with (
        approval_database() as url,
        healthy_service("approval", url, variables=variables) as running,
        approvals_at(running.address) as approvals,
    ):
        yield Plugged(approvals, incidents, url, program, count())


async def test_what_a_verifier_of_another_package_finds_gone_is_verified(plugged: Plugged) -> None:
    repaired = await plugged.repaired(GONE)
    found = await plugged.ended(repaired.approval_id)
    message = f"{plugged.program} ended with 0, at 2 looks in a row"
    assert (found.recovery, found.recovery_message) == (Recovery.RECOVERY_VERIFIED, message)
    await plugged.approvals.until_delivered(found.approval_id)
    incident = await plugged.incidents.get(found.incident_id)
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED
    # It got what identifies the incident, once at each look.
    assert plugged.calls(incident.fingerprint) == 2
    [event] = await timeline_events(plugged.incidents, found.incident_id, EventType.TYPE_RECOVERED)
    assert event.summary == message


@pytest.mark.parametrize(
    ("code", "message"),
    [(STILL_THERE, "{program} ended with 1"), (BROKEN, "could not be verified: {program} ended with 3")],
    ids=["still there", "cannot tell"],
)
async def test_what_it_does_not_find_gone_is_not_recovered(plugged: Plugged, code: int, message: str) -> None:
    repaired = await plugged.repaired(code)
    await rows(
        plugged.database_url,
        "UPDATE recoveries SET deadline = now() - interval '1 hour' WHERE approval_id = $1",
        repaired.approval_id,
    )
    found = await plugged.ended(repaired.approval_id)
    assert found.recovery == Recovery.RECOVERY_NOT_RECOVERED
    assert found.recovery_message == message.format(program=plugged.program)
    await assert_left_open(plugged.incidents, plugged.approvals, found)


@pytest.mark.parametrize(
    ("verifier", "reason"),
    [
        pytest.param("program", "PROGRAM_VERIFIER_PATH: required by the verifier program", id="unset"),
        pytest.param(
            "nagios",
            "APPROVAL_VERIFIER: there is no verifier 'nagios'; installed: alertmanager, program, prometheus",
            id="unknown",
        ),
    ],
)
async def test_a_verifier_that_cannot_be_loaded_prevents_the_start_with_one_line(
    verifier: str, reason: str
) -> None:
    async with approval_database() as url:
        variables = {
            "APPROVAL_LISTEN": "127.0.0.1:0",
            "APPROVAL_DATABASE_URL": url,
            "APPROVAL_VERIFIER": verifier,
            **INSTALLED,
        }
        process = ServiceProcess("approval", ["serve", "--migrate"], variables)
        assert await process.ended() != 0
    assert process.lines == [f"{reason}\n"]
