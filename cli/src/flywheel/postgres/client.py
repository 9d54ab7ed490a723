"""The two commands to a running server: a health check, and the creation of a database."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from flywheel.errors import FlywheelError
from flywheel.postgres.binaries import PostgresBinaries, program_environment
from flywheel.postgres.socket import PORT

# psql quotes :'name', format quotes %I: any name is safe.
_CREATE_DATABASE = r"""
SELECT format('CREATE DATABASE %I', :'name')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
"""


@dataclass(frozen=True, slots=True)
class PostgresClient:
    """psql on the socket in `socket_directory`."""

    binaries: PostgresBinaries
    socket_directory: Path

    def responds(self, timeout_seconds: float) -> bool:
        """Whether the server executes a statement now. Raises TimeoutError when it neither does nor refuses."""
        try:
            return self._run(statement="SELECT 1", timeout_seconds=timeout_seconds).returncode == 0
        except subprocess.TimeoutExpired as exc:
            raise TimeoutError from exc

    def create_database(self, name: str) -> None:
        """Create a database unless it exists. Raises FlywheelError when the server refuses."""
        result = self._run(f"--set=name={name}", statement=_CREATE_DATABASE, timeout_seconds=None)
        # Another process may have created it between the check and the creation.
        if result.returncode != 0 and "already exists" not in result.stderr:
            raise FlywheelError(f"cannot create the database {name}", details=f"    {result.stderr.strip()}")

    def _run(
        self, *options: str, statement: str, timeout_seconds: float | None
    ) -> subprocess.CompletedProcess[str]:
        command = [self.binaries.psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *options]
        command += [
            f"--host={self.socket_directory}",
            f"--port={PORT}",
            "--username=postgres",
            "--dbname=postgres",
        ]
        return subprocess.run(
            command,
            input=statement,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=timeout_seconds,
            cwd="/",
            env=program_environment(),
        )
