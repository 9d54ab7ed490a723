"""Measures the project's performance ratios: `python -m benchmarks`, or `python -m benchmarks P1` for one."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import (
    p1_resolve,
    p2_replay,
    p3_latency,
    p4_approve,
    p5_pipeline,
    p6_drain,
    p7_metrics,
    p8_exporter,
    p9_pages,
    p10_memory,
    p11_start,
    p13_protection,
    p14_alerts,
    report,
)
from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab, open_lab
from benchmarks.result import Result
from benchmarks.turns import FULL, SHORT, Effort
from flywheel.errors import FlywheelError

_BENCHMARKS: Mapping[str, Callable[[Lab, Effort], Awaitable[Sequence[Result]]]] = {
    "P1": p1_resolve.measure,
    "P2": p2_replay.measure,
    "P3": p3_latency.measure,
    "P4": p4_approve.measure,
    "P5": p5_pipeline.measure,
    "P6": p6_drain.measure,
    "P7": p7_metrics.measure,
    "P8": p8_exporter.measure,
    "P9": p9_pages.measure,
    "P10": p10_memory.measure,
    "P11": p11_start.measure,
    "P13": p13_protection.measure,
    "P14": p14_alerts.measure,
}
_RESULTS = Path(__file__).with_name("RESULTS.md")


async def measure(names: Sequence[str], effort: Effort, directory: Path, cache: Path) -> str:
    """Run the named benchmarks in `directory` and return their report."""
    async with open_lab(directory, cache, _step) as lab:
        results = [result for name in names for result in await _BENCHMARKS[name](lab, effort)]
        return report.markdown(results, postgres_version=await lab.postgres_version())


def _step(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command line and return its exit code: 1 after any failure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="P", help=f"which (default: {' '.join(_BENCHMARKS)})")
    parser.add_argument(
        "--short", action="store_true", help="a few calls each: shows that it works, measures nothing"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(".flywheel/benchmarks"),
        help="made for the run and removed after it, on the disk that is to be measured (default: %(default)s)",
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=Path(".flywheel/cache"),
        help="kept: what is installed to be measured against (default: %(default)s)",
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(_BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(_BENCHMARKS)}")
    names = arguments.names or list(_BENCHMARKS)
    try:
        text = asyncio.run(
            measure(
                names,
                SHORT if arguments.short else FULL,
                arguments.data_dir.resolve(),
                arguments.cache_dir.resolve(),
            )
        )
    except BenchmarkError as exc:
        print(f"benchmarks: {exc}", file=sys.stderr)
        return 1
    except FlywheelError as exc:
        print(
            "\n".join(filter(None, (f"benchmarks: {exc.message}", exc.details, exc.advice))), file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        return 130
    print(text, end="")
    # What is kept is a whole run: a part of one beside older measurements would compare different days.
    if names == list(_BENCHMARKS) and not arguments.short:
        _RESULTS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
