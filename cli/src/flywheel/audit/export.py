"""`flywheel audit export`, `heads` and `verify`."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

from flywheel.audit.lines import BadLineError
from flywheel.audit.verification import Head, Section, Verifier, read_heads
from flywheel.errors import FlywheelError
from flywheel.stack.databases import SERVICES, service_databases
from flywheel.system.signals import raise_stop_signals
from flywheel.system.steps import Steps

# More would say nothing more.
_MAX_SHOWN = 20
# A record with a thousand ids has about 40,000 bytes.
_MAX_LINE_BYTES = 4_194_304
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


def verify_file(file: Path, anchor_files: Sequence[Path]) -> None:
    """Verify an export and print what it has. Raises FlywheelError with what is wrong."""
    anchors = [head for path in anchor_files for head in _anchors(path)]
    verifier = Verifier(anchors)
    with _reading(file) as lines:
        problems = list(islice(verifier.problems(lines), _MAX_SHOWN + 1))
    if problems:
        shown = [
            f"{file}:{each.line}: {each.reason}" if each.line else f"{file}: {each.reason}"
            for each in problems
        ]
        more = ["and more"] if len(shown) > _MAX_SHOWN else []
        raise FlywheelError(
            f"{file} is not an unchanged export", details="\n".join([*shown[:_MAX_SHOWN], *more])
        )
    for section in verifier.sections.values():
        print(_summary(section))  # noqa: T201 - the result of the command
    if not anchors:
        print(  # noqa: T201 - the result of the command
            "no head was given: this proves that nothing was changed since the export, not that its end is the last record"
        )


def _summary(section: Section) -> str:
    parts = [f"{section.service}: {section.records} records of {section.calls} calls, unchanged"]
    if section.records:
        parts.append(f"{section.first_time} to {section.last_time}")
    if section.pruned:
        parts.append(f"the beginning of {section.pruned} chains was removed, which they say")
    if section.anchored:
        parts.append(f"{section.anchored} given heads are in it")
    return "; ".join(parts)


def _anchors(path: Path) -> Sequence[Head]:
    try:
        with _reading(path) as lines:
            heads = list(read_heads(lines))
    except BadLineError as exc:
        raise FlywheelError(f"{path} is neither a file of heads nor an export: a line {exc}") from None
    if not heads:
        raise FlywheelError(f"{path} has no heads")
    return heads


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        with path.open("rb") as stream:
            yield iter(lambda: stream.readline(_MAX_LINE_BYTES), b"")
    except OSError as exc:
        raise FlywheelError(f"{path} cannot be read: {exc.strerror}") from exc


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
