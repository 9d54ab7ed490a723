"""What every plan of a service has to be: reads by indexes, so many rows as the work has, on a full and on an empty database."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import asyncpg
import pytest

from servicekit.database.engine import create_engine
from servicekit.database.examined import MAX_EXAMINED
from tests.plans.plan import Plan

# Tables that do not grow with what is stored.
SMALL = frozenset(
    {
        "alembic_version",
        "audit_chains",
        "pg_database",
        "service_keys",
        "watch_epoch",
        "removed_approvals",
        "counters",
    }
)
# What a statement touches for a page, a batch or a record.
ROWS = 600
# Of lists whose criteria no index has, and of where they end.
_EXAMINING = (") AS examined", "OFFSET $", f"LIMIT {MAX_EXAMINED}", f"OFFSET {MAX_EXAMINED - 1}")


def refuse_scans(plans: Iterable[Plan]) -> None:
    """Fail when a growing table was read from end to end."""
    found = {str(plan) for plan in plans if set(plan.scanned()) - SMALL}
    assert not found, "\n\n".join(sorted(found))


def refuse_more_rows(plans: Iterable[Plan], bounds: Mapping[str, int]) -> None:
    """Fail when a statement touched more than ROWS rows; `bounds` has those of statements with other ones, by a part of them."""
    found = {str(plan) for plan in plans if plan.rows_touched > _bound(plan, bounds)}
    assert not found, "\n\n".join(sorted(found))


def _bound(plan: Plan, bounds: Mapping[str, int]) -> int:
    if any(part in plan.statement for part in _EXAMINING):
        return MAX_EXAMINED + ROWS
    return next((rows for part, rows in bounds.items() if part in plan.statement), ROWS)


def refuse_missing(plans: Iterable[Plan], statements: Mapping[str, str], exempt: Mapping[str, str]) -> None:
    """Fail for each statement that was not executed; `exempt` has the reasons of those that need not be, by module or name."""
    executed = {plan.statement for plan in plans}
    missing = {name for name, text in statements.items() if text not in executed}
    missing = {name for name in missing if not any(name.startswith(each) for each in exempt)}
    assert not missing, f"no test has seen the plan of {sorted(missing)}"
    unused = {each for each in exempt if not any(name.startswith(each) for name in statements)}
    assert not unused, f"there is no statement {sorted(unused)}"


async def plans_when_empty(url: str, plans: Iterable[Plan]) -> Sequence[tuple[Plan, Plan]]:
    """Return each statement's plan with the one that a service keeps which has planned it while its tables were empty."""
    engine = create_engine(url, application_name="tests", pool_size=1, statement_timeout_seconds=0)
    distinct = {each.statement: each for each in plans}
    try:
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            return [(plan, await _plan(driver, plan.text)) for plan in distinct.values()]
    finally:
        await engine.dispose()


async def _plan(driver: "asyncpg.Connection[asyncpg.Record]", statement: str) -> Plan:
    await driver.execute(f"PREPARE empty_plan AS {statement}")
    count = await driver.fetchval(
        "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'empty_plan'"
    )
    arguments = f"({', '.join(['NULL'] * count)})" if count else ""
    (found,) = await driver.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE empty_plan{arguments}")
    await driver.execute("DEALLOCATE empty_plan")
    return Plan(statement, found["Plan"])


def refuse_other_ways(pairs: Iterable[tuple[Plan, Plan]], statements: Collection[str] = ()) -> None:
    """Fail when a plan of an empty database reads a table in a way that the one over a history does not."""
    found: list[str] = []
    for full, empty in pairs:
        others = {each for each in empty.read() - full.read() if each[0] not in SMALL}
        if others and not any(part in full.statement for part in statements):
            found.append(
                f"{sorted(others)} in place of {sorted(full.read() - empty.read())}: {full.statement[:600]}"
            )
    if found:
        pytest.fail("\n\n".join(sorted(found)))
