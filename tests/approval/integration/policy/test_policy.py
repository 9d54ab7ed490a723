"""Approval by rule in a running service, and how it is turned off."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.incident.v1 import incident_pb2
from tests.approval.callers import NO_ACTION, Approvals, Incidents, State, approvals_at
from tests.approval.conftest import AT_REST
from tests.approval.fronted import CHECK_TIMEOUT
from tests.approval.schemas import approval_database, rows
from tests.approval.scripted_incidents import (
    Context,
    Forward,
    ScriptedIncidents,
    pass_on,
    scripted_incidents,
)
from tests.eventually import eventually
from tests.services import RunningService, ServiceProcess, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

POLICY = """
[rules.observe]
actions = ["NO_ACTION"]
risks = ["LOW"]

[rules.repair-staging]
actions = ["RESTART"]
risks = ["LOW"]
namespaces = ["staging"]
severities = ["LOW"]
confidence_at_least = 0.9
"""
# One rule, for what POLICY leaves to people.
OTHER_POLICY = '[rules.other]\nactions = ["NO_ACTION"]\nrisks = ["CRITICAL"]\n'
STAGING = "RESTART deployment/web -n staging"
UNKNOWN = "INC-20200101-00000000DEAD"
PENDING, APPROVED, SUCCEEDED = State.STATE_PENDING, State.STATE_APPROVED, State.STATE_SUCCEEDED


@dataclass(frozen=True)
class Ruled:
    """An approval service with rules, and the files that they and their switch are in."""

    approvals: Approvals
    service: RunningService
    policy_file: Path
    switch_file: Path
    front: ScriptedIncidents


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ruled_service(
    incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ruled]:
    folder = tmp_path_factory.mktemp("policy")
    policy_file, switch_file = folder / "policy.toml", folder / "auto-approve"
    policy_file.write_text(POLICY)
    switch_file.write_text("on\n")
    async with scripted_incidents(incident_service.address) as front, approval_database() as url:
        variables = {
            "APPROVAL_INCIDENT_TARGET": front.address,
            "APPROVAL_INCIDENT_CHECK_TIMEOUT": f"{CHECK_TIMEOUT.total_seconds()}s",
            "APPROVAL_POLICY_FILE": str(policy_file),
            "APPROVAL_AUTO_APPROVE_FILE": str(switch_file),
            "APPROVAL_EXECUTORS": "dry-run",
            "APPROVAL_COOLDOWN": "0s",
            "APPROVAL_OPERATIONS_PER_HOUR": "1000",
            **AT_REST,
        }
        async with (
            healthy_service("approval", url, variables=variables) as running,
            approvals_at(running.address) as found,
        ):
            yield Ruled(found, running, policy_file, switch_file, front)


@pytest_asyncio.fixture(loop_scope="session")
async def ruled(ruled_service: Ruled) -> AsyncIterator[Ruled]:
    """The same with its rules on, whatever the test before did to the files."""
    try:
        yield ruled_service
    finally:
        if ruled_service.switch_file.is_dir():
            ruled_service.switch_file.rmdir()
        ruled_service.switch_file.write_text("on\n")
        ruled_service.policy_file.write_text(POLICY)
        ruled_service.front.behaviour = pass_on
        await ruled_service.front.start()


async def test_a_no_action_that_a_rule_approves_resolves_its_incident(
    ruled: Ruled, incidents: Incidents
) -> None:
    incident_id = await incidents.opened()
    proposed = await ruled.approvals.propose(incident_id, actor="ai", auto_execute=True)
    (decision,) = proposed.decisions
    assert decision.actor == "policy:observe"
    assert decision.policy_rule == "observe"
    assert decision.kind == approval_pb2.Decision.KIND_APPROVE
    assert decision.reason == "approved by policy rule observe"

    delivered = await ruled.approvals.until_delivered(proposed.approval_id)
    assert delivered.state == SUCCEEDED
    assert list(delivered.decisions) == [decision]
    incident = await incidents.get(incident_id)
    assert incident.state == incident_pb2.Incident.STATE_RESOLVED
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_NO_ACTION
    await ruled.service.logged(
        "approval_approved_by_policy",
        approval_id=proposed.approval_id,
        incident_id=incident_id,
        rule="observe",
    )


async def test_the_incidents_timeline_tells_which_rule_it_was(ruled: Ruled, incidents: Incidents) -> None:
    incident_id = await incidents.opened()
    approval = await ruled.approvals.propose(incident_id, actor="ai")
    told = (incident_pb2.IncidentEvent.TYPE_PROPOSED, incident_pb2.IncidentEvent.TYPE_APPROVED)
    events = await eventually(
        lambda: incidents.events(incident_id, *told), lambda found: len(found) == len(told)
    )
    proposed, approved = sorted(events, key=lambda event: event.type)
    assert proposed.attributes == {"approval_id": approval.approval_id, "proposed_by": "ai"}
    assert approved.summary == "approved by policy rule observe"
    assert approved.attributes == {
        "approval_id": approval.approval_id,
        "approved_by": "policy:observe",
        "policy_rule": "observe",
    }


async def test_decision_and_execution_are_committed_with_the_proposal(
    ruled: Ruled, incidents: Incidents
) -> None:
    approval = await ruled.approvals.propose(await incidents.opened(), auto_execute=True)
    # now() is one time for all that a transaction writes.
    assert approval.decisions[0].decide_time == approval.create_time
    assert approval.decide_time == approval.create_time
    written = await rows(
        ruled.service.database_url,
        """
        SELECT topic, create_time = (SELECT create_time FROM approvals WHERE approval_id = $1) FROM outbox
        WHERE payload ->> 'approval_id' = $1 AND topic = 'approval.execute'
        """,
        approval.approval_id,
    )
    assert written == [("approval.execute", True)]


async def test_an_operation_that_a_rule_approves_is_run(ruled: Ruled, incidents: Incidents) -> None:
    incident_id = await incidents.opened(severity=incident_pb2.SEVERITY_LOW)
    approval = await ruled.approvals.propose(incident_id, STAGING, confidence=0.9, auto_execute=True)
    assert approval.decisions[0].policy_rule == "repair-staging"
    delivered = await ruled.approvals.until_delivered(approval.approval_id)
    assert delivered.state == SUCCEEDED
    incident = await incidents.get(incident_id)
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED


async def test_what_is_not_to_be_executed_by_itself_waits_approved(
    ruled: Ruled, incidents: Incidents
) -> None:
    approval = await ruled.approvals.propose(await incidents.opened(), auto_execute=False)
    assert approval.state == APPROVED
    answer = await ruled.approvals.execute(approval.approval_id, etag=approval.etag)
    assert answer.approval.state == SUCCEEDED
    assert not answer.already_executed


NO_RULE: dict[str, dict[str, Any]] = {
    "risk": {"risk": approval_pb2.RISK_MEDIUM},
    "unparsable": {"action": "look at it"},
    "several approvers": {"required_approvals": 2},
    "namespace": {"action": "RESTART deployment/web -n prod", "confidence": 1.0},
    "confidence": {"action": STAGING, "confidence": 0.89},
    "no confidence": {"action": STAGING},
    "action": {"action": "DELETE pod/web-1 -n staging", "confidence": 1.0},
}


@pytest.mark.parametrize("proposal", NO_RULE.values(), ids=NO_RULE)
async def test_what_no_rule_fits_waits_for_people(
    ruled: Ruled, incidents: Incidents, proposal: dict[str, Any]
) -> None:
    incident_id = await incidents.opened(severity=incident_pb2.SEVERITY_LOW)
    approval = await ruled.approvals.propose(incident_id, auto_execute=True, **proposal)
    assert approval.state == PENDING
    assert not approval.decisions
    assert await ruled.approvals.get(approval.approval_id) == approval


@pytest.mark.parametrize("severity", incident_pb2.Severity.values()[1:], ids=incident_pb2.Severity.Name)
async def test_the_severity_that_counts_is_the_incidents(
    ruled: Ruled, incidents: Incidents, severity: incident_pb2.Severity.ValueType
) -> None:
    approval = await ruled.approvals.propose(
        await incidents.opened(severity=severity), STAGING, confidence=1.0
    )
    assert approval.state == (APPROVED if severity == incident_pb2.SEVERITY_LOW else PENDING)


async def test_a_caller_that_goes_by_a_rules_name_is_no_rule(ruled: Ruled, incidents: Incidents) -> None:
    approval = await ruled.approvals.propose(await incidents.opened(), required_approvals=2)
    decided = await ruled.approvals.approve(approval.approval_id, actor="policy:observe")
    assert decided.state == PENDING
    assert [decision.policy_rule for decision in decided.decisions] == [""]


async def test_while_the_incident_service_is_away_only_observing_is_approved(ruled: Ruled) -> None:
    await ruled.front.stop()
    observed = await ruled.approvals.propose(UNKNOWN)
    assert observed.state == APPROVED
    assert not observed.incident_verified
    repaired = await ruled.approvals.propose(UNKNOWN, STAGING, confidence=1.0)
    assert repaired.state == PENDING
    # Its own severity would fit; nobody knows it now.
    ruled.policy_file.write_text(f'{POLICY.partition("[rules.repair")[0]}severities = ["HIGH"]\n')
    assert (await ruled.approvals.propose(UNKNOWN)).state == PENDING


async def test_a_retry_gets_the_record_whatever_the_rules_say_by_then(
    ruled: Ruled, incidents: Incidents
) -> None:
    incident_id = await incidents.opened()
    first = await ruled.approvals.propose(incident_id, request_id="once")
    assert first.state == APPROVED
    ruled.switch_file.write_text("off\n")
    assert await ruled.approvals.propose(incident_id, request_id="once") == first
    waiting = await ruled.approvals.propose(incident_id, request_id="twice")
    assert waiting.state == PENDING
    ruled.switch_file.write_text("on\n")
    assert await ruled.approvals.propose(incident_id, request_id="twice") == waiting


async def test_calls_with_one_request_id_are_approved_once(ruled: Ruled, incidents: Incidents) -> None:
    incident_id = await incidents.opened()
    found = await asyncio.gather(
        *(ruled.approvals.propose(incident_id, request_id="together") for _ in range(20))
    )
    assert len({approval.approval_id for approval in found}) == 1
    assert len(found[0].decisions) == 1


async def test_rules_and_people_at_once_do_not_hold_each_other_up(ruled: Ruled, incidents: Incidents) -> None:
    incident_id = await incidents.opened()
    waiting = [await ruled.approvals.propose(incident_id, risk=approval_pb2.RISK_HIGH) for _ in range(40)]
    before = await _counts(ruled.approvals)
    await asyncio.gather(
        *(ruled.approvals.propose(incident_id) for _ in waiting),
        *(ruled.approvals.approve(approval.approval_id) for approval in waiting),
    )
    after = await _counts(ruled.approvals)
    assert after[APPROVED] - before[APPROVED] == 2 * len(waiting)
    assert after[PENDING] - before[PENDING] == -len(waiting)


async def _counts(approvals: Approvals) -> dict[int, int]:
    figures = await approvals.figures()
    return {entry.state: entry.count for entry in figures.approvals.approvals}


def _says(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


NOT_ON = "APPROVAL_AUTO_APPROVE_FILE does not say on"
SWITCH_FILE = "APPROVAL_AUTO_APPROVE_FILE: {path}"
SWITCHED_OFF: dict[str, tuple[Callable[[Path], object], str]] = {
    "off": (_says(b"off\n"), NOT_ON),
    "OFF": (_says(b"OFF"), NOT_ON),
    "true": (_says(b"true\n"), NOT_ON),
    "empty": (_says(b""), NOT_ON),
    "a word": (_says(b"stop\n"), NOT_ON),
    "on and more": (_says(b"on\noff\n"), NOT_ON),
    "no text": (_says(b"\xff\xfe"), f"{SWITCH_FILE}: it is not UTF-8 text"),
    "gone": (Path.unlink, f"{SWITCH_FILE}: there is no such file"),
    "a folder": (_folder, f"{SWITCH_FILE}: it is a folder"),
}


@pytest.mark.parametrize(("switch_off", "reason"), SWITCHED_OFF.values(), ids=SWITCHED_OFF)
async def test_the_switch_counts_from_the_next_proposal_on(
    ruled: Ruled, incidents: Incidents, switch_off: Callable[[Path], object], reason: str
) -> None:
    incident_id = await incidents.opened()
    assert (await ruled.approvals.propose(incident_id)).state == APPROVED
    told = len(ruled.service.events("auto_approval_off"))

    switch_off(ruled.switch_file)
    for _ in range(3):
        assert (await ruled.approvals.propose(incident_id)).state == PENDING
    await eventually(
        lambda: asyncio.to_thread(ruled.service.events, "auto_approval_off"),
        lambda found: len(found) > told,
    )
    # Once, not for each proposal.
    (line,) = ruled.service.events("auto_approval_off")[told:]
    assert (line["level"], line["reason"]) == ("warning", reason.format(path=ruled.switch_file))

    if ruled.switch_file.is_dir():
        ruled.switch_file.rmdir()
    ruled.switch_file.write_text("on\n")
    assert (await ruled.approvals.propose(incident_id)).state == APPROVED


async def test_a_switch_that_is_thrown_while_the_incident_is_looked_at_counts(
    ruled: Ruled, incidents: Incidents
) -> None:
    incident_id = await incidents.opened()

    async def throw(forward: Forward, context: Context) -> Any:
        ruled.switch_file.write_text("off\n")
        return await pass_on(forward, context)

    ruled.front.behaviour = throw
    assert (await ruled.approvals.propose(incident_id)).state == PENDING


async def test_a_person_may_approve_while_the_switch_is_off(ruled: Ruled, incidents: Incidents) -> None:
    ruled.switch_file.write_text("off\n")
    approval = await ruled.approvals.propose(await incidents.opened(), auto_execute=True)
    await ruled.approvals.approve(approval.approval_id)
    delivered = await ruled.approvals.until_delivered(approval.approval_id)
    assert [decision.policy_rule for decision in delivered.decisions] == [""]


async def test_a_changed_policy_counts_from_the_next_proposal_on(ruled: Ruled, incidents: Incidents) -> None:
    incident_id = await incidents.opened()
    critical: dict[str, Any] = {"risk": approval_pb2.RISK_CRITICAL}
    assert (await ruled.approvals.propose(incident_id, **critical)).state == PENDING
    ruled.policy_file.write_text(OTHER_POLICY)
    assert (await ruled.approvals.propose(incident_id, **critical)).decisions[0].policy_rule == "other"
    assert (await ruled.approvals.propose(incident_id)).state == PENDING
    await ruled.service.logged("auto_approval_on", rules=["other"])


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a key misspelt": (
        lambda path: path.write_text(POLICY.replace('["LOW"]\n\n', '["LOW"]\nseverites = ["LOW"]\n\n')),
        "rules.observe.severites: unknown key; did you mean severities?",
    ),
    "not TOML": (
        lambda path: path.write_text(f"{POLICY}[rules."),
        "is not TOML: Invalid initial character for a key part (at end of document)",
    ),
    "gone": (Path.unlink, "there is no such file"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "problem"), BREAKS.values(), ids=BREAKS)
async def test_a_policy_that_breaks_approves_nothing_until_it_is_mended(
    ruled: Ruled, incidents: Incidents, damage: Callable[[Path], object], problem: str
) -> None:
    incident_id = await incidents.opened()
    assert (await ruled.approvals.propose(incident_id)).state == APPROVED
    damage(ruled.policy_file)
    assert (await ruled.approvals.propose(incident_id)).state == PENDING
    await ruled.service.logged("auto_approval_off", reason=f"{ruled.policy_file}: {problem}")
    ruled.policy_file.write_text(POLICY)
    assert (await ruled.approvals.propose(incident_id)).state == APPROVED


async def test_a_service_without_a_policy_approves_nothing(
    approvals: Approvals, incidents: Incidents
) -> None:
    approval = await approvals.propose(await incidents.opened(), auto_execute=True)
    assert approval.state == PENDING
    await approvals.cancel(approval.approval_id)


@pytest.mark.parametrize("content", [POLICY, "not a policy", None], ids=["good", "broken", "missing"])
async def test_off_by_the_variable_is_off_and_starts_whatever_the_files_say(
    incident_service: RunningService, incidents: Incidents, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "policy.toml").write_text(content)
    (tmp_path / "auto-approve").write_text("on")
    variables = {
        "APPROVAL_INCIDENT_TARGET": incident_service.address,
        "APPROVAL_POLICY_FILE": str(tmp_path / "policy.toml"),
        "APPROVAL_AUTO_APPROVE": "off",
        "APPROVAL_AUTO_APPROVE_FILE": str(tmp_path / "auto-approve"),
    }
    async with (
        approval_database() as url,
        healthy_service("approval", url, variables=variables) as running,
        approvals_at(running.address) as found,
    ):
        await running.logged("auto_approval_off", reason="APPROVAL_AUTO_APPROVE is off")
        assert (await found.propose(await incidents.opened(), NO_ACTION)).state == PENDING


async def test_a_policy_that_cannot_be_used_stops_the_start_and_names_every_mistake(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[rules.a]\nactions = ["NO_ACTION"]\nrisk = ["LOW"]\n')
    # The policy is read before the database is asked for.
    variables = {
        "APPROVAL_LISTEN": "127.0.0.1:0",
        "APPROVAL_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "APPROVAL_POLICY_FILE": str(path),
    }
    process = ServiceProcess("approval", ["serve"], variables)
    assert await process.ended() == 2
    assert process.lines == [
        f"APPROVAL_POLICY_FILE: {path}: rules.a.risks: is required\n",
        f"APPROVAL_POLICY_FILE: {path}: rules.a.risk: unknown key; did you mean risks?\n",
    ]
