"""Everything a benchmark measures with: one durable PostgreSQL, the service, the echo, and a way to say what goes on."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from awoooi.client import CallError, IncidentClient
from benchmarks.approvals import Approvals
from benchmarks.environment import Environment
from benchmarks.errors import BenchmarkError
from benchmarks.incidents import NOTE, Incidents
from benchmarks.protection import protect
from benchmarks.report.flames import Recorder
from benchmarks.servers import RunningServer, approval_service, echo_server, incident_service
from benchmarks.waiting import until_not
from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.system.file_lock import FileLock
from servicekit.database.engine import create_engine
from servicekit.database.migrations import Migrations

_DATABASE = "incident"
_TWIN = "incident_twin"
_APPROVAL = "approval"
_PROTECTED = "incident_protected"
_UNAUDITED = "incident_unaudited"
_DRAIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Lab:
    """The running processes, the incidents of the service's database, and those of a twin that no service works on."""

    postgres: EmbeddedPostgres
    service: RunningServer
    echo: RunningServer
    incidents: Incidents
    twins: Incidents
    step: Callable[[str], None]
    directory: Path
    cache: Path
    environment: Environment
    recorder: Recorder

    @asynccontextmanager
    async def approvals(self, incident: str = "") -> AsyncIterator[Approvals]:
        """Run an approval service on a database of its own, for this incident service or the one at an address."""
        url = await self.new_database(_APPROVAL, "approval")
        with approval_service(
            url, self.directory / "approval.log", incident=incident or self.service.address
        ) as service:
            async with open_connection(url) as connection:
                yield Approvals(service, connection)
        await self.drop_database(_APPROVAL)

    @asynccontextmanager
    async def protected(self) -> AsyncIterator[tuple[RunningServer, Incidents]]:
        """Run a second service, over mutual TLS and with tokens, on a database of its own."""
        url = await self.new_database(_PROTECTED)
        protection = protect(self.directory / "protection")
        log_path = self.directory / "protected.log"
        with incident_service(
            url, log_path, settings=protection.settings, access=protection.access
        ) as service:
            async with open_connection(url) as connection:
                yield service, Incidents(connection)

    @asynccontextmanager
    async def unaudited(self) -> AsyncIterator[tuple[RunningServer, Incidents]]:
        """Run a second service, in the clear and without its audit trail, on a database of its own."""
        url = await self.new_database(_UNAUDITED)
        log_path = self.directory / "unaudited.log"
        with incident_service(url, log_path, module="benchmarks.unaudited") as service:
            async with open_connection(url) as connection:
                yield service, Incidents(connection)

    async def new_database(self, name: str, service: str = "incident") -> str:
        """Make a database with the tables of a service, and return its URL; one of that name is removed."""
        url = await self.empty_database(name)
        await _migrate(url, service)
        return url

    async def empty_database(self, name: str) -> str:
        """Make a database without tables, and return its URL; one of that name is removed."""
        await self.drop_database(name)
        self.postgres.create_database(name)
        return self.postgres.url(name)

    async def drop_database(self, name: str) -> None:
        """Remove a database, if it exists."""
        async with open_connection(self.database_url) as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @property
    def database_url(self) -> str:
        """The service's database."""
        return self.postgres.url(_DATABASE)

    @property
    def twin_url(self) -> str:
        """The twin."""
        return self.postgres.url(_TWIN)

    async def postgres_version(self) -> str:
        """Return the server's version, such as 18.4."""
        async with open_connection(self.database_url) as connection:
            return str(await connection.fetchval("SHOW server_version"))

    @asynccontextmanager
    async def statements_logged(self) -> AsyncIterator[Callable[[], str]]:
        """Let PostgreSQL log every statement with its parameters; the value reads the log. A session applies it late."""
        async with open_connection(self.database_url) as connection:
            await connection.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
            await connection.execute("SELECT pg_reload_conf()")
            try:
                yield self.postgres.log_path.read_text
            finally:
                await connection.execute("ALTER SYSTEM RESET log_min_duration_statement")
                await connection.execute("SELECT pg_reload_conf()")

    def postgres_seconds(self) -> float:
        """Return the processor time that PostgreSQL's processes have used, those that ended included."""
        server = psutil.Process(self.postgres.pid)
        seconds = _own_and_ended_children(server)
        for process in server.children():
            # One that ends meanwhile is counted among the ended the next time.
            with suppress(psutil.NoSuchProcess):
                seconds += _own_and_ended_children(process)
        return seconds

    async def drained(self, incidents: Incidents | None = None) -> float:
        """Wait until no effect of the service's incidents, or of others, is left to do.

        Returns the seconds it took; raises BenchmarkError when it does not end.
        """
        return await until_not(
            (incidents or self.incidents).effects_pending,
            "the effects are",
            within=_DRAIN_SECONDS,
            log=self.service.log_path,
        )


def processes(lab: Lab, approvals: Approvals) -> Mapping[str, int]:
    """Both services of a pipeline, for a flame graph."""
    return {"approval": approvals.server.process.pid, "incident": lab.service.process.pid}


def _own_and_ended_children(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


@asynccontextmanager
async def open_lab(directory: Path, cache: Path, step: Callable[[str], None]) -> AsyncIterator[Lab]:
    """Start everything in `directory`, which is made, and stop and remove everything afterwards; `cache` is kept.

    What a killed run left there is cleared away first. Raises BenchmarkError when another run is using it.
    """
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    lock = FileLock(directory / "lock")
    if not lock.acquire():
        raise BenchmarkError(
            f"another benchmark runs (process {lock.holder()}): two at a time measure each other"
        )
    postgres = EmbeddedPostgres(directory / "postgres", durable=True)
    step("starting PostgreSQL and the incident service")
    try:
        async with AsyncExitStack() as stack:
            postgres.stop()
            shutil.rmtree(postgres.data_dir, ignore_errors=True)
            postgres.start()
            for database in (_DATABASE, _TWIN):
                postgres.create_database(database)
                await _migrate(postgres.url(database))
            service = stack.enter_context(
                incident_service(postgres.url(_DATABASE), directory / "incident.log")
            )
            incidents, twins = [
                Incidents(await stack.enter_async_context(open_connection(postgres.url(database))))
                for database in (_DATABASE, _TWIN)
            ]
            response = await _a_response(service, incidents)
            echo = stack.enter_context(echo_server(response, directory / "echo.log"))
            environment = Environment(cache, step)
            recorder = Recorder(cache / "flames", environment)
            lab = Lab(
                postgres, service, echo, incidents, twins, step, directory, cache, environment, recorder
            )
            await lab.drained()
            yield lab
    finally:
        postgres.stop()
        lock.release()
        shutil.rmtree(directory, ignore_errors=True)


async def _migrate(database_url: str, service: str = "incident") -> None:
    engine = create_engine(database_url, application_name="benchmarks", pool_size=1)
    await Migrations(f"{service}:migrations").upgrade(engine)
    await engine.dispose()


@asynccontextmanager
async def open_connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the benchmark's own."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def _a_response(service: RunningServer, incidents: Incidents) -> bytes:
    """Return what the service answers to a Resolve: the message that the echo answers with."""
    await incidents.investigating(1)
    async with IncidentClient(service.address) as client:
        try:
            response = await client.resolve(incidents.id(0), resolution_type="NO_ACTION", note=NOTE)
        except CallError as exc:
            raise BenchmarkError(f"a first Resolve failed: {exc}") from exc
    return response.SerializeToString()
