"""`flywheel token create`, `list` and `revoke`."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from flywheel.errors import FlywheelError
from flywheel.lazy import group
from flywheel.system.output import report
from flywheel.tokens.file import change_tokens, read_tokens
from flywheel.tokens.model import ROLES, TokenRecord, new_token

app = group("Bearer tokens for people and jobs without an identity provider; see docs/security.md.")

_File = Annotated[
    Path,
    typer.Option(
        "--file",
        envvar="FLYWHEEL_TOKENS_FILE",
        help="What INCIDENT_TOKENS_FILE and APPROVAL_TOKENS_FILE name.",
    ),
]
_DEFAULT_FILE = Path(".flywheel/tokens.json")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who will use it, as records will show it: alice, ci/deploy.")],
    role: Annotated[list[str], typer.Option(help=f"{', '.join(ROLES)}; may be repeated.")],
    expires: Annotated[str, typer.Option(help="Its lifetime: 90d, 12h, 30m; at most 366d.")] = "90d",
    output: Annotated[
        Path | None,
        typer.Option(
            help="A new file for the token, readable for its owner alone, in place of standard output."
        ),
    ] = None,
    file: _File = _DEFAULT_FILE,
) -> None:
    """Create a token and print it: it is shown this once, the file holds its hash."""
    token, record = new_token(name, role, expires)
    if output is not None:
        _write_secret(output, token)
    change_tokens(file, lambda tokens: [*tokens, record], create=True)
    report(
        f"token {record.id} of {record.name} ({', '.join(record.roles)}) is valid until {_shown(record.expire_time)}"
    )
    if output is None:
        print(token)  # noqa: T201 - the requested output


@app.command("list")
def list_(file: _File = _DEFAULT_FILE) -> None:
    """List the tokens, newest last."""
    now = datetime.now(UTC)
    rows = [
        (
            each.id,
            each.name,
            ",".join(each.roles),
            _shown(each.create_time),
            _shown(each.expire_time),
            each.state(now),
        )
        for each in read_tokens(file)
    ]
    table = [("ID", "NAME", "ROLES", "CREATED", "EXPIRES", "STATE"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())  # noqa: T201 - the requested output


@app.command()
def revoke(
    token: Annotated[
        str,
        typer.Argument(metavar="ID|NAME", help="Of one token, or of all of a name; never the token itself."),
    ],
    file: _File = _DEFAULT_FILE,
) -> None:
    """Revoke a token: services refuse it within seconds, without a restart. Idempotent."""
    now = datetime.now(UTC).replace(microsecond=0)
    wanted = token.strip().lower()
    revoked: list[TokenRecord] = []

    def change(tokens: Sequence[TokenRecord]) -> Sequence[TokenRecord]:
        revoked.extend(each for each in tokens if wanted in (each.id, each.name))
        if not revoked:
            # Not quoted: it may be the token itself.
            raise FlywheelError("no token has this id or name", advice="flywheel token list shows them")
        return [
            replace(each, revoke_time=now) if each in revoked and each.revoke_time is None else each
            for each in tokens
        ]

    change_tokens(file, change)
    for each in revoked:
        report(f"token {each.id} of {each.name} is revoked")


def _shown(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _write_secret(path: Path, token: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise FlywheelError(
            f"{path} cannot be created: {exc.strerror}",
            advice="--output names a file that does not exist yet",
        ) from exc
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
