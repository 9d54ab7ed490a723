"""The history of the approval service: approvals, decisions, executions, changes, the deliveries it still has, counters."""

import asyncpg

from benchmarks.history.actions import create_actions
from benchmarks.history.audit import append_records
from benchmarks.history.bulk import Step, bulk_load
from benchmarks.history.shape import PROPOSALS, Shape

TABLES = (
    "approvals",
    "approval_decisions",
    "auto_repair_executions",
    "approval_changes",
    "outbox",
    "counters",
)

_APPROVALS = """
INSERT INTO approvals (
    approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook, parse_error, action_hash, risk,
    rationale, confidence, required_approvals, auto_execute, state, proposed_by, incident_verified, incident_opening,
    incident_severity, create_time, update_time, expire_time, decide_time, execute_time, finish_time, outcome_message,
    target, incident_resolve_time, recovery, recovery_time, recovery_deadline, recovery_message, version, request_id,
    content_hash)
SELECT approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, '', '', action_hash,
    CASE WHEN is_noop THEN 'LOW' ELSE 'MEDIUM' END, 'The same has helped before.', 0.5 + u2 / 2, 1,
    story <> 'APPROVED', approval_state, 'service:advisor', TRUE, 1, severity, propose_time,
    coalesce(acknowledge_time, recovery_time, finish_time, decide_time, propose_time),
    CASE story WHEN 'EXPIRED' THEN decide_time ELSE propose_time + interval '2 days' END, decide_time, execute_time,
    finish_time, CASE approval_state WHEN 'FAILED' THEN 'the rollout did not end' WHEN 'SUCCEEDED' THEN 'done' ELSE '' END,
    CASE WHEN NOT is_noop THEN target END, acknowledge_time, recovery, recovery_time,
    CASE WHEN recovery IN ('VERIFIED', 'NOT_RECOVERED') THEN finish_time + interval '10 minutes' END, '',
    1 + num_nonnulls(decide_time, execute_time, finish_time, acknowledge_time),
    CASE WHEN n % 2 = 0 THEN 'request-' || approval_id END, md5(approval_id)
FROM proposals JOIN actions ON actions.action_number = CASE WHEN is_noop THEN 0 ELSE proposals.action_number END
ORDER BY propose_time
"""

_DECISIONS = """
INSERT INTO approval_decisions (approval_id, actor, kind, reason, decide_time, policy_rule)
SELECT approval_id, CASE WHEN is_noop THEN 'service:approval' ELSE 'alice' END,
    CASE story WHEN 'REJECTED' THEN 'REJECT' ELSE 'APPROVE' END, '', decide_time,
    CASE WHEN is_noop THEN 'observe' ELSE '' END
FROM proposals WHERE decide_time IS NOT NULL AND story <> 'EXPIRED' ORDER BY decide_time
"""

_EXECUTIONS = """
INSERT INTO auto_repair_executions (
    approval_id, incident_id, target, operation, succeeded, output, error, executor, start_time, finish_time)
SELECT approval_id, incident_id, target, operation, approval_state = 'SUCCEEDED',
    CASE approval_state WHEN 'SUCCEEDED' THEN 'restarted: 3 of 3 pods are ready' ELSE '' END,
    CASE approval_state WHEN 'FAILED' THEN 'the rollout did not end' ELSE '' END, 'kubernetes', execute_time, finish_time
FROM proposals JOIN actions USING (action_number)
WHERE finish_time IS NOT NULL AND NOT is_noop ORDER BY finish_time
"""

_CHANGES = """
INSERT INTO approval_changes (approval_id, state_before, state_after, change_time)
SELECT approval_id, state_before, state_after, change_time FROM proposals CROSS JOIN LATERAL (VALUES
    (NULL, 'PENDING', propose_time),
    ('PENDING', CASE WHEN story IN ('REJECTED', 'EXPIRED') THEN story ELSE 'APPROVED' END, decide_time),
    ('APPROVED', 'EXECUTING', CASE WHEN NOT is_noop THEN execute_time END),
    (CASE WHEN is_noop THEN 'APPROVED' ELSE 'EXECUTING' END, approval_state, finish_time),
    ('SUCCEEDED', 'SUCCEEDED', acknowledge_time)
) AS change (state_before, state_after, change_time)
WHERE change_time IS NOT NULL ORDER BY change_time
"""

