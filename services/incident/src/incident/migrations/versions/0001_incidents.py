"""Incidents, their timelines, the outbox and what its effects leave."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE incidents (
        incident_id text PRIMARY KEY,
        title text NOT NULL,
        description text NOT NULL,
        severity text NOT NULL,
        state text NOT NULL,
        fingerprint text NOT NULL,
        labels jsonb NOT NULL,
        source text NOT NULL,
        occurrence_count integer NOT NULL DEFAULT 1,
        last_seen_time timestamptz NOT NULL DEFAULT now(),
        create_time timestamptz NOT NULL DEFAULT now(),
        open_time timestamptz NOT NULL DEFAULT now(),
        update_time timestamptz NOT NULL DEFAULT now(),
        investigate_time timestamptz,
        resolve_time timestamptz,
        last_progress_time timestamptz NOT NULL DEFAULT now(),
        resolution_type text,
        resolution_note text NOT NULL DEFAULT '',
        resolved_by text NOT NULL DEFAULT '',
        resolution_number integer NOT NULL DEFAULT 0,
        opened_by text NOT NULL,
        version bigint NOT NULL DEFAULT 1,
        content_hash text NOT NULL,
        CONSTRAINT incidents_state CHECK (state IN ('OPEN', 'INVESTIGATING', 'RESOLVED')),
        CONSTRAINT incidents_resolved
            CHECK ((state = 'RESOLVED') = (resolve_time IS NOT NULL AND resolution_type IS NOT NULL))
    )
    """,
    """
    CREATE UNIQUE INDEX incidents_unresolved_fingerprint ON incidents (fingerprint)
    WHERE state <> 'RESOLVED' AND fingerprint <> ''
    """,
    "CREATE INDEX incidents_create_time ON incidents (create_time, incident_id)",
    "CREATE INDEX incidents_update_time ON incidents (update_time, incident_id)",
    "CREATE INDEX incidents_resolve_time ON incidents (resolve_time) WHERE state = 'RESOLVED'",
    """
    CREATE INDEX incidents_unresolved_progress ON incidents (last_progress_time, incident_id, state)
    WHERE state <> 'RESOLVED'
    """,
    """
    CREATE TABLE incident_events (
        event_id text PRIMARY KEY,
        incident_id text NOT NULL REFERENCES incidents ON DELETE CASCADE,
        sequence bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
        type text NOT NULL,
        actor text NOT NULL,
        event_time timestamptz NOT NULL DEFAULT now(),
        summary text NOT NULL,
        attributes jsonb NOT NULL DEFAULT '{}'::jsonb,
        resolution_number integer NOT NULL,
        xact_id bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint)
    )
    """,
    "CREATE INDEX incident_events_timeline ON incident_events (incident_id, sequence)",
    "CREATE INDEX incident_events_xact_id ON incident_events (xact_id, sequence)",
    """
    CREATE INDEX incident_events_state_changes ON incident_events (incident_id, sequence, type)
    WHERE type IN ('OPENED', 'INVESTIGATION_STARTED', 'RESOLVED', 'REOPENED')
    """,
    # Commits that notify follow one another, each with a flush of its own: concurrent writers would be several times slower.
    # So who wants to be woken holds this lock (shared), and only then is there a notification. Tried and given back in one
    # expression: no cancelled statement can leave the lock behind.
    """
    CREATE FUNCTION incident_events_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT (CASE WHEN pg_try_advisory_lock(hashtext('incident_events'))
            THEN pg_advisory_unlock(hashtext('incident_events')) ELSE FALSE END)
        THEN
            PERFORM pg_notify('incident_events', '');
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER incident_events_notify AFTER INSERT ON incident_events
    FOR EACH STATEMENT EXECUTE FUNCTION incident_events_notify()
    """,
    """
    CREATE TABLE create_requests (
        request_id text PRIMARY KEY,
        content_hash text NOT NULL,
        incident_id text NOT NULL REFERENCES incidents ON DELETE CASCADE,
        deduplicated boolean NOT NULL,
        create_time timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE postmortems (
        incident_id text REFERENCES incidents ON DELETE CASCADE,
        resolution_number integer,
        resolution_type text NOT NULL,
        markdown text NOT NULL,
        create_time timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (incident_id, resolution_number)
    )
    """,
    "CREATE INDEX postmortems_create_time ON postmortems (create_time, resolution_type)",
    """
    CREATE TABLE dispositions (
        incident_id text REFERENCES incidents ON DELETE CASCADE,
        resolution_number integer,
        resolution_type text NOT NULL,
        severity text NOT NULL,
        resolve_time timestamptz NOT NULL,
        resolution_seconds double precision NOT NULL,
        PRIMARY KEY (incident_id, resolution_number)
    )
    """,
    "CREATE INDEX dispositions_resolve_time ON dispositions (resolve_time, resolution_type)",
    """
    CREATE TABLE knowledge (
        knowledge_id text PRIMARY KEY,
        symptom_key text NOT NULL,
        resolution_type text NOT NULL,
        action text NOT NULL,
        incident_id text NOT NULL,
        symptoms text NOT NULL,
        resolution text NOT NULL,
        use_count integer NOT NULL,
        success_count integer NOT NULL,
        resolution_seconds_sum double precision NOT NULL,
        create_time timestamptz NOT NULL DEFAULT now(),
        update_time timestamptz NOT NULL DEFAULT now(),
        search tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('english', symptoms || ' ' || resolution)) STORED
    )
    """,
    "CREATE INDEX knowledge_search ON knowledge USING gin (search)",
    """
    CREATE TABLE knowledge_uses (
        incident_id text REFERENCES incidents ON DELETE CASCADE,
        resolution_number integer,
        knowledge_id text NOT NULL,
        held boolean NOT NULL,
        PRIMARY KEY (incident_id, resolution_number)
    )
    """,
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
    "DROP TABLE knowledge_uses",
    "DROP TABLE knowledge",
    "DROP TABLE dispositions",
    "DROP TABLE postmortems",
    "DROP TABLE create_requests",
    "DROP TABLE incident_events",
    "DROP FUNCTION incident_events_notify",
    "DROP TABLE incidents",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
