"""The databases of a command: those in the environment, or those of a local stack, running or not."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flywheel.errors import FlywheelError
from flywheel.postgres.binaries import without_libpq_variables
from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.system.file_lock import FileLock
from flywheel.system.steps import Steps

SERVICES = ("incident", "approval")


@dataclass(frozen=True, slots=True)
class ServiceDatabases:
    """The variables with each service's database, and the services whose database is the stack's own."""

    environment: dict[str, str]
    embedded: tuple[str, ...]

    def of(self, service: str) -> dict[str, str]:
        """Return the environment of a command of a service."""
        inherited = without_libpq_variables(os.environ) if service in self.embedded else os.environ
        return {**inherited, **self.environment}


@contextmanager
def service_databases(
    data_dir: Path, steps: Steps, *, services: Sequence[str] = SERVICES
) -> Iterator[ServiceDatabases]:
    """Yield the databases of these services. The PostgreSQL of a stack that does not run is started for the block and stopped after it.

    No stack can be started on `data_dir` meanwhile. Raises FlywheelError.
    """
    embedded = tuple(name for name in services if not _is_in_environment(name))
    if not embedded:
        yield ServiceDatabases({}, ())
        return
    folder = data_dir.resolve()
    variables = " and ".join(f"{name.upper()}_DATABASE_URL" for name in services)
    if not (folder / "postgres").is_dir():
        raise FlywheelError(
            f"there is no stack's data in {folder}",
            advice=f"name the stack's folder with --data-dir, or set {variables}",
        )
    database = EmbeddedPostgres(folder / "postgres", log_path=folder / "log" / "postgres.log")
    lock = FileLock(folder / "lock")
    stack_runs = not lock.acquire()
    started_here = False
    try:
        if not database.is_running():
            if stack_runs:
                raise FlywheelError(
                    f"the stack on {folder} is just being started or stopped", advice="try again in a moment"
                )
            started_here = True
        if stack_runs:
            database.join()
        else:
            with steps.shown():
                steps.step("starting PostgreSQL")
                database.start()
        for name in embedded:
            database.create_database(name)
        yield ServiceDatabases(
            {f"{name.upper()}_DATABASE_URL": database.url(name) for name in embedded}, embedded
        )
    finally:
        if started_here:
            with steps.shown():
                steps.step("stopping PostgreSQL")
                database.stop()
        if not stack_runs:
            lock.release()


def _is_in_environment(service: str) -> bool:
    variable = f"{service.upper()}_DATABASE_URL"
    return bool(os.environ.get(variable) or os.environ.get(f"{variable}_FILE"))
