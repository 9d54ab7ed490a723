"""Jobs as an operator sees them, page by page. The open ones and their counts are in `open_jobs`, re-queuing and dismissing in `dead_letters`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BindParameter, Row, TextualSelect, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from servicekit.database.examined import MAX_EXAMINED


class JobState(StrEnum):
    """Where a job stands. PARKED is the dead letter: it cannot succeed as it is and waits for an operator."""

    PENDING = "PENDING"
    DONE = "DONE"
    SKIPPED = "SKIPPED"
    PARKED = "PARKED"
    DISMISSED = "DISMISSED"


@dataclass(frozen=True, slots=True)
class Dismissal:
    """That an operator gave a dead letter up: who, why and when."""

    actor: str
    reason: str
    dismiss_time: datetime


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job's row. `last_error` is empty when there was none; of a SKIPPED job it is the reason."""

    job_id: int
    topic: str
    dedup_key: str
    # The incident that it is about; empty in rows of older versions.
    incident_id: str
    payload: Mapping[str, Any]
    state: JobState
    attempts: int
    last_error: str
    create_time: datetime
    # When the job is due, or, while it is leased, when the lease ends.
    next_attempt_time: datetime
    # Of a job that is DONE or SKIPPED.
    done_time: datetime | None
    # The operator that re-queued it last; empty when none did.
    requeued_by: str
    # Of a job that is DISMISSED.
    dismissal: Dismissal | None

    def text(self, *names: str) -> str:
        """Return the text in the payload under this name, or these of nested objects; empty when there is none.

        A job of another version may have anything there.
        """
        value: Any = self.payload
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) else ""


JOB_COLUMNS = (
    "job_id, topic, dedup_key, incident_id, payload, state, attempts, last_error, create_time, next_attempt_time, done_time,"
    " requeued_by, dismissed_by, dismiss_reason"
)
_NEWEST = 2**63 - 1


def job_statement(sql: str, *arrays: str) -> TextualSelect:
    """Return a statement whose rows are of JOB_COLUMNS and whose parameters `arrays` are arrays of text."""
    parameters: list[BindParameter[Any]] = [bindparam(name, type_=ARRAY(Text)) for name in arrays]
    return text(sql).bindparams(*parameters).columns(payload=JSONB)


def to_record(row: Row[Any]) -> JobRecord:
    """Return the job in a row of JOB_COLUMNS."""
    dismissal = None
    if row.dismissed_by is not None:
        dismissal = Dismissal(row.dismissed_by, row.dismiss_reason, row.done_time)
    return JobRecord(
        job_id=row.job_id,
        topic=row.topic,
        dedup_key=row.dedup_key,
        incident_id=row.incident_id or "",
        # Of another version it may be anything.
        payload=row.payload if isinstance(row.payload, dict) else {},
        state=JobState(row.state) if dismissal is None else JobState.DISMISSED,
        attempts=row.attempts,
        last_error=row.last_error or "",
        create_time=row.create_time,
        next_attempt_time=row.next_attempt_time,
        done_time=row.done_time if dismissal is None else None,
        requeued_by=row.requeued_by or "",
        dismissal=dismissal,
    )


def _list_statement(source: str, *arrays: str) -> TextualSelect:
    return job_statement(
        f"""
        SELECT {JOB_COLUMNS} FROM {source} AS outbox
        WHERE (topic = ANY (:topics) OR :dead_letters AND (state = 'PARKED' OR dismissed_by IS NOT NULL))
            AND (cardinality(:states) = 0
                OR CASE WHEN dismissed_by IS NULL THEN state ELSE 'DISMISSED' END = ANY (:states))
            AND job_id <= :last
        ORDER BY job_id DESC LIMIT :limit
        """,  # noqa: S608 - constants of this module
        "topics",
        "states",
        *arrays,
    )


def _part(condition: str, order: str) -> str:
    # OFFSET 0 is an optimization barrier: the planner reads the index of this order, whichever other criteria a list has.
    return f"(SELECT * FROM outbox WHERE {condition} ORDER BY {order} OFFSET 0)"  # noqa: S608 - as above


