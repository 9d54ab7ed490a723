"""Whether a repair has helped: its incident is resolved when its own alert is gone, and not before."""

from collections import deque
from datetime import timedelta

import pytest

from awoooi.incident.v1 import incident_pb2
from tests.approval.integration.recovery.conftest import Recovery, Verified
from tests.approval.repairs import EventType, assert_left_open, timeline_events
from tests.approval.simulated_target import ACTIVE, GONE
from tests.callers import NO_ACTION, UNPARSABLE, State
from tests.eventually import eventually
from tests.receiver import hang_up, raw, reset, status

pytestmark = pytest.mark.asyncio(loop_scope="session")

Incident = incident_pb2.Incident


async def test_an_incident_is_resolved_when_its_alert_is_gone_after_the_repair(verified: Verified) -> None:
    before = (await verified.approvals.stats()).recoveries
    fields = verified.target.fire()
    # Until its answer was seen: it is read after the operation has ended, and the looks have begun by then.
    seen = verified.target.scripts[fields["fingerprint"]] = deque([ACTIVE] * 10_000)
    incident_id = await verified.incidents.opened_id(**fields)

    approval = await verified.repaired(helps=True, incident_id=incident_id)

    assert (approval.state, approval.recovery) == (State.STATE_SUCCEEDED, Recovery.RECOVERY_PENDING)
    assert approval.recovery_deadline.ToDatetime() - approval.finish_time.ToDatetime() == timedelta(hours=1)
    seen.clear()
    found = await verified.until(approval.approval_id, Recovery.RECOVERY_VERIFIED)
    assert found.recovery_message.endswith("is not active in Alertmanager, at 2 looks in a row")
    assert found.etag != approval.etag
    await verified.approvals.until_delivered(approval.approval_id)
    incident = await verified.incidents.get(approval.incident_id)
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED
    executed, recovered, resolved = await timeline_events(
        verified.incidents,
        approval.incident_id,
        EventType.TYPE_EXECUTED,
        EventType.TYPE_RECOVERED,
        EventType.TYPE_RESOLVED,
    )
    assert recovered.attributes["approval_id"] == approval.approval_id
    assert recovered.event_time == found.recovery_time
    assert executed.event_time.ToDatetime() < recovered.event_time.ToDatetime()
    assert recovered.event_time.ToDatetime() < resolved.event_time.ToDatetime()
    postmortem = await eventually(
        lambda: _postmortem(verified, approval.incident_id), lambda found: found is not None
    )
    assert "the alert was gone after it" in (postmortem or "")
    after = (await verified.approvals.stats()).recoveries
    assert after.verified - before.verified == 1
    assert after.samples - before.samples == 1


async def _postmortem(verified: Verified, incident_id: str) -> str | None:
    effects = [each async for each in verified.incidents.list_side_effects(incident_id=incident_id)]
    done = [each for each in effects if each.effect == incident_pb2.SideEffect.EFFECT_POSTMORTEM]
    if not done or done[0].state != incident_pb2.SideEffect.STATE_DONE:
        return None
    return (await verified.incidents.get_postmortem(incident_id)).markdown


async def test_an_incident_whose_alert_is_not_gone_stays_open(verified: Verified) -> None:
    approval = await verified.repaired(helps=False)
    fingerprint = (await verified.incidents.get(approval.incident_id)).fingerprint
    await verified.target.looked(fingerprint, 2)
    assert (await verified.approvals.get(approval.approval_id)).recovery == Recovery.RECOVERY_PENDING
    await assert_left_open(verified.incidents, verified.approvals, approval)

    await verified.end_window(approval.approval_id)

    found = await verified.until(approval.approval_id, Recovery.RECOVERY_NOT_RECOVERED)
    assert found.state == State.STATE_SUCCEEDED
    assert found.recovery_message == f"the alert {fingerprint} is active in Alertmanager"
    [event] = await timeline_events(verified.incidents, approval.incident_id, EventType.TYPE_NOT_RECOVERED)
    assert (event.summary, event.event_time) == (found.recovery_message, found.recovery_time)
    # Not by the reconciler either.
    assert approval.approval_id not in (await verified.approvals.reconcile()).approval_ids
    await assert_left_open(verified.incidents, verified.approvals, approval)
    assert await _listed(verified, Recovery.RECOVERY_NOT_RECOVERED) >= {approval.approval_id}
    assert approval.approval_id not in await _listed(verified, Recovery.RECOVERY_VERIFIED)


async def _listed(verified: Verified, recovery: Recovery.ValueType) -> set[str]:
    return {each.approval_id async for each in verified.approvals.list(recoveries=[recovery])}


