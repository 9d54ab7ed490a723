"""The statements of an import of approvals. Nothing here commits."""

from collections.abc import AsyncIterator, Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.importing.lines import Problem

_TAKEN = text("""
    SELECT file, line FROM staged_rows JOIN approvals ON approvals.approval_id = row_id
    WHERE NOT EXISTS (SELECT FROM imported_rows WHERE imported_rows.row_id = staged_rows.row_id)
    ORDER BY file, line
""")


async def find_taken(connection: AsyncConnection) -> AsyncIterator[Problem]:
    """Yield the lines whose id an approval has that was not imported."""
    for file, line in await connection.execute(_TAKEN):
        yield Problem(file, line, "approval_id", "there is an approval with this id that was not imported")


_INSERT = (
    text("""
    INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, replicas,
        hook, target, parse_error, action_hash, risk, rationale, confidence, required_approvals, auto_execute, state,
        proposed_by, incident_verified, create_time, update_time, expire_time, decide_time, execute_time, finish_time,
        outcome_message, cancelled_by, incident_resolve_time, content_hash)
    SELECT row_id, incident_id, action, operation_kind, resource_kind, name, namespace, replicas,
        hook, target, parse_error, action_hash, risk, rationale, confidence, required_approvals, auto_execute, state,
        proposed_by, FALSE, create_time, update_time, expire_time, decide_time, execute_time, finish_time,
        outcome_message, cancelled_by, incident_resolve_time, fields.content_hash
    FROM staged_rows
    CROSS JOIN LATERAL jsonb_to_record(body) AS fields (incident_id text, action text, operation_kind text,
        resource_kind text, name text, namespace text, replicas integer, hook text, target text, parse_error text,
        action_hash text, risk text, rationale text, confidence double precision, required_approvals integer,
        auto_execute boolean, state text, proposed_by text, create_time timestamptz, update_time timestamptz,
        expire_time timestamptz, decide_time timestamptz, execute_time timestamptz, finish_time timestamptz,
        outcome_message text, cancelled_by text, incident_resolve_time timestamptz, content_hash text)
    WHERE position >= :start AND position < :stop
    ORDER BY row_id
    """),
    text("""
    INSERT INTO approval_decisions (approval_id, actor, kind, reason, decide_time, policy_rule)
    SELECT row_id, fields.actor, fields.kind, fields.reason, fields.decide_time, fields.policy_rule
    FROM staged_rows
    CROSS JOIN LATERAL jsonb_array_elements(body -> 'decisions') WITH ORDINALITY AS element (decision, number)
    CROSS JOIN LATERAL jsonb_to_record(decision) AS fields (actor text, kind text, reason text, decide_time timestamptz,
        policy_rule text)
    WHERE position >= :start AND position < :stop
    ORDER BY position, number
    """),
    text("""
    INSERT INTO auto_repair_executions (approval_id, incident_id, target, operation, succeeded, output, error, executor,
        start_time, finish_time)
    SELECT row_id, body ->> 'incident_id', body ->> 'target', fields.operation, fields.succeeded, fields.output, fields.error,
        fields.executor, fields.start_time, fields.finish_time
    FROM staged_rows
    CROSS JOIN LATERAL jsonb_to_record(body -> 'execution') AS fields (operation jsonb, succeeded boolean, output text,
        error text, executor text, start_time timestamptz, finish_time timestamptz)
    WHERE position >= :start AND position < :stop AND body -> 'execution' <> 'null'
    ORDER BY fields.finish_time, position
    """),
)


async def insert_approvals(connection: AsyncConnection, batch: Mapping[str, int]) -> None:
    """Write a batch of approvals with their decisions and executions."""
    for statement in _INSERT:
        await connection.execute(statement, batch)


_COUNT = text("""
    SELECT body ->> 'state' AS state, body ->> 'counted_as' AS outcome, count(*) AS approvals,
        count(*) FILTER (WHERE body ->> 'operation_kind' = 'NO_ACTION' AND body ->> 'incident_resolve_time' IS NOT NULL)
            AS noop_resolutions
    FROM staged_rows GROUP BY 1, 2
""")


async def count_new(connection: AsyncConnection) -> list[tuple[str, str | None, int, int]]:
    """Return for each state and outcome how many approvals are new, and how many of them are acknowledged NO_ACTION ones."""
    return [tuple(row) for row in await connection.execute(_COUNT)]
