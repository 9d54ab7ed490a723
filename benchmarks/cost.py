"""What Resolves, stored incidents and scrapes cost: `python -m benchmarks.cost`, the figures of docs/scaling.md.

On a durable PostgreSQL of its own, with the real services and schema. A ratio needs two sides in turns; what is counted here (bytes,
rows, commits, flushes) depends little on the machine and its other work, processor time does.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from awoooi.client import StatsClient
from benchmarks.errors import BenchmarkError
from benchmarks.incidents import RESOLVE_PATH
from benchmarks.lab import Lab, open_lab
from benchmarks.load import make_load
from flywheel.errors import FlywheelError
from flywheel.system.log_files import tail

_SCRAPES = 100

# Of all sessions. A session reports what it did when it is idle for a moment, the WAL writer within its pause.
_READ = """
    SELECT pg_current_wal_insert_lsn() - '0/0' AS wal_bytes,
        (SELECT wal_fpi FROM pg_stat_wal) AS full_pages,
        (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
        (SELECT coalesce(sum(fsyncs), 0)::bigint FROM pg_stat_io WHERE object = 'wal') AS flushes
"""
_TABLES = """
    SELECT relname, pg_table_size(oid) AS rows, pg_indexes_size(oid) AS indexes FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_SETTLED_SECONDS = 2.0

# The bytes of rows and of indexes, by table.
Sizes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Cost:
    """What so many Resolves cost, their effects included."""

    outstanding: int
    resolves: int
    counted: Mapping[str, float]
    jobs: int
    service_seconds: float
    postgres_seconds: float

    def row(self) -> str:
        """Return a row of the table."""
        each = {name: value / self.resolves for name, value in self.counted.items()}
        columns = (
            str(self.outstanding),
            f"{each['wal_bytes']:,.0f}",
            f"{each['full_pages']:.2f}",
            f"{each['commits']:.2f}",
            f"{each['flushes']:.2f}",
            f"{self.jobs / self.resolves:.0f}",
            f"{self.service_seconds / self.resolves * 1e6:,.0f}",
            f"{self.postgres_seconds / self.resolves * 1e6:,.0f}",
        )
        return f"| {' | '.join(columns)} |"


async def measure(lab: Lab, resolves: int) -> str:
    """Return the report."""
    async with _connected(lab) as connection:
        lines = [
            "Of a Resolve with its five effects:",
            "",
            "| outstanding | WAL bytes | full pages | commits | flushes | jobs | service µs | PostgreSQL µs |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines.append((await _resolves(lab, connection, 1, max(resolves // 10, 10))).row())
        await lab.incidents.investigating(0)
        empty = await _sizes(connection)
        lines.append((await _resolves(lab, connection, 64, resolves)).row())
        await connection.execute("VACUUM ANALYZE")
        lines += ["", *_stored(empty, await _sizes(connection), resolves)]
        lines += ["", await _scrapes(lab)]
    return "\n".join(lines) + "\n"


async def _resolves(
    lab: Lab, connection: "asyncpg.Connection[asyncpg.Record]", outstanding: int, amount: int
) -> Cost:
    lab.step(f"{amount} Resolves, {outstanding} outstanding")
    await lab.incidents.investigating(amount)
    # Afterwards the first change of each page is written to the WAL as a whole page, as after any checkpoint.
    await connection.execute("CHECKPOINT")
    await asyncio.sleep(_SETTLED_SECONDS)
    before = await _read(connection)
    service, postgres = lab.service.processor_seconds(), lab.postgres_seconds()
    make_load(
        lab.service.address,
        RESOLVE_PATH,
        lab.incidents.requests(range(amount)),
        outstanding=outstanding,
        connections=min(outstanding, 4),
    )
    await lab.drained()
    service, postgres = lab.service.processor_seconds() - service, lab.postgres_seconds() - postgres
    await asyncio.sleep(_SETTLED_SECONDS)
    after = await _read(connection)
    jobs = int(await connection.fetchval("SELECT count(*) FROM outbox") or 0)
    counted = {name: after[name] - before[name] for name in before}
    return Cost(outstanding, amount, counted, jobs, service, postgres)


async def _sizes(connection: "asyncpg.Connection[asyncpg.Record]") -> Sizes:
    return {row["relname"]: (row["rows"], row["indexes"]) for row in await connection.fetch(_TABLES)}


def _stored(empty: Sizes, found: Sizes, amount: int) -> list[str]:
    """Return the lines on what so many incidents take, as they lie after the load and a vacuum."""
    sizes = {
        name: ((rows - empty[name][0]) / amount, (indexes - empty[name][1]) / amount)
        for name, (rows, indexes) in found.items()
    }
    total = sum(rows + indexes for rows, indexes in sizes.values())
    lines = [
        f"Of a stored incident, resolved once, with all its rows: {total:,.0f} bytes.",
        "",
        "| table | bytes of rows | bytes of indexes |",
        "|---|---|---|",
    ]
    by_size = sorted(sizes.items(), key=lambda each: -sum(each[1]))
    lines += [
        f"| {name} | {rows:,.0f} | {indexes:,.0f} |"
        for name, (rows, indexes) in by_size
        if rows + indexes >= 1
    ]
    return lines


async def _scrapes(lab: Lab) -> str:
    """Return the line on GetFlywheelStats, which the gateway calls once a scrape and service."""
    async with StatsClient(lab.service.address) as client:
        await client.get_flywheel_stats()
        service, postgres = lab.service.processor_seconds(), lab.postgres_seconds()
        for _ in range(_SCRAPES):
            await client.get_flywheel_stats()
        service, postgres = lab.service.processor_seconds() - service, lab.postgres_seconds() - postgres
    return (
        f"Of GetFlywheelStats: {service / _SCRAPES * 1e6:,.0f} µs of the service, "
        f"{postgres / _SCRAPES * 1e6:,.0f} µs of PostgreSQL."
    )


async def _read(connection: "asyncpg.Connection[asyncpg.Record]") -> Mapping[str, float]:
    row = await connection.fetchrow(_READ)
    assert row is not None
    return {name: float(value) for name, value in row.items()}


@asynccontextmanager
async def _connected(lab: Lab) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(lab.database_url)
    try:
        yield connection
    finally:
        await connection.close()


def _step(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _run(directory: Path, resolves: int) -> str:
    async with open_lab(directory, directory, _step) as lab:
        try:
            return await measure(lab, resolves)
        except BenchmarkError as exc:
            raise BenchmarkError(
                f"{exc}; the service's log ends with:\n{tail(lab.service.log_path)}"
            ) from exc


def main() -> int:
    """Run the command line and return its exit code: 1 after any failure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--resolves", type=int, default=10_000, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(".flywheel/benchmarks"),
        help="made for the run and removed after it (default: %(default)s)",
    )
    arguments = parser.parse_args()
    try:
        text = asyncio.run(_run(arguments.data_dir.resolve(), arguments.resolves))
    except (BenchmarkError, FlywheelError) as exc:
        print(f"benchmarks: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
