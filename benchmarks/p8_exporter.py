"""P8: how long `/metrics` takes with a long history, against a general exporter that answers the same figures by queries."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median

import httpx2

from benchmarks.errors import BenchmarkError
from benchmarks.exporter_side.process import exporter_is_there, postgres_exporter
from benchmarks.lab import Lab
from benchmarks.p7_metrics import TIMEOUT_SECONDS, scrape
from benchmarks.result import Goal, Result, Side
from benchmarks.servers import RunningServer
from benchmarks.stored import much_and_little, serving
from benchmarks.turns import FEW_TURNS, Effort

_FIGURES = {"incident": "incidents_opened_total", "approval": "approvals_now"}


async def measure(lab: Lab, effort: Effort) -> Sequence[Result]:
    """Measure in turns: so many scrapes of the gateway as in P7, two of the exporters, each of which may take seconds."""
    missing = "" if exporter_is_there() or not effort.offline else "prometheus-postgres-exporter is not there"
    turns = min(effort.turns, FEW_TURNS)
    scrapes = max(effort.calls_one_caller // 10, 2)
    ours: list[float] = []
    theirs: list[float] = []
    async with much_and_little(lab, effort) as (stored, _), serving(lab, stored) as (services,):
        with ExitStack() as stack:
            http = stack.enter_context(httpx2.Client(trust_env=False, timeout=TIMEOUT_SECONDS))
            exporters = [
                stack.enter_context(postgres_exporter(service, url, lab.directory))
                for service, url in (("incident", stored.incident_url), ("approval", stored.approval_url))
                if not missing
            ]
            for exporter, figure in zip(exporters, _FIGURES.values(), strict=False):
                _expect_figure(http, exporter, figure)
            pool = stack.enter_context(ThreadPoolExecutor(2))
            for turn in range(turns + 1):
                lab.step(f"P8: turn {turn} of {turns}")
                with lab.recorder.recording(services.processes):
                    gateway = median(scrape(http, services.gateway.address) for _ in range(scrapes))
                both = [_both(pool, http, exporters) for _ in range(2)]
                # The first turn fills caches and pools.
                if turn > 0:
                    ours.append(gateway * 1e3)
                    theirs.append(median(both) * 1e3)
    sides = [Side("a scrape of the gateway", "ms", ours)]
    return [
        Result(
            number="P8",
            what=f"`/metrics` of the gateway with {stored.amount:,} incidents, approvals and executions",
            against="Debian's prometheus-postgres-exporter, one for each database, with the same figures as custom queries",
            goal=Goal.AT_MOST,
            limit=0.2,
            sides=sides if missing else [*sides, Side("a scrape of both exporters at a time", "ms", theirs)],
            ratio_of=lambda sides: sides[0] / sides[1],
            unmeasured=missing,
        )
    ]


def _both(pool: ThreadPoolExecutor, http: httpx2.Client, exporters: Sequence[RunningServer]) -> float:
    """Return the seconds until the slower of the exporters has answered; 0 without any."""
    return max(pool.map(lambda exporter: scrape(http, exporter.address), exporters), default=0.0)


def _expect_figure(http: httpx2.Client, exporter: RunningServer, figure: str) -> None:
    text = http.get(f"http://{exporter.address}/metrics").text
    if f"\n{figure}{{" not in text:
        raise BenchmarkError(f"the exporter has no {figure}; it says {exporter.log_path.read_text()[-2000:]}")
