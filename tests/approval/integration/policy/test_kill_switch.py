"""Auto-approval fails closed: the kill switch, and a policy file that cannot be used."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from awoooi.approval.v1 import approval_pb2
from tests.approval.integration.policy.ruled import APPROVED, OTHER_POLICY, PENDING, POLICY, Ruled
from tests.approval.schemas import approval_database
from tests.approval.scripted_incidents import Context, Forward, pass_on
from tests.callers import NO_ACTION, Approvals, Incidents, approvals_at
from tests.eventually import eventually
from tests.services import RunningService, ServiceProcess, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


NOT_ON = "APPROVAL_AUTO_APPROVE_FILE does not say on"
SWITCH_FILE = "APPROVAL_AUTO_APPROVE_FILE: {path}"
SWITCHED_OFF: dict[str, tuple[Callable[[Path], object], str]] = {
    "off": (_write(b"off\n"), NOT_ON),
    "OFF": (_write(b"OFF"), NOT_ON),
    "true": (_write(b"true\n"), NOT_ON),
    "empty": (_write(b""), NOT_ON),
    "a word": (_write(b"stop\n"), NOT_ON),
    "on and more": (_write(b"on\noff\n"), NOT_ON),
    "no text": (_write(b"\xff\xfe"), f"{SWITCH_FILE}: it is not UTF-8 text"),
    "gone": (Path.unlink, f"{SWITCH_FILE}: there is no such file"),
    "a folder": (_folder, f"{SWITCH_FILE}: it is a folder"),
}


@pytest.mark.parametrize(("switch_off", "reason"), SWITCHED_OFF.values(), ids=SWITCHED_OFF)
async def test_the_kill_switch_applies_from_the_next_proposal(
    ruled: Ruled, incidents: Incidents, switch_off: Callable[[Path], object], reason: str
) -> None:
    incident_id = await incidents.opened_id()
    assert (await ruled.approvals.proposed(incident_id)).state == APPROVED
    logged = len(ruled.service.events("auto_approval_off"))

    switch_off(ruled.switch_file)
    for _ in range(3):
        assert (await ruled.approvals.proposed(incident_id)).state == PENDING
    await eventually(
        lambda: asyncio.to_thread(ruled.service.events, "auto_approval_off"),
        lambda found: len(found) > logged,
    )
    # Once, not for each proposal.
    (line,) = ruled.service.events("auto_approval_off")[logged:]
    assert (line["level"], line["reason"]) == ("warning", reason.format(path=ruled.switch_file))

    if ruled.switch_file.is_dir():
        ruled.switch_file.rmdir()
    ruled.switch_file.write_text("on\n")
    assert (await ruled.approvals.proposed(incident_id)).state == APPROVED


async def test_a_kill_switch_used_during_the_look_up_of_the_incident_applies(
    ruled: Ruled, incidents: Incidents
) -> None:
    incident_id = await incidents.opened_id()

    async def throw(forward: Forward, context: Context) -> Any:
        ruled.switch_file.write_text("off\n")
        return await pass_on(forward, context)

    ruled.front.behaviour = throw
    assert (await ruled.approvals.proposed(incident_id)).state == PENDING


async def test_a_person_may_approve_while_auto_approval_is_disabled(
    ruled: Ruled, incidents: Incidents
) -> None:
    ruled.switch_file.write_text("off\n")
    approval = await ruled.approvals.proposed(await incidents.opened_id(), auto_execute=True)
    await ruled.approvals.approve(approval.approval_id)
    delivered = await ruled.approvals.until_delivered(approval.approval_id)
    assert [decision.policy_rule for decision in delivered.decisions] == [""]


async def test_a_changed_policy_applies_from_the_next_proposal(ruled: Ruled, incidents: Incidents) -> None:
    incident_id = await incidents.opened_id()
    critical: dict[str, Any] = {"risk": approval_pb2.RISK_CRITICAL}
    assert (await ruled.approvals.proposed(incident_id, **critical)).state == PENDING
    ruled.policy_file.write_text(OTHER_POLICY)
    assert (await ruled.approvals.proposed(incident_id, **critical)).decisions[0].policy_rule == "other"
    assert (await ruled.approvals.proposed(incident_id)).state == PENDING
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
async def test_a_broken_policy_approves_nothing_until_it_is_repaired(
    ruled: Ruled, incidents: Incidents, damage: Callable[[Path], object], problem: str
) -> None:
    incident_id = await incidents.opened_id()
    assert (await ruled.approvals.proposed(incident_id)).state == APPROVED
    damage(ruled.policy_file)
    assert (await ruled.approvals.proposed(incident_id)).state == PENDING
    await ruled.service.logged("auto_approval_off", reason=f"{ruled.policy_file}: {problem}")
    ruled.policy_file.write_text(POLICY)
    assert (await ruled.approvals.proposed(incident_id)).state == APPROVED


async def test_a_service_without_a_policy_approves_nothing(
    approvals: Approvals, incidents: Incidents
) -> None:
    approval = await approvals.proposed(await incidents.opened_id(), auto_execute=True)
    assert approval.state == PENDING
    await approvals.cancel(approval.approval_id)


@pytest.mark.parametrize("content", [POLICY, "not a policy", None], ids=["good", "broken", "missing"])
async def test_disabled_by_the_variable_no_file_is_read(
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
        assert (await found.proposed(await incidents.opened_id(), NO_ACTION)).state == PENDING


async def test_a_policy_that_cannot_be_used_stops_the_start_and_names_every_mistake(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[rules.a]\nactions = ["NO_ACTION"]\nrisk = ["LOW"]\n')
    # The policy is read before the database is connected to.
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