# Done deliveries are removed after a while: those of the last day are there. One timeline entry in so many is parked.
_OUTBOX = """
INSERT INTO outbox
    (topic, dedup_key, incident_id, payload, state, attempts, next_attempt_time, last_error, create_time, done_time)
SELECT topic, key, incident_id, payload, state, CASE state WHEN 'PARKED' THEN 12 ELSE 1 END, due_time,
    CASE state WHEN 'PARKED' THEN 'NOT_FOUND' END, due_time,
    CASE state WHEN 'DONE' THEN due_time + interval '1 second' END
FROM proposals CROSS JOIN LATERAL (VALUES
    ('approval.execute', approval_id, jsonb_build_object('approval_id', approval_id), execute_time, 'DONE'),
    ('incident.resolve', approval_id, jsonb_build_object('approval_id', approval_id, 'incident_id', incident_id,
        'resolution_type', resolution_type, 'action', '', 'opening', 1, 'execute_time', execute_time),
        acknowledge_time, 'DONE'),
    ('incident.timeline', approval_id || '/proposed/' || propose_time, jsonb_build_object('incident_id', incident_id,
        'event', 'PROPOSED', 'event_time', propose_time, 'summary', '', 'attributes',
        jsonb_build_object('approval_id', approval_id)), propose_time, CASE WHEN n % $1 = 5 THEN 'PARKED' ELSE 'DONE' END),
    ('incident.timeline', approval_id || '/decided/' || decide_time, jsonb_build_object('incident_id', incident_id,
        'event', 'APPROVED', 'event_time', decide_time, 'summary', '', 'attributes',
        jsonb_build_object('approval_id', approval_id)), decide_time, 'DONE')
) AS job (topic, key, payload, due_time, state)
WHERE is_recent AND due_time IS NOT NULL ORDER BY due_time
"""

_COUNTERS = """
INSERT INTO counters (name, label, shard, value)
SELECT 'approvals', state, hashtext(approval_id) & 7, count(*) FROM approvals GROUP BY 2, 3
UNION ALL
SELECT 'executions', CASE WHEN operation_kind = 'NO_ACTION' THEN 'NOOP' ELSE state END, hashtext(approval_id) & 7, count(*)
FROM approvals WHERE finish_time IS NOT NULL GROUP BY 2, 3
UNION ALL
SELECT 'recoveries', recovery, hashtext(approval_id) & 7, count(*) FROM approvals WHERE recovery <> '' GROUP BY 2, 3
UNION ALL
SELECT 'noop_resolutions', '', hashtext(approval_id) & 7, count(*) FROM approvals
WHERE operation_kind = 'NO_ACTION' AND incident_resolve_time IS NOT NULL GROUP BY 2, 3
"""

_AUDITED = """
SELECT n % 32, 'service:advisor', '/awoooi.approval.v1.ApprovalService/Propose', approval_id FROM proposals WHERE is_recent
UNION ALL
SELECT n % 32, 'alice', '/awoooi.approval.v1.ApprovalService/Approve', approval_id FROM proposals
WHERE is_recent AND decide_time IS NOT NULL AND story NOT IN ('REJECTED', 'EXPIRED')
"""


async def fill_approvals(url: str, shape: Shape, step: Step) -> None:
    """Fill the approval service's database, which has its newest schema and no rows."""
    async with bulk_load(url, TABLES, step) as connection:
        await create_actions(connection, shape)
        for first in range(0, shape.incidents, shape.batch):
            last = min(first + shape.batch, shape.incidents) - 1
            await _fill_batch(connection, shape, first, last)
            step(f"approvals of incidents: {last + 1:,} of {shape.incidents:,}")
        await connection.execute(_COUNTERS)


async def _fill_batch(
    connection: "asyncpg.Connection[asyncpg.Record]", shape: Shape, first: int, last: int
) -> None:
    async with connection.transaction():
        await connection.execute(shape.facts(first, last))
        await connection.execute(PROPOSALS)
        await connection.execute(_APPROVALS)
        await connection.execute(_DECISIONS)
        await connection.execute(_EXECUTIONS)
        await connection.execute(_CHANGES)
        await connection.execute(_OUTBOX, max(shape.recent // 20, 10))
        await append_records(connection, _AUDITED)
