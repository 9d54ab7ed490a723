"""The incidents that are resolved: made in bulk by SQL, and counted afterwards."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from benchmarks.errors import BenchmarkError

RESOLVE_PATH = "/awoooi.incident.v1.IncidentService/Resolve"
NOTE = "NO_ACTION: observe first. CPU is back below its threshold, no user was hit."

# An id's digits from its number: scattered like random ones, known on both sides without a list.
# `:n` is pgbench's variable; in a statement of ours it is replaced.
ID_DIGITS_SQL = "upper(left(md5(:n::text), 12))"

# As after Create and StartInvestigation, timelines included: forty kinds of problems, so that what is learnt repeats. No
# fingerprints: of those, only one incident at a time may be unresolved.
_INSERT = """
WITH numbers AS (
    SELECT 'INC-' || $2 || '-' || {digits} AS incident_id,
        (ARRAY['CPU', 'Memory', 'Disk', 'Latency', 'Errors'])[1 + n % 5] AS what,
        (ARRAY['api', 'worker', 'checkout', 'search', 'billing', 'login', 'gateway', 'mailer'])[1 + n % 8] AS app,
        (ARRAY['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'])[1 + n % 4] AS severity
    FROM generate_series(0, $1::int - 1) AS n
), opened AS (
    INSERT INTO incidents (
        incident_id, title, description, severity, state, fingerprint, labels, source, create_time, open_time,
        update_time, investigate_time, last_progress_time, opened_by, version, content_hash)
    SELECT incident_id, what || ' of ' || app || ' beyond its threshold for 10 minutes',
        'The pod has used more than its share since the alert began to fire. Requests are still answered in time; the '
        'autoscaler has not reacted. Dashboard: pods by node, last 24 hours.',
        severity, 'INVESTIGATING', '',
        jsonb_build_object('namespace', 'prod', 'app', app, 'alertname', what || 'High', 'team', 'payments'),
        'alertmanager', now() - interval '10 min', now() - interval '10 min', now() - interval '9 min',
        now() - interval '9 min', now() - interval '9 min', 'service:alert-receiver', 2, md5(incident_id)
    FROM numbers
)
INSERT INTO incident_events (event_id, incident_id, type, actor, event_time, summary, resolution_number)
SELECT gen_random_uuid()::text, incident_id, type, 'service:alert-receiver', now() - before, summary, 0
FROM numbers CROSS JOIN (VALUES
    ('OPENED', interval '10 min', 'beyond its threshold for 10 minutes'), ('INVESTIGATION_STARTED', interval '9 min', '')
) AS event (type, before, summary)
"""

# Without jobs: their effects are done and the done jobs removed.
_RESOLVE_ALL = """
WITH resolved AS (
    UPDATE incidents SET
        state = 'RESOLVED', resolution_type = 'NO_ACTION', resolution_note = $1, resolved_by = 'anonymous',
        resolution_number = 1, resolve_time = now(), update_time = now(), last_progress_time = now(), version = 3
    RETURNING incident_id
)
INSERT INTO incident_events (event_id, incident_id, type, actor, summary, attributes, resolution_number)
SELECT gen_random_uuid()::text, incident_id, 'RESOLVED', 'anonymous', $1, '{"resolution_type": "NO_ACTION"}', 1
FROM resolved
"""

_TRUNCATE = "TRUNCATE incidents, outbox, counters, knowledge CASCADE"

_IS_PENDING = "SELECT EXISTS (SELECT FROM outbox WHERE state = 'PENDING')"
_COUNT = """
SELECT
    (SELECT count(*) FROM incidents WHERE state = 'RESOLVED') AS resolved,
    (SELECT coalesce(sum(version), 0) FROM incidents) AS versions,
    (SELECT count(*) FROM incident_events WHERE type = 'RESOLVED') AS events,
    (SELECT count(*) FROM outbox) AS jobs
