"""`flywheel doctor`: its flags, and what the chosen context says in their place."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.lazy import command

app = command()


def _file(name: str, text: str) -> Any:
    return typer.Option(f"--{name}-file", exists=True, dir_okay=False, help=text)


def _context_names() -> list[str]:
    from flywheel.operator.contexts.store import context_names  # noqa: PLC0415 - they import gRPC

    return context_names()


@app.command()
def doctor(
    *,
    ctx: typer.Context,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="FLYWHEEL_CONTEXT",
            autocompletion=_context_names,
            help="The deployment, where no flag says it; see flywheel context. But for local, the gateway is then checked if named.",
        ),
    ] = None,
    incident: Annotated[
        str, typer.Option(envvar="FLYWHEEL_INCIDENT", help="Incident service, host:port.")
    ] = "127.0.0.1:50051",
    approval: Annotated[
        str, typer.Option(envvar="FLYWHEEL_APPROVAL", help="Approval service, host:port.")
    ] = "127.0.0.1:50052",
    gateway: Annotated[
        str,
        typer.Option(
            envvar="FLYWHEEL_GATEWAY", help="Metrics gateway, host:port or a URL; empty: not checked."
        ),
    ] = "127.0.0.1:9464",
    prometheus: Annotated[
        str, typer.Option(envvar="FLYWHEEL_PROMETHEUS", help="Prometheus, a URL; empty: not checked.")
    ] = "",
    ca_file: Annotated[
        Path | None, _file("ca", "Authorities of the servers: they are called over TLS.")
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Call the servers over TLS with the system's authorities.")
    ] = False,
    cert_file: Annotated[Path | None, _file("cert", "Certificate of the caller.")] = None,
    key_file: Annotated[Path | None, _file("key", "Its key.")] = None,
    token_file: Annotated[Path | None, _file("token", "Token of the caller, of the role operator.")] = None,
    approver_token_file: Annotated[
        Path | None, _file("approver-token", "Token of another caller, of the role approver, for the canary.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Of each check, in seconds.")] = 10.0,
    canary: Annotated[bool, typer.Option(help="Open, approve, resolve and remove a canary incident.")] = True,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check a deployment, and say what to do about what is wrong; see docs/doctor.md.

    Exit status: 0 when all is well, 1 when a check failed, 2 for a flag that cannot be used.
    """
    from flywheel.doctor.deployment import Deployment  # noqa: PLC0415 - they import gRPC
    from flywheel.doctor.examination import run  # noqa: PLC0415 - they import gRPC

    deployment = Deployment(
        incident,
        approval,
        gateway,
        prometheus,
        ca_file,
        cert_file,
        key_file,
        token_file,
        approver_token_file,
        timeout,
        tls,
    )
    raise typer.Exit(run(_in_context(ctx, deployment, context), with_canary=canary, as_json=json))


def _in_context(ctx: typer.Context, deployment: Any, name: str | None) -> Any:
    """Return a deployment with what the chosen context says of it, and no flag."""
    from flywheel.operator.contexts.model import LOCAL  # noqa: PLC0415 - they import gRPC
    from flywheel.operator.contexts.store import ContextStore  # noqa: PLC0415 - they import gRPC

    context = ContextStore().chosen(name)
    if context.name == LOCAL:
        # The defaults and the variables say the same.
        return deployment
    said = {
        "incident": context.incident,
        "approval": context.approval,
        "gateway": "",
        "tls": context.tls,
        **{
            field: Path(path) if path else None
            for field, path in (
                ("ca_file", context.ca_file),
                ("cert_file", context.cert_file),
                ("key_file", context.key_file),
                ("token_file", context.token_file),
            )
        },
    }
    # The variables of the services' addresses are those of the context local. No context names a gateway.
    wins = {"gateway": ("COMMANDLINE", "ENVIRONMENT")}
    sources = {field: ctx.get_parameter_source(field) for field in said}
    taken = {
        field: said[field]
        for field, source in sources.items()
        if source is None or source.name not in wins.get(field, ("COMMANDLINE",))
    }
    found = replace(deployment, **taken)
    # Nor does its token go in plain text to an address that a flag gives.
    replace(context, incident=found.incident, approval=found.approval, tls=found.is_encrypted).check()
    return found
