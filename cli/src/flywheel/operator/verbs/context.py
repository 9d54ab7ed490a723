"""`flywheel context`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from flywheel.lazy import group
from flywheel.operator.confirmation import confirm
from flywheel.operator.contexts.model import Context
from flywheel.operator.contexts.secrets import read_secret, read_token, write_private
from flywheel.operator.contexts.store import VARIABLE, ContextStore, context_names
from flywheel.operator.output.json_form import json_line
from flywheel.operator.output.printer import Format, Printer

app = group(
    f"The deployments that the operator's commands are for: --context or {VARIABLE} names one for a command, "
    "`use` for all that follow."
)

_Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Such as prod.")]
_Existing: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=context_names, help="Such as prod.")
]
_File: TypeAlias = Path | None


def _existing(text: str) -> Path:
    path = Path(text).absolute()
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {text}")
    return path


def _token_file(text: str) -> Path:
    return Path(text) if text == "-" else _existing(text)


_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command()
def add(
    name: _Name,
    incident: Annotated[
        str, typer.Option(metavar="TARGET", help="The incident service: host:port, or a gRPC name.")
    ],
    approval: Annotated[str, typer.Option(metavar="TARGET", help="The approval service.")],
    *,
    ca_file: Annotated[
        _File,
        typer.Option(parser=_existing, metavar="FILE", help="The authority of the servers' certificates."),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="TLS with the system's authorities.")] = False,
    token_file: Annotated[
        _File,
        typer.Option(
            parser=_token_file,
            metavar="FILE|-",
            help="The token, in a file that only you can read; - reads it from standard input and keeps it.",
        ),
    ] = None,
    cert_file: Annotated[
        _File, typer.Option(parser=_existing, metavar="FILE", help="Your certificate, in place of a token.")
    ] = None,
    key_file: Annotated[
        _File,
        typer.Option(parser=_existing, metavar="FILE", help="Its key, in a file that only you can read."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the context of this name.")] = False,
) -> None:
    """Add a deployment. Nothing is called; `flywheel status --context NAME` does."""
    store = ContextStore()
    is_kept = token_file == Path("-")
    token_path = store.token_path(name) if is_kept else token_file
    context = Context(
        name,
        incident,
        approval,
        tls=tls,
        **{
            key: str(path or "")
            for key, path in (
                ("ca_file", ca_file),
                ("cert_file", cert_file),
                ("key_file", key_file),
                ("token_file", token_path),
            )
        },
    )
    if key_file is not None:
        read_secret(key_file)
    if is_kept:
        store.refuse(context, replace=replace)
        write_private(store.token_path(name), sys.stdin.read().encode())
    if token_path is not None:
        read_token(token_path)
    store.add(context, replace=replace)
    Printer(Format.TABLE).note(f"flywheel context use {name} makes it the one of all commands")


@app.command()
def use(name: _Existing) -> None:
    """Make a context the one of all commands that name none."""
    ContextStore().use(name)


@app.command("list")
def list_(as_json: _Json = False) -> None:
    """List the contexts; * is the current one."""
    store = ContextStore()
    contexts = [store.get(name) for name in store.names()]
    current = store.current()
    if as_json:
        for each in contexts:
            print(json_line(asdict(each) | {"current": each.name == current}))  # noqa: T201 - the result
        return
    Printer(Format.TABLE).table(
        ["", "NAME", "INCIDENT", "APPROVAL", "TLS", "IDENTITY"],
        (
            ["*" if each.name == current else "", each.name, each.incident, each.approval, *_protection(each)]
            for each in contexts
        ),
    )


@app.command()
def show(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", autocompletion=context_names, help="By default the current one."),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Show a context. A token is never shown, only its file."""
    context = ContextStore().chosen(name)
    if as_json:
        print(json_line(asdict(context)))  # noqa: T201 - the result
        return
    titles = {key: key.upper().replace("_", " ") for key in asdict(context)}
    Printer(Format.TABLE).fields(
        [(titles[key], "yes" if value is True else value) for key, value in asdict(context).items() if value]
    )


@app.command()
def remove(
    name: _Existing, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Remove a context, and the token that was read from standard input for it."""
    store = ContextStore()
    context = store.get(name)
    if not yes:
        confirm(f"Remove the context {name} ({context.incident})?")
    store.remove(name)


def _protection(context: Context) -> list[str]:
    identity = "token" if context.token_file else "certificate" if context.cert_file else "name"
    return ["yes" if context.is_encrypted else "no", identity]
