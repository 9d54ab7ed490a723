"""The other side of P5: an approval's three steps as a DBOS workflow. Run by the interpreter of the benchmarks' own environment.

Usage: `python workflow.py URL OUTSTANDING`. For each line of standard input, a number of approvals, it makes that many with their
incidents, brings them through the workflow, and prints the seconds from the first start to the last end.

Each step is one transaction with its rows and DBOS's record of it: DBOS's fastest way to a step that takes effect once. All is one
process and one database, without a call between two services: what is left out would cost DBOS more, never less.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from dbos import DBOS, SQLAlchemyDatasource

_TABLES = """
DROP TABLE IF EXISTS approvals, approval_decisions, incidents, incident_events;
CREATE TABLE approvals (
    approval_id text PRIMARY KEY, incident_id text NOT NULL, action text NOT NULL, state text NOT NULL,
    decide_time timestamptz, finish_time timestamptz);
CREATE TABLE approval_decisions (
    approval_id text NOT NULL, actor text NOT NULL, decide_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (approval_id, actor));
CREATE TABLE incidents (
    incident_id text PRIMARY KEY, title text NOT NULL, state text NOT NULL, resolve_time timestamptz);
CREATE TABLE incident_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, incident_id text NOT NULL, type text NOT NULL,
    event_time timestamptz NOT NULL DEFAULT now(), summary text NOT NULL);
"""
_FILL = sa.text("""
WITH numbers AS (SELECT :turn || '-' || n AS id FROM generate_series(1, :amount) AS n), opened AS (
    INSERT INTO incidents SELECT 'INC-' || id, 'CPU of api beyond its threshold for 10 minutes', 'INVESTIGATING' FROM numbers
)
INSERT INTO approvals SELECT 'APR-' || id, 'INC-' || id, 'NO_ACTION: observe first', 'PENDING' FROM numbers
RETURNING approval_id, incident_id
""")
_APPROVE = sa.text("""
WITH decided AS (
    UPDATE approvals SET state = 'APPROVED', decide_time = now() WHERE approval_id = :approval_id AND state = 'PENDING'
    RETURNING approval_id
)
INSERT INTO approval_decisions SELECT approval_id, 'human:alice' FROM decided
""")
_EXECUTE = sa.text("""
UPDATE approvals SET state = 'SUCCEEDED', finish_time = now() WHERE approval_id = :approval_id AND state = 'APPROVED'
""")
_RESOLVE = sa.text("""
WITH resolved AS (
    UPDATE incidents SET state = 'RESOLVED', resolve_time = now() WHERE incident_id = :incident_id AND state <> 'RESOLVED'
    RETURNING incident_id
)
INSERT INTO incident_events (incident_id, type, summary) SELECT incident_id, 'RESOLVED', 'NO_ACTION' FROM resolved
""")
_LEFT = sa.text("SELECT count(*) FROM incidents WHERE state <> 'RESOLVED'")


def main(url: str, outstanding: int) -> None:
    """Answer each line until the input ends."""
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    DBOS(
        config={
            "name": "benchmarks",
            "system_database_url": url,
            "max_executor_threads": outstanding,
            "sys_db_pool_size": outstanding,
            "log_level": "ERROR",
        }
    )
    rows = SQLAlchemyDatasource.create(url, engine_kwargs={"pool_size": outstanding, "max_overflow": 0})

    @rows.transaction(isolation_level="READ COMMITTED")
    def approve(approval_id: str) -> None:
        rows.sql_session().execute(_APPROVE, {"approval_id": approval_id})

    @rows.transaction(isolation_level="READ COMMITTED")
    def execute(approval_id: str) -> None:
        rows.sql_session().execute(_EXECUTE, {"approval_id": approval_id})

    @rows.transaction(isolation_level="READ COMMITTED")
    def resolve(incident_id: str) -> None:
        rows.sql_session().execute(_RESOLVE, {"incident_id": incident_id})

    @DBOS.workflow()
    def heal(approval_id: str, incident_id: str) -> None:
        approve(approval_id)
        execute(approval_id)
        resolve(incident_id)

    DBOS.launch()
    with rows.engine.begin() as connection:
        connection.exec_driver_sql(_TABLES)
    callers = ThreadPoolExecutor(outstanding)
    print("ready", flush=True)
    for turn, line in enumerate(sys.stdin):
        with rows.engine.begin() as connection:
            pending = connection.execute(_FILL, {"turn": str(turn), "amount": int(line)}).fetchall()
        started = time.perf_counter()
        # Called, and not only started: a start alone waits for its commit, one after the other.
        for _ in callers.map(lambda ids: heal(*ids), pending):
            pass
        print(time.perf_counter() - started, flush=True)
        with rows.engine.begin() as connection:
            left = connection.execute(_LEFT).scalar_one()
        if left:
            sys.exit(f"{left} incidents are not RESOLVED")
    callers.shutdown()
    DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
