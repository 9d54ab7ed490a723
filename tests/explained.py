"""How much statements read, by PostgreSQL's own count and by its plans: the same on every machine."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

# A statement of which a run read the rows, by the statement's text.
RowsRead = dict[str, int]


async def rows_read(engine: AsyncEngine, run: Callable[[AsyncConnection], Awaitable[object]]) -> RowsRead:
    """Return how many rows each statement of `run` reads from tables and indexes, those it filters out included."""
    statements: list[tuple[str, Any]] = []

    def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        statements.append((statement, parameters))

    async with engine.connect() as connection:
        event.listen(engine.sync_engine, "before_cursor_execute", remember)
        try:
            await run(connection)
        finally:
            event.remove(engine.sync_engine, "before_cursor_execute", remember)
        driver: Any = (await connection.get_raw_connection()).driver_connection
        found: RowsRead = {}
        for statement, parameters in statements:
            explained = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
            # SQLAlchemy has taught the connection to read JSON.
            (root,) = await driver.fetchval(explained, *parameters)
            found[statement] = round(sum(map(_rows, _nodes(root["Plan"]))))
    return found


async def scans(
    engine: AsyncEngine, run: Callable[[AsyncConnection], Awaitable[object]]
) -> Mapping[str, Collection[str]]:
    """Return the tables that the statements of `run` scan, and for each the index conditions; "" of a scan without one.

    On an empty database: the services keep the plans that they made then.
    """
    found: dict[str, set[str]] = {}
    statements: list[tuple[str, Any]] = []

    def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        statements.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", remember)
    try:
        async with engine.begin() as connection:
            await run(connection)
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", remember)
    async with engine.connect() as connection:
        for statement, parameters in statements:
            explained = await connection.exec_driver_sql(
                f"EXPLAIN (FORMAT JSON) {statement}", tuple(parameters)
            )
            for node in _nodes(explained.scalar_one()[0]["Plan"]):
                if "Scan" in node["Node Type"] and "Relation Name" in node:
                    found.setdefault(node["Relation Name"], set()).add(node.get("Index Cond", ""))
    return found


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _rows(node: Mapping[str, Any]) -> float:
    """How many rows a scan of a table or an index has read."""
    if "Relation Name" not in node and "Index Name" not in node:
        return 0
    removed = sum(count for name, count in node.items() if name.startswith("Rows Removed by"))
    rows: float = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return rows
