"""The cool-down and the limit within an hour: beyond them no hook is called."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from tests.approval.hooks import Hooked, hook_variables, hooked_service
from tests.approval.repairs import (
    EventType,
    Repairs,
    assert_left_open,
    logged,
    repairs,
    timeline_events,
)
from tests.approval.schemas import approval_database, past_triggers
from tests.callers import RESTART, Incidents, State
from tests.receiver import Held, Receiver, receiver, status
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Longer than any test takes: time passes by the rows' own clock, not by waiting.
LIMITS = {"APPROVAL_COOLDOWN": "10m", "APPROVAL_OPERATIONS_PER_HOUR": "3"}


@asynccontextmanager
async def _limited(
    incident_address: str, hooks: Receiver, variables: Mapping[str, str]
) -> AsyncIterator[Hooked]:
    async with (
        approval_database() as url,
        hooked_service(
            url, hooks, {"APPROVAL_INCIDENT_TARGET": incident_address, **LIMITS, **variables}
        ) as found,
    ):
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited(
    incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hooked]:
    async with receiver() as hooks:
        variables = hook_variables(tmp_path_factory.mktemp("limited"), hooks)
        async with _limited(incident_service.address, hooks, variables) as found:
            yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other_process(
    limited: Hooked, incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hooked]:
    variables = {
        "APPROVAL_INCIDENT_TARGET": incident_service.address,
        **LIMITS,
        **hook_variables(tmp_path_factory.mktemp("other"), limited.receiver),
    }
    async with hooked_service(limited.service.database_url, limited.receiver, variables) as found:
        yield found


async def _executed(limited: Hooked, incidents: Incidents, action: str) -> approval_pb2.Approval:
    return await limited.approvals.executed(await incidents.opened_id(), action)


async def _pass(limited: Hooked, approval: approval_pb2.Approval, time: str) -> None:
    """Let time pass for the target of an approval."""
    await past_triggers(
        limited.service.database_url,
        "UPDATE auto_repair_executions SET start_time = start_time - $2::text::interval,"
        " finish_time = finish_time - $2::text::interval"
        " WHERE target = (SELECT target FROM approvals WHERE approval_id = $1)",
        approval.approval_id,
        time,
    )


def _is_cooling_down(approval: approval_pb2.Approval) -> bool:
    return approval.state == State.STATE_FAILED and approval.outcome_message.startswith(
        "cool-down: the target was operated on "
    )


async def test_a_second_operation_within_the_cool_down_fails_before_anything_runs(
    limited: Hooked, incidents: Incidents
) -> None:
    action = limited.new_action()
    first = await _executed(limited, incidents, action)
    assert first.state == State.STATE_SUCCEEDED
    before = await repairs(limited.approvals)

    incident_id = await incidents.opened_id()
    second = await limited.approvals.executed(incident_id, action)
    assert _is_cooling_down(second)
    assert not limited.requests_for(second.approval_id)
    assert not await logged(limited.approvals, second.approval_id)
    # It failed, and was no repair that could have worked.
    assert await repairs(limited.approvals) - before == Repairs(
        samples=0, successes=0, succeeded=0, failed=1, indeterminate=0
    )
    [event] = await timeline_events(incidents, incident_id, EventType.TYPE_EXECUTION_FAILED)
    assert event.summary == second.outcome_message
    await assert_left_open(incidents, limited.approvals, second)
    # Final, like any outcome.
    await _pass(limited, first, "1 hour")
    again = await limited.approvals.execute(second.approval_id)
    assert again.already_executed
    assert again.approval == second
    assert not limited.requests_for(second.approval_id)


async def test_the_cool_down_applies_to_queued_executions(limited: Hooked, incidents: Incidents) -> None:
    action = limited.new_action()
    await _executed(limited, incidents, action)
    incident_id = await incidents.opened_id()
    second = await limited.approvals.approved(incident_id, action, auto_execute=True)
    await timeline_events(incidents, incident_id, EventType.TYPE_EXECUTION_FAILED)
    assert _is_cooling_down(await limited.approvals.get(second.approval_id))
    assert not limited.requests_for(second.approval_id)


async def test_a_failed_operation_starts_the_cool_down_too(limited: Hooked, incidents: Incidents) -> None:
    action = limited.new_action()
    limited.receiver.answers.append(status(500))
    assert (await _executed(limited, incidents, action)).outcome_message.endswith("answered 500")
    assert _is_cooling_down(await _executed(limited, incidents, action))


async def test_an_operation_within_the_cool_down_does_not_extend_it(
    limited: Hooked, incidents: Incidents
) -> None:
    action = limited.new_action()
    first = await _executed(limited, incidents, action)
    await _pass(limited, first, "9 minutes 30 seconds")
    assert _is_cooling_down(await _executed(limited, incidents, action))
    await _pass(limited, first, "30 seconds")
    assert (await _executed(limited, incidents, action)).state == State.STATE_SUCCEEDED


async def test_another_target_is_not_affected(limited: Hooked, incidents: Incidents) -> None:
    await _executed(limited, incidents, limited.new_action())
    assert (await _executed(limited, incidents, limited.new_action())).state == State.STATE_SUCCEEDED


async def test_after_the_cool_down_operations_run_until_the_limit_of_the_hour(
    limited: Hooked, incidents: Incidents
) -> None:
    action = limited.new_action()
    for _ in range(3):
        done = await _executed(limited, incidents, action)
        assert done.state == State.STATE_SUCCEEDED
        await _pass(limited, done, "11 minutes")
    # 33, 22 and 11 minutes ago.
    fourth = await _executed(limited, incidents, action)
    assert fourth.state == State.STATE_FAILED
    assert fourth.outcome_message == "limit: the target was operated on 3 times within the last hour"
    assert not limited.requests_for(fourth.approval_id)
    await _pass(limited, fourth, "30 minutes")
    assert (await _executed(limited, incidents, action)).state == State.STATE_SUCCEEDED


async def test_concurrent_operations_of_two_processes_on_one_target_run_once(
    limited: Hooked, other_process: Hooked, incidents: Incidents
) -> None:
    for _ in range(20):
        action = limited.new_action()
        held = Held(status(200))
        limited.receiver.answers.append(held)
        ids = [
            (await limited.approvals.approved(await incidents.opened_id(), action)).approval_id
            for _ in range(2)
        ]
        calls = [
            asyncio.create_task(process.approvals.execute(approval_id))
            for process, approval_id in zip((limited, other_process), ids, strict=True)
        ]
        # The one that may not run it fails at once, while the other one's hook still holds the request.
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        [refused] = done
        assert refused.result().approval.state == State.STATE_FAILED
        assert refused.result().approval.outcome_message == "another operation on the same target is running"
        held.release.set()
        [ran] = await asyncio.gather(*waiting)
        assert ran.approval.state == State.STATE_SUCCEEDED
        called = Counter(request.headers["idempotency-key"] for request in limited.receiver.requests)
        assert [called[approval_id] for approval_id in ids] == [
            int(approval_id == ran.approval.approval_id) for approval_id in ids
        ]


async def test_limits_count_every_kind_of_operation_on_an_object_and_none_on_its_namesakes(
    incident_service: RunningService, incidents: Incidents
) -> None:
    async with (
        receiver() as hooks,
        _limited(incident_service.address, hooks, {"APPROVAL_EXECUTORS": "dry-run"}) as dry,
    ):
        assert (await _executed(dry, incidents, RESTART)).state == State.STATE_SUCCEEDED
        for action in ("SCALE Deployment/api --replicas=3 -n prod", "ROLLBACK deployment/api -n prod"):
            assert _is_cooling_down(await _executed(dry, incidents, action))
        for action in (
            "RESTART deployment/api -n test",
            "RESTART statefulset/api -n prod",
            "RESTART deployment/web -n prod",
        ):
            assert (await _executed(dry, incidents, action)).state == State.STATE_SUCCEEDED


async def test_without_a_cool_down_and_within_the_limit_operations_follow_each_other(
    incident_service: RunningService, incidents: Incidents, tmp_path: Path
) -> None:
    async with receiver() as hooks:
        variables = {**hook_variables(tmp_path, hooks), "APPROVAL_COOLDOWN": "0s"}
        async with _limited(incident_service.address, hooks, variables) as quick:
            action = quick.new_action()
            found = [await _executed(quick, incidents, action) for _ in range(4)]
    assert [each.state for each in found] == [State.STATE_SUCCEEDED] * 3 + [State.STATE_FAILED]
    assert len(hooks.requests) == 3