async def test_a_next_proposal_may_repair_what_the_first_one_did_not(verified: Verified) -> None:
    first = await verified.repaired(helps=False)
    await verified.end_window(first.approval_id)
    await verified.until(first.approval_id, Recovery.RECOVERY_NOT_RECOVERED)

    second = await verified.repaired(helps=True, incident_id=first.incident_id)

    await verified.until(second.approval_id, Recovery.RECOVERY_VERIFIED)
    await verified.approvals.until_delivered(second.approval_id)
    [resolved] = await timeline_events(verified.incidents, first.incident_id, EventType.TYPE_RESOLVED)
    assert resolved.attributes["approval_id"] == second.approval_id


@pytest.mark.parametrize(
    ("found", "looks"),
    [
        pytest.param([GONE, ACTIVE, GONE], 4, id="gone once, then twice"),
        pytest.param([ACTIVE, GONE, ACTIVE, GONE, ACTIVE], 7, id="flapping"),
    ],
)
async def test_an_alert_must_be_gone_at_looks_in_a_row(
    verified: Verified, found: list[bool], looks: int
) -> None:
    fields = verified.target.fire()
    fingerprint = fields["fingerprint"]
    verified.target.scripts[fingerprint] = deque(found)
    incident_id = await verified.incidents.opened_id(**fields)

    approval = await verified.repaired(helps=True, incident_id=incident_id)

    await verified.until(approval.approval_id, Recovery.RECOVERY_VERIFIED)
    assert verified.target.looks[fingerprint] == looks


async def test_a_flapping_alert_is_never_resolved(verified: Verified) -> None:
    fields = verified.target.fire()
    verified.target.scripts[fields["fingerprint"]] = deque([GONE, ACTIVE] * 1_000)
    approval = await verified.repaired(helps=False, incident_id=await verified.incidents.opened_id(**fields))
    await verified.target.looked(fields["fingerprint"], 6)

    await verified.end_window(approval.approval_id)

    await verified.until(approval.approval_id, Recovery.RECOVERY_NOT_RECOVERED)
    await assert_left_open(verified.incidents, verified.approvals, approval)


async def test_an_alert_that_comes_back_between_two_looks_begins_anew(verified: Verified) -> None:
    fields = verified.target.fire()
    fingerprint = fields["fingerprint"]
    incident_id = await verified.incidents.opened_id(**fields)
    approval = await verified.repaired(helps=False, incident_id=incident_id)
    # Each look finds it gone, and before the next one it has been reported again.
    for _ in range(3):
        verified.target.scripts[fingerprint] = deque([GONE])
        await verified.target.looked(fingerprint, 1)
        await verified.incidents.report(fingerprint=fingerprint)

    assert (await verified.approvals.get(approval.approval_id)).recovery == Recovery.RECOVERY_PENDING


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        pytest.param(status(503), "answered 503", id="unavailable"),
        pytest.param(status(401), "answered 401", id="without permission"),
        pytest.param(
            status(302, headers={"Location": "http://127.0.0.1:1/api/v2/alerts"}),
            "answered 302; redirects are not followed",
            id="elsewhere",
        ),
        pytest.param(status(200, body=b"<html>"), "the answer is not JSON", id="no JSON"),
        pytest.param(status(200, body=b"{}"), "the answer is not a list of alerts", id="no list"),
        pytest.param(status(200, body=b"[[]]"), "the answer is not a list of alerts", id="no alerts"),
        pytest.param(status(200, body=b"[" * 10_000), "the answer is not JSON", id="deep"),
        pytest.param(hang_up, "the connection failed: RemoteProtocolError", id="hung up"),
        pytest.param(reset, "the connection failed: ReadError", id="reset"),
        pytest.param(raw(b"nonsense\r\n\r\n"), "the connection failed: RemoteProtocolError", id="no HTTP"),
    ],
)
async def test_a_verifier_that_does_not_answer_has_not_found_the_alert_gone(
    verified: Verified, failure: object, reason: str
) -> None:
    verified.target.failure = failure  # type: ignore[assignment]
    approval = await verified.repaired(helps=True)
    await verified.end_window(approval.approval_id)

    found = await verified.until(approval.approval_id, Recovery.RECOVERY_NOT_RECOVERED)

    assert found.recovery_message == f"could not be verified: {reason}"
    await assert_left_open(verified.incidents, verified.approvals, approval)


async def test_looks_that_cannot_tell_do_not_count(verified: Verified) -> None:
    verified.target.failure = status(500)
    approval = await verified.repaired(helps=True)
    fingerprint = (await verified.incidents.get(approval.incident_id)).fingerprint
    await verified.target.looked(fingerprint, 3)
    assert (await verified.approvals.get(approval.approval_id)).recovery == Recovery.RECOVERY_PENDING

    verified.target.failure = None

    await verified.until(approval.approval_id, Recovery.RECOVERY_VERIFIED)


