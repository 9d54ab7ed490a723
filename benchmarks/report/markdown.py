"""The table: each ratio beside its goal, what it was measured on, and both sides of it."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import psutil

from benchmarks.result import Result

_PACKAGES = ("grpcio", "protobuf", "SQLAlchemy", "asyncpg", "uvloop")

_HOW = """\
Both sides of a ratio are measured in one run, in turns. A ratio is that of the medians; in brackets the least and the
greatest of a single turn. Processor time is that of one call in microseconds: the server + PostgreSQL + the load
generator, effects included. A turn is bounded by calls and not by time: 5,000 where 64 are outstanding (half of it for P5),
500 where one waits for each, 10,000 deliveries (P6), 50 scrapes (P7, P8) or 100 pages (P9). P8 and P11 have five turns, P6
too, for each takes up to a minute; P10 has one, which takes minutes."""


def markdown(
    results: Sequence[Result], *, postgres_version: str, limits: Sequence[str] = (), picture: str = ""
) -> str:
    """Return the report of `results` as Markdown; `limits` says what the missed goals are limited by, `picture` is a file."""
    ratios = _table(
        ("#", "what", "against", "ratio", "goal", ""),
        [
            (
                result.number,
                result.what,
                result.against,
                "not measured"
                if result.unmeasured
                else f"**{result.ratio:.2f}** ({min(result.ratios):.2f} to {max(result.ratios):.2f})",
                f"{result.goal.value} {result.limit:.2f}",
                result.unmeasured or ("reached" if result.reached else "not reached"),
            )
            for result in results
        ],
    )
    sides = _table(
        ("#", "side", "median", "least", "greatest", "", "turns", "processor time"),
        [
            (
                result.number,
                side.name,
                _figure(side.median),
                _figure(min(side.turns)),
                _figure(max(side.turns)),
                side.unit,
                str(len(side.turns)),
                side.processor,
            )
            for result in results
            for side in result.sides
        ],
    )
    notes = "\n".join(f"- {note}" for result in results for note in result.notes)
    drawn = f"![Each ratio against its goal]({picture})" if picture else ""
    limited = "\n".join(["## Where the time of the missed goals goes\n", *(f"- {limit}" for limit in limits)])
    parts = [
        "# Performance ratios",
        _measured_on(postgres_version),
        ratios,
        drawn,
        _HOW,
        sides,
        notes,
        limited if limits else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _measured_on(postgres_version: str) -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{cores} cores, {memory:.0f} GiB of memory, {platform.system()} {platform.release()}"
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _PACKAGES)]
    return (
        f"{datetime.now(UTC):%d %B %Y}; {machine}, {platform.machine()}; "
        f"{', '.join(versions)}, PostgreSQL {postgres_version} (every commit flushed to disk)."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - three digits say enough
