"""What the migrations of both services make for the audit trail: tables, functions, triggers.

A migration is history: what is here for version 1 of the format is never changed, later versions are added beside it.
"""

from collections.abc import Sequence

_APPEND_ARGUMENTS = "smallint, text[], text[], text[], text[], text[], text[], text[], text[], bigint[]"

_TABLES = (
    """
    CREATE TABLE audit_chains (
        chain smallint PRIMARY KEY,
        sequence bigint NOT NULL,
        hash bytea NOT NULL
    ) WITH (fillfactor = 10)
""",
    """
    INSERT INTO audit_chains (chain, sequence, hash)
    SELECT number, 0, decode(repeat('00', 32), 'hex') FROM generate_series(0, 31) AS number
""",
    """
    CREATE TABLE audit_records (
        chain smallint NOT NULL,
        sequence bigint NOT NULL,
        time timestamptz NOT NULL,
        actor text NOT NULL,
        method text NOT NULL,
        operation text NOT NULL,
        targets text NOT NULL,
        outcome text NOT NULL,
        code text NOT NULL,
        reason text NOT NULL,
        digest text NOT NULL,
        calls bigint NOT NULL,
        previous bytea NOT NULL,
        hash bytea NOT NULL,
        PRIMARY KEY (chain, sequence)
    )
""",
)

# Runs as the owner: the run-time role can append, and only so that the chain holds. The head is locked first: records of
# one chain are in the order of their commits. docs/audit.md has the encoding byte by byte.
_APPEND = """
    CREATE FUNCTION audit_append(
        p_chain smallint, p_actors text[], p_methods text[], p_operations text[], p_targets text[], p_outcomes text[],
        p_codes text[], p_reasons text[], p_digests text[], p_calls bigint[]
    ) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = %(schema)s, pg_temp AS $function$
    DECLARE
        head_sequence bigint;
        head_hash bytea;
        written timestamptz;
        prefix text;
        written_field text;
        hashes bytea[] := '{}';
        entry record;
    BEGIN
        SELECT sequence, hash INTO STRICT head_sequence, head_hash FROM audit_chains WHERE chain = p_chain
        FOR NO KEY UPDATE;
        written := clock_timestamp();
        prefix := concat('1:1,', octet_length('%(service)s'), ':%(service)s,', length(p_chain::text), ':', p_chain, ',');
        written_field := concat('27:', to_char(written AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), ',');
        hashes := hashes || head_hash;
        FOR entry IN
            SELECT *, head_sequence + number AS sequence
            FROM unnest(p_actors, p_methods, p_operations, p_targets, p_outcomes, p_codes, p_reasons, p_digests, p_calls)
                WITH ORDINALITY
                AS entries (actor, method, operation, targets, outcome, code, reason, digest, calls, number)
        LOOP
            head_hash := sha256(convert_to(concat(prefix,
                length(entry.sequence::text), ':', entry.sequence, ',',
                written_field,
                octet_length(entry.actor), ':', entry.actor, ',',
                octet_length(entry.method), ':', entry.method, ',',
                octet_length(entry.operation), ':', entry.operation, ',',
                octet_length(entry.targets), ':', entry.targets, ',',
                octet_length(entry.outcome), ':', entry.outcome, ',',
                octet_length(entry.code), ':', entry.code, ',',
                octet_length(entry.reason), ':', entry.reason, ',',
                octet_length(entry.digest), ':', entry.digest, ',',
                length(entry.calls::text), ':', entry.calls, ',',
                '64:', encode(head_hash, 'hex'), ','), 'UTF8'));
            hashes := hashes || head_hash;
        END LOOP;
        INSERT INTO audit_records (chain, sequence, time, actor, method, operation, targets, outcome, code, reason, digest,
            calls, previous, hash)
        SELECT p_chain, head_sequence + number, written, actor, method, operation, targets, outcome, code, reason, digest,
            calls, previous, own
        FROM unnest(p_actors, p_methods, p_operations, p_targets, p_outcomes, p_codes, p_reasons, p_digests, p_calls,
                hashes[:cardinality(hashes) - 1], hashes[2:])
            WITH ORDINALITY
            AS entries (actor, method, operation, targets, outcome, code, reason, digest, calls, previous, own, number);
        UPDATE audit_chains SET sequence = head_sequence + cardinality(p_actors), hash = head_hash WHERE chain = p_chain;
        RETURN cardinality(p_actors);
    END
    $function$
"""

# For the owner alone. What is removed is the beginning of a chain; a record of it says up to where, and continues the proof.
_PRUNE = """
    CREATE FUNCTION audit_prune(p_before timestamptz) RETURNS bigint
    LANGUAGE plpgsql SET search_path = %(schema)s, pg_temp AS $function$
    DECLARE
        each record;
        removed bigint := 0;
        removed_here bigint;
        last_sequence bigint;
        last_hash bytea;
    BEGIN
        FOR each IN SELECT chain, sequence FROM audit_chains ORDER BY chain FOR NO KEY UPDATE LOOP
            SELECT coalesce(min(sequence) - 1, each.sequence) INTO last_sequence FROM audit_records
            WHERE chain = each.chain AND time >= p_before;
            SELECT hash INTO last_hash FROM audit_records WHERE chain = each.chain AND sequence = last_sequence;
            CONTINUE WHEN NOT FOUND;
            PERFORM set_config('flywheel.audit_prune', 'on', TRUE);
            DELETE FROM audit_records WHERE chain = each.chain AND sequence <= last_sequence;
            GET DIAGNOSTICS removed_here = ROW_COUNT;
            PERFORM set_config('flywheel.audit_prune', '', TRUE);
            removed := removed + removed_here;
            PERFORM audit_append(each.chain, ARRAY['database:' || session_user], ARRAY['database'], ARRAY['audit/prune'],
                ARRAY[concat_ws(':', each.chain, last_sequence, encode(last_hash, 'hex'))], ARRAY['CHANGED'], ARRAY['OK'],
                ARRAY[''], ARRAY[''], ARRAY[1::bigint]);
        END LOOP;
        RETURN removed;
    END
    $function$
"""

_REFUSE = (
    """
    CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $function$
    BEGIN
        IF TG_OP = 'DELETE' AND current_setting('flywheel.audit_prune', TRUE) = 'on' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'object_not_in_prerequisite_state';
    END
    $function$
""",
    """
    CREATE TRIGGER audit_records_append_only BEFORE UPDATE OR DELETE ON audit_records
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change()
""",
    """
    CREATE TRIGGER audit_records_no_truncate BEFORE TRUNCATE ON audit_records
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change()
""",
)

_RIGHTS = (
    f"REVOKE ALL ON FUNCTION audit_append({_APPEND_ARGUMENTS}) FROM PUBLIC",
    "REVOKE ALL ON FUNCTION audit_prune(timestamptz) FROM PUBLIC",
)

_DROP = (
    "DROP TABLE audit_records, audit_chains",
    "DROP FUNCTION audit_prune(timestamptz)",
    f"DROP FUNCTION audit_append({_APPEND_ARGUMENTS})",
    "DROP FUNCTION audit_refuse_change()",
)


def create_v1(service: str, schema: str) -> Sequence[str]:
    """Return the statements that make the audit trail of `service`; `schema` is where, quoted if it has to be."""
    names = {"service": service, "schema": schema}
    return [*_TABLES, _APPEND % names, _PRUNE % names, *_REFUSE, *_RIGHTS]


def drop_v1() -> Sequence[str]:
    """Return the statements that remove it, with all records."""
    return _DROP
