"""An operator's own executor: a package beside the service, found by its entry point, used by a running process."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from tests.approval.conftest import AT_REST
from tests.approval.hooks import WITHOUT_LIMITS
from tests.approval.repairs import EventType, assert_left_open, logged, timeline_events, until_ended
from tests.approval.schemas import approval_database
from tests.callers import RESTART, Approvals, Incidents, State, approvals_at
from tests.services import RunningService, ServiceProcess, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLUGIN = Path(__file__).parents[2] / "executor_plugin"
ROLLBACK = "ROLLBACK deployment/web -n shop"


@dataclass(frozen=True)
class Plugged:
    """An approval service with the package's executor, and the program that it calls."""

    approvals: Approvals
    program: Path

    def calls(self) -> list[str]:
        """The arguments of the program, a line for each call."""
        path = self.program.with_name("calls")
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that records its arguments and exits with the code in the file `code`."""
    folder = tmp_path_factory.mktemp("plugin")
    path = folder / "program"
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\nexit $(cat {folder}/code)\n')
    path.chmod(0o755)
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plugged_service(incident_service: RunningService, program: Path) -> AsyncIterator[Plugged]:
    variables = {
        "APPROVAL_INCIDENT_TARGET": incident_service.address,
        "APPROVAL_EXECUTORS": "program",
        "PROGRAM_EXECUTOR_PATH": str(program),
        # Beside the service, as if it were installed there.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PLUGIN), os.environ.get("PYTHONPATH")])),
        **WITHOUT_LIMITS,
        **AT_REST,
    }
    async with (
        approval_database() as url,
        healthy_service("approval", url, variables=variables) as running,
        approvals_at(running.address) as approvals,
    ):
        yield Plugged(approvals, program)


@pytest.fixture
def plugged(plugged_service: Plugged) -> Plugged:
    """The same with a program that succeeds and was not called yet."""
    plugged_service.program.with_name("code").write_text("0")
    plugged_service.program.with_name("calls").unlink(missing_ok=True)
    return plugged_service


async def test_an_executor_of_another_package_runs_operations(plugged: Plugged, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    approval = await plugged.approvals.approved(incident_id, ROLLBACK, auto_execute=True)
    done = await plugged.approvals.until_delivered(approval.approval_id)
    assert (done.state, done.outcome_message) == (State.STATE_SUCCEEDED, f"{plugged.program} has done it")
    assert plugged.calls() == [f"{ROLLBACK} {approval.approval_id}"]
    [row] = await logged(plugged.approvals, approval.approval_id)
    assert (row.executor, row.succeeded, row.output) == ("program", True, done.outcome_message)
    assert (await incidents.get(incident_id)).resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED
    [event] = await timeline_events(incidents, incident_id, EventType.TYPE_EXECUTED)
    assert event.attributes["executor"] == "program"


async def test_its_failure_is_on_record(plugged: Plugged, incidents: Incidents) -> None:
    plugged.program.with_name("code").write_text("3")
    approval = await plugged.approvals.approved(await incidents.opened_id(), ROLLBACK, auto_execute=True)
    failed = await until_ended(plugged.approvals, approval.approval_id)
    assert (failed.state, failed.outcome_message) == (State.STATE_FAILED, f"{plugged.program} ended with 3")
    [row] = await logged(plugged.approvals, approval.approval_id)
    assert (row.executor, row.succeeded, row.error) == ("program", False, failed.outcome_message)
    await assert_left_open(incidents, plugged.approvals, failed)
    assert len(plugged.calls()) == 1


async def test_its_plan_is_shown_and_nothing_is_called(plugged: Plugged, incidents: Incidents) -> None:
    approval = await plugged.approvals.approved(await incidents.opened_id(), ROLLBACK)
    plan = (await plugged.approvals.execute(approval.approval_id, validate_only=True)).plan
    assert plan.operation == approval.operation
    assert [(check.name, check.passed, check.message) for check in plan.checks[-2:]] == [
        ("executor_present", True, "program"),
        ("program_exists", True, str(plugged.program)),
    ]
    assert plugged.calls() == []
    assert await plugged.approvals.get(approval.approval_id) == approval


async def test_a_plan_of_another_package_reports_a_failed_check(
    plugged: Plugged, incidents: Incidents
) -> None:
    approval = await plugged.approvals.approved(await incidents.opened_id(), ROLLBACK)
    away = plugged.program.rename(plugged.program.with_name("away"))
    try:
        plan = (await plugged.approvals.execute(approval.approval_id, validate_only=True)).plan
    finally:
        away.rename(plugged.program)
    assert [check.name for check in plan.checks if not check.passed] == ["program_exists"]


async def test_an_operation_of_another_kind_waits_for_its_executor(
    plugged: Plugged, incidents: Incidents
) -> None:
    approval = await plugged.approvals.approved(await incidents.opened_id(), RESTART, auto_execute=True)
    plan = (await plugged.approvals.execute(approval.approval_id, validate_only=True)).plan
    assert [(check.name, check.message) for check in plan.checks if not check.passed] == [
        ("executor_present", "no executor runs RESTART")
    ]
    assert (await plugged.approvals.get(approval.approval_id)).state == State.STATE_APPROVED
    assert plugged.calls() == []


@pytest.mark.parametrize(
    ("executors", "reason"),
    [
        pytest.param("program", "PROGRAM_EXECUTOR_PATH: required by the executor program", id="unset"),
        pytest.param(
            "dry-run,nomad",
            "APPROVAL_EXECUTORS: there is no executor 'nomad'; installed: dry-run, http, kubernetes, program",
            id="unknown",
        ),
    ],
)
async def test_an_executor_that_cannot_be_loaded_prevents_the_start_with_one_line(
    executors: str, reason: str
) -> None:
    async with approval_database() as url:
        variables = {
            "APPROVAL_LISTEN": "127.0.0.1:0",
            "APPROVAL_DATABASE_URL": url,
            "APPROVAL_EXECUTORS": executors,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PLUGIN), os.environ.get("PYTHONPATH")])),
        }
        process = ServiceProcess("approval", ["serve", "--migrate"], variables)
        assert await process.ended() != 0
    assert process.lines == [f"{reason}\n"]