async def test_a_silenced_alert_is_not_gone(verified: Verified) -> None:
    approval = await verified.repaired(helps=False)
    fingerprint = (await verified.incidents.get(approval.incident_id)).fingerprint
    verified.target.silenced.add(fingerprint)
    await verified.target.looked(fingerprint, 3)
    await verified.end_window(approval.approval_id)

    found = await verified.until(approval.approval_id, Recovery.RECOVERY_NOT_RECOVERED)

    assert found.recovery_message == f"the alert {fingerprint} is suppressed in Alertmanager"


async def test_an_alertmanager_that_was_just_started_cannot_tell(verified: Verified) -> None:
    verified.target.up_for = timedelta(seconds=90)
    approval = await verified.repaired(helps=True)
    await verified.end_window(approval.approval_id)

    found = await verified.until(approval.approval_id, Recovery.RECOVERY_NOT_RECOVERED)

    assert found.recovery_message == "could not be verified: it has run for less than 120 s"


@pytest.mark.parametrize("hours", [-5, 5])
async def test_the_clock_of_alertmanager_may_be_another(verified: Verified, hours: int) -> None:
    verified.target.clock_ahead = timedelta(hours=hours)

    helpful = await verified.repaired(helps=True)
    useless = await verified.repaired(helps=False)

    await verified.until(helpful.approval_id, Recovery.RECOVERY_VERIFIED)
    assert (await verified.approvals.get(useless.approval_id)).recovery == Recovery.RECOVERY_PENDING


async def test_without_an_alert_of_its_own_an_incident_cannot_be_verified(verified: Verified) -> None:
    fields = [{}, {"fingerprint": "disk full on db-1", "source": "alertmanager"}, {"fingerprint": "0" * 16}]
    approvals = [
        await verified.repaired(helps=False, incident_id=await verified.incidents.opened_id(**each))
        for each in fields
    ]
    for approval in approvals:
        await verified.end_window(approval.approval_id)

        found = await verified.until(approval.approval_id, Recovery.RECOVERY_NOT_RECOVERED)

        assert found.recovery_message == (
            "could not be verified: the incident has no fingerprint of an alert of Alertmanager"
        )


async def test_what_is_no_repair_that_worked_needs_no_verification(verified: Verified) -> None:
    observed = await verified.approvals.executed(await verified.opened(), NO_ACTION)
    unparsable = await verified.approvals.executed(await verified.opened(), UNPARSABLE)
    failed = await verified.approvals.executed(await verified.opened(), "HTTP POST no-such-hook")

    for approval in (observed, unparsable, failed):
        assert approval.recovery == Recovery.RECOVERY_UNSPECIFIED
        assert not approval.HasField("recovery_time")
        assert not approval.HasField("recovery_deadline")
    await verified.approvals.until_delivered(observed.approval_id)


@pytest.mark.parametrize("resolution_type", ["HUMAN", "EXPIRED_ALERT"])
async def test_an_incident_that_was_resolved_meanwhile_stays_as_it_was_resolved(
    verified: Verified, resolution_type: str
) -> None:
    approval = await verified.repaired(helps=False)
    await verified.incidents.resolve(approval.incident_id, resolution_type=resolution_type)  # type: ignore[arg-type]
    fingerprint = (await verified.incidents.get(approval.incident_id)).fingerprint

    verified.target.active.discard(fingerprint)

    await verified.until(approval.approval_id, Recovery.RECOVERY_VERIFIED)
    await verified.approvals.until_delivered(approval.approval_id)
    incident = await verified.incidents.get(approval.incident_id)
    assert incident.resolution_number == 1
    assert incident.resolution_type == incident_pb2.ResolutionType.Value(f"RESOLUTION_TYPE_{resolution_type}")


async def test_an_incident_that_was_reopened_meanwhile_stays_open(verified: Verified) -> None:
    approval = await verified.repaired(helps=False)
    await verified.incidents.resolve(approval.incident_id, resolution_type="HUMAN")
    await verified.incidents.reopen(approval.incident_id, reason="it is back")
    fingerprint = (await verified.incidents.get(approval.incident_id)).fingerprint

    verified.target.active.discard(fingerprint)

    await verified.until(approval.approval_id, Recovery.RECOVERY_VERIFIED)
    await verified.approvals.until_delivered(approval.approval_id)
    assert (await verified.incidents.get(approval.incident_id)).state == Incident.STATE_OPEN


async def test_of_two_operations_for_one_incident_the_later_one_is_verified(verified: Verified) -> None:
    first = await verified.repaired(helps=False)

    second = await verified.repaired(helps=True, incident_id=first.incident_id)

    ended = await verified.until(first.approval_id, Recovery.RECOVERY_NOT_RECOVERED)
    assert second.approval_id in ended.recovery_message
    await verified.until(second.approval_id, Recovery.RECOVERY_VERIFIED)
    await verified.approvals.until_delivered(second.approval_id)
    [resolved] = await timeline_events(verified.incidents, first.incident_id, EventType.TYPE_RESOLVED)
    assert resolved.attributes["approval_id"] == second.approval_id
