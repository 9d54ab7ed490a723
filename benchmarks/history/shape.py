"""How much history there is, and how it is distributed: the same for both databases, computed from an incident's number.

Everything is a function of the number, so that two fills with the same shape differ in their times alone. A tenth of the
incidents belongs to the last 24 hours. One of a hundred of these is unresolved, in a small history one of twenty. Few problems
and few targets have most of them. An incident's story says what was proposed and how it ended:

| story | share | approvals | resolution |
|---|---|---|---|
| NOOP | 15 % | NO_ACTION, SUCCEEDED | NO_ACTION |
| REPAIRED | 45 % | a repair that SUCCEEDED | AUTO_REPAIRED |
| RETRIED | 30 % | a repair that FAILED or did not help, then one that did | AUTO_REPAIRED |
| REJECTED, EXPIRED | 5 % each | one | HUMAN |
| NEW, PENDING, APPROVED, FAILED | the unresolved ones | none, or one in that state | none |

So there are 1.3 approvals and 1.05 repairs for each incident.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Shape:
    """`until` is the present; `batch` incidents are written in one transaction."""

    incidents: int
    until: datetime
    batch: int = 20_000
    days: int = 180

    @property
    def recent(self) -> int:
        """How many belong to the last 24 hours: the last ones."""
        return max(self.incidents // 10, 1)

    @property
    def unresolved_step(self) -> int:
        """Of how many recent incidents one is unresolved."""
        return max(min(self.recent // 20, 100), 1)

    @property
    def problems(self) -> int:
        """How many kinds of problems there are."""
        return max(self.incidents // 1000, 20)

    @property
    def targets(self) -> int:
        """How many objects are repaired."""
        return max(self.incidents // 2000, 10)

    @property
    def long_timeline(self) -> int:
        """How often an incident with a long timeline was reported again; there are five of them."""
        return min(self.incidents // 20, 2000)

    def facts(self, first: int, last: int) -> str:
        """Return the statement that makes the temporary table `facts`, a row for each of these incidents."""
        return _FACTS.format(
            first=first,
            last=last,
            old=max(self.incidents - self.recent, 1),
            recent=self.recent,
            step=self.unresolved_step,
            days=self.days,
            problems=self.problems,
            targets=self.targets,
            fifth=max(self.incidents // 5, 1),
            long_timeline=self.long_timeline,
            until=f"timestamptz '{self.until.isoformat()}'",
        )


_FACTS = """
CREATE TEMP TABLE facts ON COMMIT DROP AS
WITH drawn AS (
    SELECT n,
        (hashint8extended(n, 1) & 1048575) / 1048576.0::float8 AS u1,
        (hashint8extended(n, 2) & 1048575) / 1048576.0::float8 AS u2,
        (hashint8extended(n, 3) & 1048575) / 1048576.0::float8 AS u3,
        (hashint8extended(n, 4) & 1048575) / 1048576.0::float8 AS u4,
        (hashint8extended(n, 5) & 1048575) / 1048576.0::float8 AS u5
    FROM generate_series({first}::bigint, {last}::bigint) AS n
), placed AS (
    SELECT *, n >= {old} AS is_recent,
        floor({problems} * u3 ^ 4)::int AS problem,
        CASE WHEN n < {old}
            THEN {until} - interval '24 hours' - interval '1 day' * {days} * (1 - n / {old}.0)
            ELSE {until} - interval '23 hours 50 minutes' + interval '23 hours' * ((n - {old}) / {recent}.0)
            END AS create_time,
        CASE
            WHEN n >= {old} AND (n - {old}) % {step} = 0
                THEN (ARRAY['NEW', 'PENDING', 'PENDING', 'APPROVED', 'FAILED'])[1 + (n - {old}) / {step} % 5]
            WHEN u1 < 0.15 THEN 'NOOP'
            WHEN u1 < 0.60 THEN 'REPAIRED'
            WHEN u1 < 0.90 THEN 'RETRIED'
            WHEN u1 < 0.95 THEN 'REJECTED'
            ELSE 'EXPIRED' END AS story,
        (ARRAY['CRITICAL', 'HIGH', 'HIGH', 'MEDIUM', 'MEDIUM', 'MEDIUM', 'MEDIUM', 'LOW', 'LOW', 'INFO'])[
            1 + floor(u2 * 10)::int] AS severity,
        interval '1 second' * (
            300 + 2100 * u4 * u4 + CASE WHEN n < {old} AND u4 > 0.97 THEN 72000 * (u4 - 0.97) / 0.03 ELSE 0 END
        ) AS duration,
        CASE WHEN n % {fifth} = {fifth} / 2 THEN {long_timeline} ELSE floor(4 * u5 ^ 3)::int END AS repeats
    FROM drawn
)
SELECT *, story NOT IN ('NEW', 'PENDING', 'APPROVED', 'FAILED') AS is_resolved,
    1 + problem % {targets} AS action_number,
    'INC-' || to_char(create_time AT TIME ZONE 'UTC', 'YYYYMMDD') || '-' || upper(left(md5(n::text), 12)) AS incident_id,
    (ARRAY['CPU', 'Memory', 'Disk', 'Latency', 'Errors'])[1 + problem % 5] AS what,
    'app-' || problem % {targets} AS app,
    create_time + duration AS resolve_time,
    CASE story WHEN 'NOOP' THEN 'NO_ACTION' WHEN 'REPAIRED' THEN 'AUTO_REPAIRED' WHEN 'RETRIED' THEN 'AUTO_REPAIRED'
        WHEN 'REJECTED' THEN 'HUMAN' WHEN 'EXPIRED' THEN 'HUMAN' END AS resolution_type
