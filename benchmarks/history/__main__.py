"""Fills new databases with a history: `python -m benchmarks.history --incidents N --incident-url … --approval-url …`.

Both databases must exist and be empty; they are migrated first. What is in them is described in `shape.py`. From Python:

    shape = Shape(incidents=1_000_000, until=datetime.now(UTC))
    await fill_incidents(incident_url, shape, step)
    await fill_approvals(approval_url, shape, step)

Use the same shape for both, so that the two tell one story. Every row is what the services write: keys and constraints hold,
counters are those of the rows, knowledge is indexed, the audit trail of the last day verifies. A million incidents take about
10 GB, 10,000 a second or two: tests use the small form (`tests/histories.py`).
"""

import argparse
import asyncio
import sys
from datetime import UTC, datetime

from benchmarks.errors import BenchmarkError
from benchmarks.history.approvals import fill_approvals
from benchmarks.history.incidents import fill_incidents
from benchmarks.history.shape import Shape
from servicekit.database.engine import create_engine
from servicekit.database.migrations import Migrations


async def migrate(url: str, service: str) -> None:
    """Bring a service's database to its newest schema."""
    engine = create_engine(url, application_name="benchmarks", pool_size=1, statement_timeout_seconds=0)
    try:
        await Migrations(f"{service}:migrations").upgrade(engine)
    finally:
        await engine.dispose()


async def fill(incidents: int, *, incident_url: str | None, approval_url: str | None) -> None:
    """Fill the databases that are named with one history."""
    shape = Shape(incidents=incidents, until=datetime.now(UTC))
    if incident_url is not None:
        await migrate(incident_url, "incident")
        await fill_incidents(incident_url, shape, _step)
    if approval_url is not None:
        await migrate(approval_url, "approval")
        await fill_approvals(approval_url, shape, _step)


def _step(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command line and return its exit code: 1 after any failure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--incidents", type=int, default=1_000_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--incident-url", help="libpq URL of a new database of the incident service")
    parser.add_argument("--approval-url", help="libpq URL of a new database of the approval service")
    arguments = parser.parse_args()
    if arguments.incident_url is None and arguments.approval_url is None:
        parser.error("nothing to fill: --incident-url, --approval-url or both")
    try:
        asyncio.run(
            fill(
                arguments.incidents, incident_url=arguments.incident_url, approval_url=arguments.approval_url
            )
        )
    except BenchmarkError as exc:
        print(f"history: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
