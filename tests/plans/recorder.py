"""A service that records how it executes each of its statements: `python -m tests.plans.recorder incident serve`.

Before a statement runs, it is explained with its parameters on the same connection, in the generic plan that the service
keeps, and what that changed is rolled back. A line of JSON for each is appended to the file named by RECORDED_PLANS.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.util import await_only

FILE_VARIABLE = "RECORDED_PLANS"
_EXPLAINED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "(")
# They are held by the session: rolling back would not release them.
_SESSION_LOCKS = ("pg_advisory_lock", "pg_advisory_unlock")


def is_explained(statement: str) -> bool:
    """Return whether a statement has a plan."""
    text = statement.lstrip()
    return text.startswith(_EXPLAINED) and not any(lock in text for lock in _SESSION_LOCKS)


async def explain(driver: Any, statement: str, parameters: Any) -> Any:
    """Return how PostgreSQL executes a statement with its generic plan, which rows included; nothing stays of it."""
    await driver.execute(f"PREPARE recorded_plan AS {statement}")
    transaction = driver.transaction()
    try:
        await transaction.start()
        try:
            arguments = await _literals(driver, parameters)
            options = "ANALYZE, TIMING OFF, BUFFERS, FORMAT JSON"
            (found,) = _decoded(
                await driver.fetchval(f"EXPLAIN ({options}) EXECUTE recorded_plan{arguments}")
            )
        finally:
            await transaction.rollback()
    finally:
        await driver.execute("DEALLOCATE recorded_plan")
    return found


async def _literals(driver: Any, parameters: Any) -> str:
    if not parameters:
        return ""
    types = await driver.fetchval(
        "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'recorded_plan'"
    )
    columns = ", ".join(f"quote_nullable(${n}::{name}::text)" for n, name in enumerate(types, 1))
    row = await driver.fetchrow(f"SELECT {columns}", *parameters)
    return f"({', '.join(row)})"


def _decoded(plan: Any) -> Any:
    # SQLAlchemy teaches a connection to read JSON at its first use.
    return json.loads(plan) if isinstance(plan, str) else plan


def record_plans(file: Path) -> None:
    """Record the statements of every engine of this process from now on."""
    output = file.open("a", buffering=1)

    def record(
        connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> None:
        if not is_explained(statement):
            return
        driver = connection.connection.dbapi_connection.driver_connection
        found = await_only(explain(driver, statement, parameters))
        output.write(json.dumps({"statement": statement, "plan": found["Plan"]}) + "\n")

    event.listen(Engine, "before_cursor_execute", record)


def main() -> None:
    """Run the service that the first argument names."""
    package = sys.argv.pop(1)
    module = importlib.import_module(f"{package}.__main__")
    record_plans(Path(os.environ[FILE_VARIABLE]))
    module.main()


if __name__ == "__main__":
    main()
