"""Measures the project's performance ratios: `python -m benchmarks`, or `python -m benchmarks P1` for one."""

import argparse
import asyncio
import signal
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
)
from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab, open_lab
from benchmarks.report.markdown import markdown
from benchmarks.report.picture import svg
from benchmarks.result import Result
from benchmarks.turns import FULL, RECORDED, SHORT, Effort
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
# What a profiler of processor time cannot say.
_NO_FLAMES = {
    "P10": "what is resident is libraries: the growth is the row above it.",
    "P11": "four interpreters load and migrate on the machine's cores.",
}
_RESULTS = Path(__file__).with_name("RESULTS.md")
_PICTURE = _RESULTS.with_suffix(".svg")


async def measure(
    names: Sequence[str], effort: Effort, directory: Path, cache: Path, *, flames: bool
) -> tuple[Sequence[Result], str]:
    """Run the named benchmarks in `directory` and return their results and the report of them."""
    # As Ctrl-C does: what was started is ended.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with open_lab(directory, cache, _step) as lab:
        results = [result for name in names for result in await _BENCHMARKS[name](lab, effort)]
        missed = dict.fromkeys(
            result.number for result in results if not (result.unmeasured or result.reached)
        )
        limits: list[str] = []
        for number in missed if flames else ():
            _step(f"{number} is missed: once more, with py-spy")
            with lab.recorder.benchmark(number) as notes:
                if number not in _NO_FLAMES:
                    await _BENCHMARKS[number](lab, RECORDED)
            limits += [*notes.values()] or [f"{number}: {_NO_FLAMES[number]}"]
        version = await lab.postgres_version()
        picture = _PICTURE.name if _is_whole(names, effort) else ""
        return results, markdown(results, postgres_version=version, limits=limits, picture=picture)


def _is_whole(names: Sequence[str], effort: Effort) -> bool:
    """Whether the results are kept: a part of a run beside older measurements would compare different days."""
    return list(names) == list(_BENCHMARKS) and not effort.offline


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
        "--no-flames", action="store_true", help="no second run with py-spy of what misses its goal"
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
    effort = SHORT if arguments.short else FULL
    try:
        results, text = asyncio.run(
            measure(
                names,
                effort,
                arguments.data_dir.resolve(),
                arguments.cache_dir.resolve(),
                flames=not (arguments.short or arguments.no_flames),
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
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    print(text, end="")
    if _is_whole(names, effort):
        _RESULTS.write_text(text, encoding="utf-8")
        _PICTURE.write_text(svg(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
