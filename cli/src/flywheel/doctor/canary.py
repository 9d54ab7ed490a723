"""A canary goes the whole way: opened, approved as NO_ACTION, resolved by its execution, and removed.

What an earlier run has left behind, and what this one leaves when a step fails, is removed as far as that is possible.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from awoooi.approval.v1.approval_pb2 import Approval
from awoooi.client import (
    ApprovalClient,
    CallError,
    FailedPreconditionError,
    IncidentClient,
    NotFoundError,
    PermissionDeniedError,
)
from awoooi.incident.v1.incident_pb2 import Incident
from flywheel.doctor.checks import Check, CheckFailedError
from flywheel.doctor.deployment import Deployment

LABEL = "flywheel-canary"
_SOURCE = "flywheel-doctor"
_EVERY_SECONDS = 0.1
# Younger ones may be those of another run, which is at it.
_LEFT_AFTER = timedelta(minutes=10)
_OPEN = (Approval.STATE_PENDING, Approval.STATE_APPROVED)
_TIMEOUT_FACTOR = 3
_IDENTITIES = ("incident.identity", "approval.identity")


class Canary:
    """The checks; each goes on where the one before has ended."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._incident_id = ""
        self._approval_id = ""
        self.is_removed = False

    def checks(self) -> Sequence[Check]:
        """Return the checks, in the order in which they are reported."""
        return [
            Check("canary.open", self._open, _IDENTITIES),
            Check("canary.approve", self._approve, ["canary.open"]),
            Check("canary.resolve", self._resolve, ["canary.approve"], timeout_factor=_TIMEOUT_FACTOR),
            Check("canary.remove", self._remove, ["canary.resolve"], timeout_factor=_TIMEOUT_FACTOR),
        ]

    async def clear(self) -> None:
        """Remove what a failed run has left, as far as that is possible; never raises but for a cancellation."""
        if not self._incident_id or self.is_removed:
            return
        with suppress(CallError, TimeoutError, CheckFailedError):
            async with asyncio.timeout(self._deployment.timeout), self._clients() as (incidents, approvals):
                await _clear(incidents, approvals, self._incident_id)

    async def _open(self) -> str:
        async with self._clients() as (incidents, approvals):
            before = datetime.now(UTC) - _LEFT_AFTER
            left = [
                each.incident_id
                async for each in incidents.list(labels={LABEL: "true"}, create_time_end=before)
                if each.canary and each.source == _SOURCE
            ]
            for incident_id in left:
                with suppress(CallError, TimeoutError):
                    async with asyncio.timeout(self._deployment.timeout / 4):
                        await _clear(incidents, approvals, incident_id)
            try:
                created = await incidents.create(
                    title=f"flywheel doctor: a canary of {socket.gethostname()}"[:200],
                    severity="INFO",
                    labels={LABEL: "true"},
                    source=_SOURCE,
                )
            except PermissionDeniedError as exc:
                raise _needs_operator(exc) from exc
            self._incident_id = created.incident.incident_id
            if not created.incident.canary:
                raise CheckFailedError(
                    f"{self._incident_id} is not marked as a canary: the incident service is an older version",
                    f"resolve {self._incident_id} by hand, and finish the upgrade",
                )
        return f"{self._incident_id}{f'; removed {len(left)} of earlier runs' if left else ''}"

    async def _approve(self) -> str:
        async with self._clients() as (_, approvals):
            try:
                proposed = await approvals.propose(
                    self._incident_id, action="NO_ACTION: flywheel doctor", risk="LOW", auto_execute=True
                )
            except PermissionDeniedError as exc:
                raise _needs_operator(exc) from exc
            self._approval_id = proposed.approval_id
            if not proposed.incident_verified:
                raise CheckFailedError(
                    "the approval service cannot reach the incident service",
                    "check APPROVAL_INCIDENT_TARGET and APPROVAL_INCIDENT_TLS_* of the approval service, and the role"
                    " service:approval",
                )
        if proposed.state != Approval.STATE_PENDING:
            return f"{self._approval_id}, by rule {proposed.decisions[0].policy_rule}"
        deployment = self._deployment
        if deployment.token_file is not None and deployment.approver_token_file is None:
            raise CheckFailedError(
                f"{self._approval_id} waits for another caller: a proposer never approves its own proposal",
                "give the token of another caller with the role approver (--approver-token-file), or a policy rule for"
                " NO_ACTION with risk LOW",
            )
        async with deployment.channel(deployment.approval) as channel:
            try:
                await deployment.approvals(channel, approver=True).approve(
                    self._approval_id, reason="flywheel doctor"
                )
            except PermissionDeniedError as exc:
                raise CheckFailedError(
                    f"the approval is refused: {exc.message}",
                    "--approver-token-file must be of another caller than --token-file, with the role approver",
                ) from exc
        return self._approval_id

    async def _resolve(self) -> str:
        async with self._clients() as (incidents, approvals):
            state = Approval.STATE_APPROVED
            try:
                while True:
                    approval = await approvals.get(self._approval_id)
                    state = approval.state
                    incident = await incidents.get(self._incident_id)
                    if incident.state == Incident.STATE_RESOLVED and approval.HasField(
                        "incident_resolve_time"
                    ):
                        break
                    await asyncio.sleep(_EVERY_SECONDS)
            except asyncio.CancelledError:
                # The time is over: the message says what the loop waits for.
                executed = state == Approval.STATE_SUCCEEDED
                raise CheckFailedError(
                    f"{self._approval_id} is {Approval.State.Name(state).removeprefix('STATE_')}, and"
                    f" {self._incident_id} is not resolved",
                    "the approval service cannot deliver the resolve: see `ListDeliveries` and its log"
                    if executed
                    else "no worker of the approval service executes it: see `ListDeliveries` and its log",
                ) from None
        return f"{self._incident_id} by {self._approval_id}"

    async def _remove(self) -> str:
        async with self._clients() as (incidents, approvals):
            try:
                await _clear(incidents, approvals, self._incident_id)
            except asyncio.CancelledError:
                raise CheckFailedError(
                    f"{self._incident_id} cannot be removed: its postmortem is not written",
                    "no worker of the incident service runs side effects: see `ListSideEffects` and its log",
                ) from None
            with suppress(NotFoundError):
                await incidents.get(self._incident_id)
                raise CheckFailedError(
                    f"{self._incident_id} is still there", "look at the log of the incident service"
                )
        self.is_removed = True
        return self._incident_id

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[tuple[IncidentClient, ApprovalClient]]:
        deployment = self._deployment
        async with (
            deployment.channel(deployment.incident) as incident_channel,
            deployment.channel(deployment.approval) as approval_channel,
        ):
            yield deployment.incidents(incident_channel), deployment.approvals(approval_channel)


