"""Imports approvals."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from approval.counters import APPROVALS, EXECUTIONS, NOOP_RESOLUTIONS
from approval.delivery.resolve_repository import count_unacknowledged
from approval.importing import repository
from approval.importing.lines import ApprovalLine
from approval.importing.rows import approval_row
from servicekit.importing import staging
from servicekit.importing.fields import wrong_fields
from servicekit.importing.lines import Problem, SourceLine
from servicekit.importing.staging import StagedRow
from servicekit.outbox.transaction import Transaction

_APPROVAL = "approval"


class ApprovalImporter:
    """The approval service's part of an import. Whether an incident exists, the incident service knows."""

    kinds = ("incident", _APPROVAL)

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those of the files."""
        self._names = names

    async def create(self, connection: AsyncConnection) -> None:
        """Create no temporary tables besides those of every import."""

    async def stage(
        self, connection: AsyncConnection, lines: Sequence[SourceLine], *, now: datetime
    ) -> Sequence[Problem]:
        """Stage the lines that are valid by themselves; returns the problems of the others."""
        problems: list[Problem] = []
        rows: list[StagedRow] = []
        for line in lines:
            if line.kind != _APPROVAL:
                continue
            try:
                approval = ApprovalLine.model_validate_json(line.text)
            except ValidationError as exc:
                problems.extend(line.problem(*each) for each in wrong_fields(exc))
                continue
            contradictions = list(approval.contradictions(now))
            problems.extend(line.problem(*each) for each in contradictions)
            if not contradictions:
                content = approval.model_dump_json(exclude_none=True)
                row = approval_row(approval)
                rows.append(StagedRow(line.file, line.number, approval.approval_id, content, row))
        await staging.stage(connection, rows)
        return problems

    async def check(self, connection: AsyncConnection) -> AsyncIterator[Problem]:
        """Yield the lines that conflict with others or with the database."""
        async for problem in staging.find_conflicts(connection, field="approval_id", names=self._names):
            yield problem
        async for problem in repository.find_taken(connection):
            yield problem

    async def write(
        self, transaction: Transaction, progress: Callable[[int, int], None]
    ) -> Mapping[str, int]:
        """Write approvals, and count them as if each had come to its state by calls. Nothing is executed or enqueued."""
        connection = transaction.connection
        new, known = await staging.keep_new(connection)
        for state, outcome, count, noop_resolutions in await repository.count_new(connection):
            transaction.count(APPROVALS, state, count)
            if outcome is not None:
                transaction.count(EXECUTIONS, outcome, count)
            if noop_resolutions:
                transaction.count(NOOP_RESOLUTIONS, amount=noop_resolutions)
        async for batch in staging.batches(connection, progress):
            await repository.insert_approvals(connection, batch)
        unacknowledged = await count_unacknowledged(connection)
        return {"new": new, "known": known, "unacknowledged": unacknowledged}
