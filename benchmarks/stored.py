"""Services with much in their databases, and with little: what has been stored must not be what a reader pays for."""

import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.history.__main__ import fill
from benchmarks.lab import Lab
from benchmarks.servers import RunningServer, approval_service, incident_service, metrics_gateway
from benchmarks.turns import Effort
from flywheel.postgres.embedded import EmbeddedPostgres

# A tenth of the history belongs to the last 24 hours before it was made: an older one has less of it.
_MAX_AGE_SECONDS = 6 * 3600.0
_HISTORY = Path(__file__).with_name("history")
_MIGRATIONS = Path(__file__).parents[1] / "services"


@dataclass(frozen=True, slots=True)
class Stored:
    """The databases of both services with a history of so many incidents."""

    amount: int
    incident_url: str
    approval_url: str


@dataclass(frozen=True, slots=True)
class Services:
    """Both services on such databases, and their gateway."""

    stored: Stored
    incident: RunningServer
    approval: RunningServer
    gateway: RunningServer

    @property
    def processes(self) -> Mapping[str, int]:
        """All three, for a flame graph."""
        servers = {"incident": self.incident, "approval": self.approval, "gateway": self.gateway}
        return {name: server.process.pid for name, server in servers.items()}


@asynccontextmanager
async def much_and_little(lab: Lab, effort: Effort) -> AsyncIterator[tuple[Stored, Stored]]:
    """Databases with `effort.stored` incidents, many and few, in one PostgreSQL.

    That of many takes minutes and gigabytes: it is kept in the cache for some hours, and made anew after a change.
    """
    many, few = effort.stored
    folder = (lab.directory if effort.offline else lab.cache) / f"history-{many}"
    made = folder / "made"
    code = _fingerprint()
    if not made.exists() or made.read_text() != code or time.time() - made.stat().st_mtime > _MAX_AGE_SECONDS:
        with _running(folder) as postgres:
            postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    with _running(folder) as postgres:
        stored = [
            Stored(amount, postgres.url(f"incident_{amount}"), postgres.url(f"approval_{amount}"))
            for amount in (many, few)
        ]
        if not made.exists():
            lab.step(
                f"a history of {many:,} incidents is made in {folder}: minutes, and 10 KB for each; it can be removed at any time"
            )
            began = datetime.now(UTC)
            for each in stored:
                for service in ("incident", "approval"):
                    postgres.create_database(f"{service}_{each.amount}")
                await fill(each.amount, incident_url=each.incident_url, approval_url=each.approval_url)
            lab.step(f"it took {(datetime.now(UTC) - began).total_seconds():.0f} s")
            made.write_text(code)
        yield stored[0], stored[1]


@asynccontextmanager
async def serving(lab: Lab, *databases: Stored) -> AsyncIterator[Sequence[Services]]:
    """Run both services and a gateway on each."""
    async with AsyncExitStack() as stack:
        services: list[Services] = []
        for stored in databases:
            log = lab.directory / f"stored-{stored.amount}"
            incident = stack.enter_context(
                incident_service(stored.incident_url, log.with_suffix(".incident.log"))
            )
            approval = stack.enter_context(
                approval_service(
                    stored.approval_url, log.with_suffix(".approval.log"), incident=incident.address
                )
            )
            gateway = stack.enter_context(
                metrics_gateway(
                    {"incident": incident.address, "approval": approval.address},
                    log.with_suffix(".gateway.log"),
                )
            )
            services.append(Services(stored, incident, approval, gateway))
        yield services


@contextmanager
def _running(folder: Path) -> Iterator[EmbeddedPostgres]:
    folder.mkdir(parents=True, exist_ok=True)
    postgres = EmbeddedPostgres(folder / "postgres", durable=True)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


def _fingerprint() -> str:
    """What a history depends on: how it is made, and the tables."""
    files = [*_HISTORY.glob("*.py"), *_MIGRATIONS.glob("*/src/*/migrations/versions/*.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()
