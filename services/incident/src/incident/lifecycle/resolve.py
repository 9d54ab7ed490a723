"""Resolve and BatchResolve: idempotent, and one statement for all commands that wait."""

from collections.abc import Mapping, Sequence

import structlog

from incident.errors import IncidentChangedError, IncidentNotFoundError
from incident.lifecycle import resolve_repository
from incident.lifecycle.model import RemovedIncident, ResolveCommand, ResolveOutcome, ResolveResult
from incident.lifecycle.resolve_repository import ResolvedBatch
from incident.model import Effect, State
from servicekit.audit.model import Call
from servicekit.database.group_commit import GroupCommit
from servicekit.outbox.transaction import Transactions
from servicekit.process.failpoints import failpoint

_log = structlog.get_logger()

# Incidents resolved by one statement of a batch: large enough to share a commit, small enough to hold locks briefly.
_BATCH_CHUNK = 200


class ResolveUseCase:
    """Resolves incidents and enqueues the side effects of each."""

    def __init__(self, transactions: Transactions, *, effects: Mapping[Effect, str | None]) -> None:
        """`effects` are enqueued by each resolution; one with a reason is inserted SKIPPED, for that reason."""
        self._transactions = transactions
        self._outbox = transactions.outbox
        self._effects = effects
        self._enabled = [effect.topic for effect, skip_reason in effects.items() if skip_reason is None]
        self._group_commit = GroupCommit(self._resolve_group)

    async def resolve(self, command: ResolveCommand, *, call: Call) -> ResolveResult:
        """Resolve an incident, in a group commit with concurrent calls. Idempotent: a RESOLVED one is returned as it is.

        So is one that has left the opening which the command is for. One that retention has removed was RESOLVED.

        Raises IncidentNotFoundError; IncidentChangedError when it is unresolved and `etag` is given and stale.
        """
        try:
            result = await self._group_commit((command, call))
        except IncidentNotFoundError as exc:
            _log_outcome(command, exc)
            raise
        _log_outcome(command, result)
        return result

    async def batch_resolve(
        self, commands: Sequence[ResolveCommand], *, call: Call
    ) -> Sequence[ResolveOutcome]:
        """Resolve each of `commands` as `resolve` does; returns the outcome of each, in order."""
        outcomes: list[ResolveOutcome] = []
        for start in range(0, len(commands), _BATCH_CHUNK):
            chunk = commands[start : start + _BATCH_CHUNK]
            try:
                outcomes.extend(await self._resolve_together(chunk, [call] * len(chunk)))
            except Exception as exc:
                # The chunks before are committed, and their results are owed to the caller.
                outcomes.extend([exc] * len(chunk))
        for command, outcome in zip(commands, outcomes, strict=True):
            _log_outcome(command, outcome)
        return outcomes

    async def _resolve_group(self, group: Sequence[tuple[ResolveCommand, Call]]) -> Sequence[ResolveOutcome]:
        return await self._resolve_together([command for command, _ in group], [call for _, call in group])

    async def _resolve_together(
        self, commands: Sequence[ResolveCommand], calls: Sequence[Call]
    ) -> Sequence[ResolveOutcome]:
        outcomes: list[ResolveOutcome | None] = [None] * len(commands)
        # Of several commands for one incident the first goes first; the others find it RESOLVED.
        waiting = list(range(len(commands)))
        previous: list[int] = []
        while waiting:
            turn: dict[str, int] = {}
            for index in waiting:
                turn.setdefault(commands[index].incident_id, index)
            first = list(turn.values())
            # Side effects start at once in this process when its worker has room; otherwise any process claims them.
            lease = self._outbox.lease_for(dict.fromkeys(self._enabled, len(first)))
            failpoint("resolve_before_statement")
            with self._transactions.chains.take() as chain:
                async with self._transactions.statement() as connection:
                    batch = await resolve_repository.resolve(
                        connection,
                        [commands[index] for index in first],
                        [calls[index] for index in first],
                        self._effects,
                        lease=lease,
                        chain=chain,
                    )
            failpoint("resolve_after_commit")
            if batch.jobs:
                self._outbox.dispatch(batch.jobs)
            elif batch.resolved:
                self._outbox.wake()
            for index in first:
                calls[index].recorded |= commands[index].incident_id in batch.resolved
                outcomes[index] = _outcome(
                    batch, commands[index].incident_id, is_second_try=index in previous
                )
            # Unresolved, and not resolved by this batch: changed while the statement waited for its lock, or a stale etag.
            # The next statement has a newer snapshot and decides.
            previous = [index for index in first if outcomes[index] is None]
            waiting = [index for index in waiting if outcomes[index] is None]
        return [outcome for outcome in outcomes if outcome is not None]


def _outcome(batch: ResolvedBatch, incident_id: str, *, is_second_try: bool) -> ResolveOutcome | None:
    """Return the outcome of a command for this incident; None when the next statement decides."""
    if incident_id in batch.resolved:
        return ResolveResult(batch.resolved[incident_id], already_resolved=False)
    if incident_id in batch.removed:
        return ResolveResult(batch.removed[incident_id], already_resolved=True)
    if incident_id not in batch.others:
        return IncidentNotFoundError(incident_id)
    incident = batch.others[incident_id]
    if incident.state is State.RESOLVED or incident_id in batch.over:
        return ResolveResult(incident, already_resolved=True)
    return IncidentChangedError(incident_id) if is_second_try else None


def _log_outcome(command: ResolveCommand, outcome: ResolveOutcome) -> None:
    facts = {
        "incident_id": command.incident_id,
        "approval_id": command.approval_id,
        "actor": command.actor,
        "path": command.resolution_type.lower(),
    }
    if isinstance(outcome, IncidentNotFoundError):
        _log.warning("incident_not_found_for_resolve", **facts)
    elif isinstance(outcome, ResolveResult) and outcome.already_resolved:
        incident = outcome.incident
        since = ""
        if isinstance(incident, RemovedIncident):
            since = "removed_since"
        elif incident.state is not State.RESOLVED:
            since = "reopened_since"
        _log.info("incident_resolve_skipped_already_resolved", **facts, **({since: True} if since else {}))
