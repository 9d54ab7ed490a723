"""An HTTP action from the proposal to the resolved incident: a real service, a real hook."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from awoooi.incident.v1 import incident_pb2
from tests.approval.hooks import WITHOUT_LIMITS, Hooked, hook_variables, hooked_service, is_signed
from tests.approval.repairs import (
    EventType,
    Repairs,
    assert_left_open,
    logged,
    repairs,
    timeline_events,
    until_ended,
)
from tests.approval.schemas import approval_database
from tests.callers import Incidents, State
from tests.receiver import Answer, Held, hang_up, receiver, reset, status
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The timeout of a hook that never responds.
HOOK_TIMEOUT = "1500ms"


async def test_a_hook_that_answers_2xx_repairs_and_resolves_the_incident(
    hooked: Hooked, incidents: Incidents
) -> None:
    approvals, action = hooked.approvals, hooked.new_action()
    before = await repairs(approvals)
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id, action, auto_execute=True)
    approval_id = approval.approval_id

    done = await approvals.until_delivered(approval_id)
    assert done.state == State.STATE_SUCCEEDED
    assert done.outcome_message == f"the hook {approval.operation.hook} answered 204"
    [request] = hooked.requests_for(approval_id)
    assert (request.method, request.target) == ("POST", f"/{approval.operation.hook}")
    assert is_signed(request)
    assert request.content["approval_id"] == approval_id
    assert request.content["incident_id"] == incident_id
    assert request.content["action"] == action

    [row] = await logged(approvals, approval_id)
    assert (row.approval_id, row.incident_id) == (approval_id, incident_id)
    assert row.operation == approval.operation
    assert (row.succeeded, row.output, row.error) == (True, done.outcome_message, "")
    assert row.executor == "http"
    assert (row.start_time, row.finish_time) == (done.execute_time, done.finish_time)
    assert await repairs(approvals) - before == Repairs(
        samples=1, successes=1, succeeded=1, failed=0, indeterminate=0
    )

    incident = await incidents.get(incident_id)
    assert incident.state == incident_pb2.Incident.STATE_RESOLVED
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED
    assert incident.resolved_by == "service:approval"
    _, _, executed, resolved = await timeline_events(
        incidents,
        incident_id,
        EventType.TYPE_PROPOSED,
        EventType.TYPE_APPROVED,
        EventType.TYPE_EXECUTED,
        EventType.TYPE_RESOLVED,
    )
    assert (executed.attributes["approval_id"], executed.attributes["executor"]) == (approval_id, "http")
    assert executed.summary == resolved.attributes["action"] == action
    await hooked.service.logged(
        "incident_resolved_after_auto_repair_execution",
        approval_id=approval_id,
        incident_id=incident_id,
        path="auto_repair",
    )


@pytest.mark.parametrize("code", [200, 201, 202, 299])
async def test_every_2xx_is_a_success(hooked: Hooked, incidents: Incidents, code: int) -> None:
    hooked.receiver.answers.append(status(code))
    done = await hooked.approvals.executed(await incidents.opened_id(), hooked.new_action())
    assert done.state == State.STATE_SUCCEEDED
    assert done.outcome_message.endswith(f" answered {code}")


# How a hook fails, and the message.
FAILURES: dict[str, tuple[Answer | None, str]] = {
    "400": (status(400, body=b"private-detail"), "the hook {hook} answered 400"),
    "500": (status(500, body=b"private-detail"), "the hook {hook} answered 500"),
    "redirect": (
        status(302, headers={"Location": "/elsewhere"}),
        "the hook {hook} answered 302; redirects are not followed",
    ),
    "hangs_until_the_deadline": (None, "the hook {hook} did not answer within 1.5 s: it may have happened"),
    "reset": (reset, "the connection to the hook {hook} failed, ReadError: it may have happened"),
    "hung_up": (
        hang_up,
        "the connection to the hook {hook} failed, RemoteProtocolError: it may have happened",
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def impatient(
    incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hooked]:
    """A service whose hooks have a short timeout."""
    async with approval_database() as url, receiver() as hooks:
        variables = {
            "APPROVAL_INCIDENT_TARGET": incident_service.address,
            **hook_variables(tmp_path_factory.mktemp("impatient"), hooks, timeout=HOOK_TIMEOUT),
            **WITHOUT_LIMITS,
        }
        async with hooked_service(url, hooks, variables) as found:
            yield found


@pytest.mark.parametrize(("answer", "message"), FAILURES.values(), ids=FAILURES)
async def test_a_failing_hook_is_called_once_and_leaves_the_incident_open(
    hooked: Hooked, impatient: Hooked, incidents: Incidents, answer: Answer | None, message: str
) -> None:
    # Only the case of the timeout has a short one.
    used = impatient if answer is None else hooked
    held = Held(status(200))
    used.receiver.answers.append(answer or held)
    before = await repairs(used.approvals)
    incident_id = await incidents.opened_id()
    approval = await used.approvals.approved(incident_id, used.new_action(), auto_execute=True)

    failed = await until_ended(used.approvals, approval.approval_id)
    held.release.set()
    assert failed.state == State.STATE_FAILED
    assert failed.outcome_message == message.format(hook=approval.operation.hook)
    [row] = await logged(used.approvals, approval.approval_id)
    assert (row.succeeded, row.output, row.error) == (False, "", failed.outcome_message)
    assert (row.executor, row.operation) == ("http", approval.operation)
    assert (row.start_time, row.finish_time) == (failed.execute_time, failed.finish_time)
    assert await repairs(used.approvals) - before == Repairs(
        samples=1, successes=0, succeeded=0, failed=1, indeterminate=0
    )
    [event] = await timeline_events(incidents, incident_id, EventType.TYPE_EXECUTION_FAILED)
    assert event.attributes["approval_id"] == approval.approval_id
    assert event.attributes["executor"] == "http"
    assert event.summary == failed.outcome_message
    await assert_left_open(incidents, used.approvals, failed)

    again = await used.approvals.execute(approval.approval_id, resume_indeterminate=True)
    assert again.already_executed
    assert again.approval == failed
    assert len(used.requests_for(approval.approval_id)) == 1


async def test_a_plan_names_the_hook_and_does_not_call_it(hooked: Hooked, incidents: Incidents) -> None:
    approval = await hooked.approvals.approved(await incidents.opened_id(), hooked.new_action())
    answer = await hooked.approvals.execute(approval.approval_id, validate_only=True)
    assert answer.approval == approval
    assert answer.plan.operation == approval.operation
    assert [(check.name, check.message) for check in answer.plan.checks[-3:]] == [
        ("executor_present", "http"),
        ("hook_configured", f"the hook {approval.operation.hook} has 60 s to answer"),
        ("secret_readable", "requests can be signed"),
    ]
    assert all(check.passed for check in answer.plan.checks)
    assert not hooked.requests_for(approval.approval_id)
    assert await hooked.approvals.get(approval.approval_id) == approval


async def test_a_hook_that_is_not_configured_fails_when_it_is_executed_and_in_the_plan(
    hooked: Hooked, incidents: Incidents
) -> None:
    approval = await hooked.approvals.approved(await incidents.opened_id(), "HTTP POST another")
    plan = (await hooked.approvals.execute(approval.approval_id, validate_only=True)).plan
    assert [(check.name, check.message) for check in plan.checks if not check.passed] == [
        ("hook_configured", "no hook another is configured")
    ]
    failed = (await hooked.approvals.execute(approval.approval_id)).approval
    assert (failed.state, failed.outcome_message) == (State.STATE_FAILED, "no hook another is configured")