"""

# A channel of the benchmark's own: it depends on no notification channel of the service.
_CHANNEL = "benchmark_resolved"
_NOTIFY = (
    f"""
    CREATE OR REPLACE FUNCTION {_CHANNEL}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('{_CHANNEL}', NEW.incident_id);
        RETURN NULL;
    END $$
    """,
    f"""
    CREATE TRIGGER {_CHANNEL} AFTER INSERT ON incident_events
    FOR EACH ROW WHEN (NEW.type = 'RESOLVED') EXECUTE FUNCTION {_CHANNEL}()
    """,
)
_NOTIFY_NO_MORE = f"DROP TRIGGER {_CHANNEL} ON incident_events"

_AUDITED = "SELECT count(*) FROM audit_records WHERE operation LIKE '%/Resolve' AND outcome = 'CHANGED'"


@dataclass(frozen=True, slots=True)
class Counts:
    """What the database holds. `versions` grows with every change of any incident."""

    resolved: int
    versions: int
    events: int
    jobs: int


class Incidents:
    """Incidents by number, in one database."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._day = datetime.now(UTC).strftime("%Y%m%d")

    async def investigating(self, amount: int) -> None:
        """Empty the tables and put incidents 0 to `amount` - 1 into them, all INVESTIGATING."""
        await self._connection.execute(_TRUNCATE)
        statement = _INSERT.format(digits=ID_DIGITS_SQL.replace(":n", "n"))
        await self._connection.execute(statement, amount, self._day)
        await self._settle()

    async def resolved(self, amount: int) -> None:
        """Empty the tables and put incidents 0 to `amount` - 1 into them, RESOLVED long ago."""
        await self.investigating(amount)
        await self._connection.execute(_RESOLVE_ALL, NOTE)
        await self._settle()

    async def _settle(self) -> None:
        """Make statistics and visibility those of a database that has run for a while: no such work in the turns."""
        await self._connection.execute("VACUUM ANALYZE")

    def id(self, number: int) -> str:
        """Return an incident's id."""
        digits = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()[:12].upper()
        return f"INC-{self._day}-{digits}"

    @property
    def id_sql(self) -> str:
        """The SQL expression of the id of incident `:n`."""
        return f"'INC-{self._day}-' || {ID_DIGITS_SQL}"

    def requests(self, numbers: Sequence[int]) -> Sequence[bytes]:
        """Return the serialized requests that resolve these incidents."""
        return [
            pb.ResolveRequest(
                incident_id=self.id(number),
                resolution_type=incident_pb2.RESOLUTION_TYPE_NO_ACTION,
                note=NOTE,
            ).SerializeToString()
            for number in numbers
        ]

    async def effects_pending(self) -> bool:
        """Return whether any effect is still to be done."""
        return bool(await self._connection.fetchval(_IS_PENDING))

    async def counts(self) -> Counts:
        """Count what is there now."""
        row = await self._connection.fetchrow(_COUNT)
        assert row is not None
        return Counts(**row)

    async def expect(self, *, resolved: int, jobs_each: int) -> None:
        """Raises BenchmarkError unless so many incidents are RESOLVED, once each, with one event and all their jobs."""
        found = await self.counts()
        if (found.resolved, found.events, found.jobs) != (resolved, resolved, resolved * jobs_each):
            raise BenchmarkError(
                f"{resolved} incidents were resolved, and the database holds {found.resolved} that are, "
                f"{found.events} events and {found.jobs} jobs of them"
            )

    @asynccontextmanager
    async def notifying(self, see: Callable[[str], None]) -> AsyncIterator[None]:
        """Call `see` with the id of each incident that is RESOLVED, when it is committed."""

        def heard(_connection: object, _pid: int, _channel: str, incident_id: object) -> None:
            see(str(incident_id))

        for statement in _NOTIFY:
            await self._connection.execute(statement)
        await self._connection.add_listener(_CHANNEL, heard)
        try:
            yield
        finally:
            await self._connection.remove_listener(_CHANNEL, heard)
            await self._connection.execute(_NOTIFY_NO_MORE)

    async def expect_resolved_once(self, amount: int) -> None:
        """Raises BenchmarkError unless so many incidents are RESOLVED, with one event each."""
        found = await self.counts()
        if (found.resolved, found.events) != (amount, amount):
            raise BenchmarkError(
                f"{amount} incidents should be RESOLVED once; {found.resolved} are, by {found.events} events"
            )

    async def expect_audited(self, calls: int) -> None:
        """Raises BenchmarkError unless the audit trail has a record of so many Resolves."""
        found = await self._connection.fetchval(_AUDITED)
        if found != calls:
            raise BenchmarkError(f"the audit trail has {found} Resolves and not {calls}")
