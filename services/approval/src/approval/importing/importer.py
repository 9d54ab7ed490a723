"""Imports approvals."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from approval.importing import repository as import_repository
from approval.importing.lines import ApprovalLine
from approval.importing.rows import approval_row
from approval.lifecycle.repository import APPROVALS, EXECUTIONS, NOOP_RESOLUTIONS
from servicekit.database.counters import choose_shard, raise_counters
from servicekit.importing import staging
from servicekit.importing.fields import wrong_fields
from servicekit.importing.lines import Problem, SourceLine
from servicekit.importing.staging import StagedRow

_APPROVAL = "approval"


class ApprovalImporter:
    """What the lines of an import mean to the approval service. Whether an incident exists, the other service knows."""

    kinds = ("incident", _APPROVAL)

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those of the files."""
        self._names = names

    async def create(self, connection: AsyncConnection) -> None:
        """Make no more temporary tables than every import has."""

    async def stage(
        self, connection: AsyncConnection, lines: Sequence[SourceLine], *, now: datetime
    ) -> Sequence[Problem]:
        """Keep the lines that are good by themselves; returns what is wrong with the others."""
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
        """Yield the lines that do not go together with others or with what is in the database."""
        async for problem in staging.find_conflicts(connection, field="approval_id", names=self._names):
            yield problem
        async for problem in import_repository.find_taken(connection):
            yield problem

    async def write(
        self, connection: AsyncConnection, progress: Callable[[int, int], None]
    ) -> Mapping[str, int]:
        """Write approvals, and count them as if each had come to its state by calls. Nothing is executed or told."""
        new, known = await staging.keep_new(connection)
        amounts: Counter[tuple[str, str]] = Counter()
        for state, outcome, count, noops_told in await import_repository.count_new(connection):
            amounts[APPROVALS, state] += count
            if outcome is not None:
                amounts[EXECUTIONS, outcome] += count
            if noops_told:
                amounts[NOOP_RESOLUTIONS, ""] += noops_told
        async for batch in staging.batches(connection, progress):
            await import_repository.insert_approvals(connection, batch)
        untold = await import_repository.count_untold(connection)
        # Last of all: whoever counts in the same rows waits from here to the commit, and no longer.
        if amounts:
            await raise_counters(connection, amounts, shard=choose_shard())
        return {"new": new, "known": known, "untold": untold}
