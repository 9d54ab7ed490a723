"""Approvals, decisions, executions, and the outbox."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE approvals (
        approval_id text PRIMARY KEY,
        incident_id text NOT NULL,
        action text NOT NULL,
        operation_kind text,
        resource_kind text NOT NULL,
        name text NOT NULL,
        namespace text NOT NULL,
        replicas integer,
        hook text NOT NULL,
        parse_error text NOT NULL,
        action_hash text NOT NULL,
        risk text NOT NULL,
        rationale text NOT NULL,
        confidence double precision,
        required_approvals integer NOT NULL,
        auto_execute boolean NOT NULL,
        state text NOT NULL DEFAULT 'PENDING',
        proposed_by text NOT NULL,
        incident_verified boolean NOT NULL,
        create_time timestamptz NOT NULL DEFAULT now(),
        update_time timestamptz NOT NULL DEFAULT now(),
        expire_time timestamptz NOT NULL,
        decide_time timestamptz,
        execute_time timestamptz,
        finish_time timestamptz,
        outcome_message text NOT NULL DEFAULT '',
        cancelled_by text NOT NULL DEFAULT '',
        target text,
        execution_token uuid,
        execution_lease_until timestamptz,
        incident_resolve_time timestamptz,
        version bigint NOT NULL DEFAULT 1,
        request_id text,
        content_hash text NOT NULL,
        CONSTRAINT approvals_state CHECK (state IN ('PENDING', 'APPROVED', 'REJECTED', 'EXPIRED', 'CANCELLED',
            'EXECUTING', 'SUCCEEDED', 'FAILED', 'INDETERMINATE')),
        CONSTRAINT approvals_parsed CHECK ((operation_kind IS NULL) = (parse_error <> ''))
    )
    """,
    "CREATE UNIQUE INDEX approvals_request_id ON approvals (request_id) WHERE request_id IS NOT NULL",
    "CREATE INDEX approvals_create_time ON approvals (create_time, approval_id)",
    "CREATE INDEX approvals_update_time ON approvals (update_time, approval_id)",
    "CREATE INDEX approvals_incident ON approvals (incident_id, create_time)",
    "CREATE INDEX approvals_pending ON approvals (create_time) WHERE state = 'PENDING'",
    "CREATE INDEX approvals_expiry ON approvals (expire_time) WHERE state IN ('PENDING', 'APPROVED')",
    "CREATE INDEX approvals_executing ON approvals (execution_lease_until) WHERE state = 'EXECUTING'",
    "CREATE INDEX approvals_finish_time ON approvals (finish_time) WHERE finish_time IS NOT NULL",
    """
    CREATE INDEX approvals_unacknowledged ON approvals (finish_time, approval_id)
    WHERE state = 'SUCCEEDED' AND incident_resolve_time IS NULL
    """,
    """
    CREATE TABLE approval_decisions (
        approval_id text REFERENCES approvals ON DELETE CASCADE,
        actor text,
        sequence bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
        kind text NOT NULL,
        reason text NOT NULL,
        decide_time timestamptz NOT NULL DEFAULT now(),
        policy_rule text NOT NULL DEFAULT '',
        PRIMARY KEY (approval_id, actor)
    )
    """,
    """
    CREATE TABLE auto_repair_executions (
        execution_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        approval_id text NOT NULL REFERENCES approvals ON DELETE CASCADE,
        incident_id text NOT NULL,
        target text NOT NULL,
        operation jsonb NOT NULL,
        succeeded boolean NOT NULL,
        output text NOT NULL,
        error text NOT NULL,
        executor text NOT NULL,
        start_time timestamptz NOT NULL,
        finish_time timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX auto_repair_executions_finish_time ON auto_repair_executions (finish_time) INCLUDE (succeeded)",
    "CREATE INDEX auto_repair_executions_approval ON auto_repair_executions (approval_id)",
    "CREATE INDEX auto_repair_executions_target ON auto_repair_executions (target, finish_time)",
    "CREATE TABLE service_keys (name text PRIMARY KEY, key bytea NOT NULL)",
    # Two random UUIDs are 244 random bits, from the server's strong generator.
    """
    INSERT INTO service_keys (name, key)
    VALUES ('page_tokens', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
    """,
    """
    CREATE TABLE outbox (
        job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        topic text NOT NULL,
        dedup_key text NOT NULL,
        payload jsonb NOT NULL,
        state text NOT NULL DEFAULT 'PENDING',
        attempts integer NOT NULL DEFAULT 0,
        crashes integer NOT NULL DEFAULT 0,
        lease_token uuid,
        next_attempt_time timestamptz NOT NULL DEFAULT now(),
        last_error text,
        create_time timestamptz NOT NULL DEFAULT now(),
        done_time timestamptz,
        CONSTRAINT outbox_topic_dedup_key UNIQUE (topic, dedup_key),
        CONSTRAINT outbox_state CHECK (state IN ('PENDING', 'DONE', 'SKIPPED', 'PARKED'))
    )
    """,
    "CREATE INDEX outbox_due ON outbox (topic, next_attempt_time) WHERE state = 'PENDING'",
    "CREATE INDEX outbox_parked ON outbox (topic) WHERE state = 'PARKED'",
    "CREATE INDEX outbox_done ON outbox (done_time) WHERE state IN ('DONE', 'SKIPPED')",
    # Wake-up on commit, whatever statement enqueued. A job enqueued under a lease is in a worker's hands already.
    """
    CREATE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM enqueued WHERE lease_token IS NULL) THEN
            PERFORM pg_notify('outbox', '');
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER outbox_notify AFTER INSERT ON outbox
    REFERENCING NEW TABLE AS enqueued
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_notify()
    """,
    """
    CREATE TABLE counters (
        name text,
        label text,
        shard smallint,
        value bigint NOT NULL,
        PRIMARY KEY (name, label, shard)
    ) WITH (fillfactor = 50)
    """,
)

_DOWN = (
    "DROP TABLE counters",
    "DROP TABLE outbox",
    "DROP FUNCTION outbox_notify",
    "DROP TABLE service_keys",
    "DROP TABLE auto_repair_executions",
    "DROP TABLE approval_decisions",
    "DROP TABLE approvals",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
