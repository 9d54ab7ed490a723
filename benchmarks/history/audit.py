"""Records of the audit trail, appended by the database's own function: the chains hold."""

import asyncpg

# An array grows with every record of a call: short calls are faster.
_APPEND = """
WITH record AS ({source}), numbered AS (
    SELECT *, (row_number() OVER (PARTITION BY chain ORDER BY target, operation) - 1) / 200 AS part
    FROM record AS record (chain, actor, operation, target)
)
SELECT count(audit_append(chain::smallint, actors, methods, operations, targets, outcomes, codes, reasons, digests, calls))
FROM (
    SELECT chain, array_agg(actor) AS actors, array_agg('history'::text) AS methods, array_agg(operation) AS operations,
        array_agg(target) AS targets, array_agg('CHANGED'::text) AS outcomes, array_agg('OK'::text) AS codes,
        array_agg(''::text) AS reasons, array_agg(''::text) AS digests, array_agg(1::bigint) AS calls
    FROM numbered GROUP BY chain, part ORDER BY chain, part
) AS call
"""


async def append_records(connection: "asyncpg.Connection[asyncpg.Record]", source: str) -> None:
    """Append a record for each row of `source`: chain, actor, operation and target."""
    await connection.execute(_APPEND.format(source=source))
