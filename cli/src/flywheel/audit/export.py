"""Exports of the audit trails, by the services' own commands."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from flywheel.errors import FlywheelError
from flywheel.stack.databases import SERVICES, service_databases
from flywheel.system.signals import raise_stop_signals
from flywheel.system.steps import Steps

_MAX_OUTPUT = 4_000


def export(data_dir: Path, output: Path | None, *, services: Sequence[str], heads_only: bool) -> None:
    """Write the audit trails, or their heads alone, one service after the other. A file appears when it is complete.

    Raises FlywheelError.
    """
    raise_stop_signals(once=True)
    if unknown := sorted({*services} - {*SERVICES}):
        raise FlywheelError(
            f"there is no service {', '.join(unknown)}", advice=f"there are {', '.join(SERVICES)}"
        )
    with service_databases(data_dir, Steps()) as databases, _opened(output) as stream:
        for service in SERVICES:
            if not services or service in services:
                command = "audit-heads" if heads_only else "audit-export"
                _run(service, command, databases.of(service), stream)


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    if output is None:
        yield sys.stdout.buffer
        return
    draft = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        # As for any record of who did what: for its owner alone.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(output)
    except OSError as exc:
        raise FlywheelError(f"{output} cannot be written: {exc.strerror}") from exc
    finally:
        draft.unlink(missing_ok=True)


def _run(service: str, command: str, environment: Mapping[str, str], stream: IO[bytes]) -> None:
    stream.flush()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", service, command],
            stdout=stream,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait()
        finally:
            process.kill()
        errors.seek(0)
        output = errors.read(_MAX_OUTPUT).decode(errors="replace").strip()
    if code != 0:
        raise FlywheelError(f"the audit trail of the {service} service was not exported", details=output)
