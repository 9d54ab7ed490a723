"""`flywheel audit export`, `heads` and `verify`."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from flywheel.audit.export import export
from flywheel.audit.lines import BadLineError
from flywheel.audit.verification import Head, Section, Verifier, read_heads
from flywheel.errors import FlywheelError
from flywheel.lazy import group
from flywheel.stack.flags import DEFAULT_DATA_DIR, DataDir

app = group("Export the audit trails, and prove that an export is unchanged; see docs/audit.md.")

# More would say nothing more.
_MAX_SHOWN = 20
# A record with a thousand ids has about 40,000 bytes.
_MAX_LINE_BYTES = 4_194_304

_Output = Annotated[
    Path | None, typer.Option("--output", "-o", dir_okay=False, help="A file; standard output if not given.")
]
_Services = Annotated[
    list[str] | None, typer.Option("--service", help="incident or approval; both if not given.")
]


@app.command("export")
def export_(output: _Output = None, services: _Services = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Write the audit trails as JSON Lines.

    With INCIDENT_DATABASE_URL or APPROVAL_DATABASE_URL set, that database is read in place of the local stack's.
    """
    export(data_dir, output, services=services or (), heads_only=False)


@app.command("heads")
def heads_(output: _Output = None, services: _Services = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Write the last record's hash of each chain: keep it elsewhere, and give it to `verify` later."""
    export(data_dir, output, services=services or (), heads_only=True)


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An export.")],
    heads: Annotated[
        list[Path] | None,
        typer.Option(
            "--heads", exists=True, dir_okay=False, help="Heads, or an older export, that it has to contain."
        ),
    ] = None,
) -> None:
    """Verify an export, without a database: find every edit, deletion, insertion and reordering."""
    verify_file(file, heads or ())


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
