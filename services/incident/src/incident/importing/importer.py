"""Imports incidents, and the entries of approvals on their timelines."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from incident.counters import INCIDENTS_OPENED
from incident.effects.own_database.dispositions import count_resolutions
from incident.importing import repository as import_repository
from incident.importing import timeline_repository as import_events
from incident.importing.lines import IncidentLine
from incident.importing.timeline_lines import ApprovalLine, ImportedEvent
from servicekit.importing import staging
from servicekit.importing.fields import wrong_fields
from servicekit.importing.lines import Problem, SourceLine
from servicekit.importing.staging import StagedRow
from servicekit.outbox.transaction import Transaction

_INCIDENT = "incident"


class IncidentImporter:
    """The incident service's side of an import."""

    kinds = (_INCIDENT, "approval")

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those of the files."""
        self._names = names

    async def create(self, connection: AsyncConnection) -> None:
        """Make the temporary tables."""
        await import_repository.create(connection)

    async def stage(
        self, connection: AsyncConnection, lines: Sequence[SourceLine], *, now: datetime
    ) -> Sequence[Problem]:
        """Stage the lines that are valid by themselves; returns the problems of the others."""
        problems: list[Problem] = []
        rows: list[StagedRow] = []
        named: list[str] = []
        approvals: list[tuple[int, int, str, bool]] = []
        events: list[ImportedEvent] = []
        for line in lines:
            try:
                if line.kind != _INCIDENT:
                    approval = ApprovalLine.model_validate_json(line.text)
                    acknowledged = approval.incident_resolve_time is not None
                    approvals.append((line.file, line.number, approval.incident_id, acknowledged))
                    events.extend(approval.events())
                    continue
                incident = IncidentLine.model_validate_json(line.text)
            except ValidationError as exc:
                problems.extend(line.problem(*each) for each in wrong_fields(exc))
                if line.kind == _INCIDENT:
                    named.extend(_incident_id(line))
                continue
            named.append(incident.incident_id)
            contradictions = list(incident.contradictions(now))
            problems.extend(line.problem(*each) for each in contradictions)
            if not contradictions:
                content = incident.model_dump_json(exclude_none=True)
                rows.append(StagedRow(line.file, line.number, incident.incident_id, content, incident.row()))
                events.extend(incident.events())
        await staging.stage(connection, rows)
        await import_repository.name_incidents(connection, named)
        await import_repository.stage_approvals(connection, approvals)
        await import_repository.stage_events(connection, events)
        return problems

    async def check(self, connection: AsyncConnection) -> AsyncIterator[Problem]:
        """Yield the conflicts of lines with other lines or with rows of the database."""
        async for problem in staging.find_conflicts(connection, field="incident_id", names=self._names):
            yield problem
        async for problem in import_repository.find_conflicts(connection, names=self._names):
            yield problem

    async def write(
        self, transaction: Transaction, progress: Callable[[int, int], None]
    ) -> Mapping[str, int]:
        """Write incidents and timelines, and count them as if each had been opened and resolved by an RPC."""
        connection = transaction.connection
        new, known = await staging.keep_new(connection)
        for severity, count in (await import_repository.count_opened(connection)).items():
            transaction.count(INCIDENTS_OPENED, severity, count)
        # Incidents are the first half of the work, their timelines the second.
        async for batch in staging.batches(connection, lambda done, total: progress(done, 2 * total)):
            resolutions = await import_repository.insert_incidents(connection, batch)
            for (name, label), amount in count_resolutions(resolutions).items():
                transaction.count(name, label, amount)
        events = await import_events.insert_events(
            connection, lambda done, total: progress(total + done, 2 * total)
        )
        return {"new": new, "known": known, "events": events}


def _incident_id(line: SourceLine) -> Sequence[str]:
    """Return the id in a line that is invalid otherwise."""
    incident_id = json.loads(line.text).get("incident_id")
    # Anything else would not be stored, and is no id.
    return (
        [incident_id]
        if isinstance(incident_id, str) and incident_id.isascii() and incident_id.isprintable()
        else []
    )