FROM placed
"""

# What was proposed in these stories: the first attempt has number 0, a second one 1.
PROPOSALS = """
CREATE TEMP TABLE proposals ON COMMIT DROP AS
WITH proposed AS (
    SELECT facts.*, attempt,
        'APR-' || to_char(create_time AT TIME ZONE 'UTC', 'YYYYMMDD') || '-' || upper(left(md5(n || '/' || attempt), 12))
            AS approval_id,
        CASE
            WHEN story IN ('PENDING', 'APPROVED', 'FAILED', 'REJECTED', 'EXPIRED') THEN story
            WHEN story = 'RETRIED' AND attempt = 0 AND n % 2 = 1 THEN 'FAILED'
            ELSE 'SUCCEEDED' END AS approval_state,
        story = 'RETRIED' AND attempt = 0 AND n % 2 = 0 AS has_not_helped,
        story = 'NOOP' AS is_noop,
        create_time + interval '1 minute' + interval '2 minutes' * attempt AS propose_time
    FROM facts CROSS JOIN generate_series(0, CASE WHEN story = 'RETRIED' THEN 1 ELSE 0 END) AS attempt
    WHERE story <> 'NEW'
), decided AS (
    SELECT *, CASE
            WHEN story = 'PENDING' THEN NULL
            WHEN story = 'EXPIRED' THEN resolve_time - interval '30 seconds'
            ELSE propose_time + interval '40 seconds' END AS decide_time
    FROM proposed
), executed AS (
    SELECT *, CASE
            WHEN is_noop THEN resolve_time - interval '20 seconds'
            WHEN approval_state IN ('SUCCEEDED', 'FAILED') THEN decide_time + interval '5 seconds' END AS execute_time,
        CASE
            WHEN approval_state = 'FAILED' OR has_not_helped THEN decide_time + interval '20 seconds'
            WHEN approval_state = 'SUCCEEDED' THEN resolve_time - interval '20 seconds' END AS finish_time
    FROM decided
)
SELECT *, CASE
        WHEN is_noop OR approval_state <> 'SUCCEEDED' THEN ''
        WHEN has_not_helped THEN 'NOT_RECOVERED'
        WHEN u5 < 0.8 THEN 'VERIFIED'
        ELSE 'UNVERIFIED' END AS recovery,
    CASE
        WHEN is_noop OR approval_state <> 'SUCCEEDED' THEN NULL
        WHEN u5 < 0.8 OR has_not_helped THEN finish_time + interval '10 seconds'
        ELSE finish_time END AS recovery_time,
    CASE WHEN approval_state = 'SUCCEEDED' AND NOT has_not_helped THEN resolve_time + interval '1 second' END
        AS acknowledge_time
FROM executed
"""