# The newest, however few of them match: so many are examined.
_LIST = _list_statement(
    f"(SELECT * FROM outbox WHERE job_id <= :last ORDER BY job_id DESC LIMIT {MAX_EXAMINED})"  # noqa: S608 - as above
)
_LAST_EXAMINED = text(f"""
    SELECT job_id FROM outbox WHERE job_id <= :last ORDER BY job_id DESC OFFSET {MAX_EXAMINED - 1} LIMIT 1
""")  # noqa: S608 - as above
_LAST_EXAMINED_PARKED = text(f"""
    SELECT job_id FROM outbox WHERE state = 'PARKED' AND job_id <= :last
    ORDER BY job_id DESC OFFSET {MAX_EXAMINED - 1} LIMIT 1
""")  # noqa: S608 - as above
# By the unique index on (topic, dedup_key), so that a long history costs nothing.
_LIST_BY_KEY = _list_statement(
    """(
        SELECT job.* FROM unnest(:key_topics, :dedup_keys) AS key (topic, dedup_key) CROSS JOIN LATERAL (
            SELECT * FROM outbox WHERE outbox.topic = key.topic AND outbox.dedup_key = key.dedup_key OFFSET 0) AS job
    )""",
    "key_topics",
    "dedup_keys",
)
# By a range of an index on the keys byte by byte: other collations do not keep what begins in the same way together.
_LIST_BY_PREFIX = _list_statement(
    _part(
        'topic = :prefix_topic AND dedup_key COLLATE "C" >= :prefix AND dedup_key COLLATE "C" < :prefix_end',
        'dedup_key COLLATE "C"',
    )
)
# By their partial indexes.
_LIST_OF_STATE: Mapping[JobState, TextualSelect] = {
    JobState.PENDING: _list_statement(_part("state = 'PENDING'", "topic, next_attempt_time")),
    # As the newest of all: dead letters of one topic may be few among many.
    JobState.PARKED: _list_statement(
        f"(SELECT * FROM outbox WHERE state = 'PARKED' AND job_id <= :last ORDER BY job_id DESC LIMIT {MAX_EXAMINED})"  # noqa: S608 - as above
    ),
    JobState.DISMISSED: _list_statement(_part("dismissed_by IS NOT NULL", "topic")),
}


async def list_jobs(
    connection: AsyncConnection,
    topics: Sequence[str],
    *,
    dead_letters: bool = False,
    states: Sequence[str] = (),
    keys: Sequence[tuple[str, str]] | None = None,
    prefix: tuple[str, str] | None = None,
    before: int | None = None,
    limit: int,
) -> Sequence[JobRecord]:
    """Return at most `limit` jobs of these topics, with `dead_letters` also what is PARKED or DISMISSED of every other.

    Newest first. Fewer do not mean that there are no more: see `examined_to`.

    `states`, `keys` (each a topic and a dedup key) and `prefix` (a topic and how a dedup key begins; without `keys`) filter
    when they are given; `before` is the job id that a further page continues at.
    """
    parameters: dict[str, object] = {
        "topics": list(topics),
        "dead_letters": dead_letters,
        "states": list(states),
        "last": _last(before),
        "limit": limit,
    }
    if keys is not None:
        parameters |= {"key_topics": [topic for topic, _ in keys], "dedup_keys": [key for _, key in keys]}
        statements = [_LIST_BY_KEY]
    elif prefix is not None:
        topic, begin = prefix
        end = begin[:-1] + chr(ord(begin[-1]) + 1)
        parameters |= {"prefix_topic": topic, "prefix": begin, "prefix_end": end}
        statements = [_LIST_BY_PREFIX]
    elif _have_indexes(states):
        statements = [_LIST_OF_STATE[state] for state in dict.fromkeys(map(JobState, states))]
    else:
        statements = [_LIST]
    found = [
        to_record(row) for statement in statements for row in await connection.execute(statement, parameters)
    ]
    newest = sorted(found, key=lambda job: -job.job_id)[:limit]
    if len(newest) == limit or len(statements) == 1:
        return newest
    # Beyond where the list has looked there may be others in between.
    last = await examined_to(connection, states=states, before=before)
    return newest if last is None else [job for job in newest if job.job_id >= last]


async def examined_to(
    connection: AsyncConnection, *, states: Sequence[str] = (), before: int | None
) -> int | None:
    """Return the job id down to which a list without `keys` and `prefix` has looked that found fewer than its limit.

    None when it has looked at all.
    """
    statement = _LAST_EXAMINED
    if _have_indexes(states):
        if JobState.PARKED not in states:
            return None
        statement = _LAST_EXAMINED_PARKED
    found: int | None = await connection.scalar(statement, {"last": _last(before)})
    return found


def _have_indexes(states: Sequence[str]) -> bool:
    return bool(states) and _LIST_OF_STATE.keys() >= set(map(JobState, states))


def _last(before: int | None) -> int:
    return _NEWEST if before is None else before - 1


_REMOVE_ENDED = text("""
    DELETE FROM outbox WHERE topic = :topic AND dedup_key = ANY (:dedup_keys) AND state NOT IN ('PENDING', 'PARKED')
""").bindparams(bindparam("dedup_keys", type_=ARRAY(Text)))


async def remove_ended(connection: AsyncConnection, topic: str, dedup_keys: Sequence[str]) -> None:
    """Remove a topic's jobs with these keys that have ended, so that the same intent can be enqueued again."""
    await connection.execute(_REMOVE_ENDED, {"topic": topic, "dedup_keys": list(dedup_keys)})