async def _clear(incidents: IncidentClient, approvals: ApprovalClient, incident_id: str) -> None:
    """Bring a canary and its approvals to their ends and remove them, from any state."""
    found = [approval async for approval in approvals.list(incident_id=incident_id)]
    for approval in found:
        if approval.state in _OPEN:
            # It may be executed at this moment.
            with suppress(FailedPreconditionError):
                await approvals.cancel(approval.approval_id, reason="flywheel doctor: the end of a canary")
    incident = await incidents.get(incident_id)
    if incident.state != Incident.STATE_RESOLVED:
        await incidents.resolve(
            incident_id, resolution_type="NO_ACTION", note="flywheel doctor: the end of a canary"
        )
    for approval in found:
        await _until_allowed(lambda approval_id=approval.approval_id: approvals.remove_canary(approval_id))  # type: ignore[misc]
    await _until_allowed(lambda: incidents.remove_canary(incident_id))


async def _until_allowed(remove: Callable[[], Awaitable[bool]]) -> None:
    """Remove as soon as the state allows it: what is delivered at this moment is waited for."""
    while True:
        try:
            await remove()
        except FailedPreconditionError:
            await asyncio.sleep(_EVERY_SECONDS)
        else:
            return


def _needs_operator(error: CallError) -> CheckFailedError:
    return CheckFailedError(
        f"{error.code.name}: {error.message}",
        "give a token with the role operator (--token-file), or leave the canary out: --no-canary",
    )
