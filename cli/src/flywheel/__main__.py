"""The `flywheel` command. The imports of a subcommand are made when it runs, so that help is fast."""

import io
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined] # it is not marked as exported

from flywheel.errors import FlywheelError
from flywheel.lazy import Module, group_with
from flywheel.system.output import protect_stderr
from flywheel.system.signals import StopSignal
from flywheel.tokens import command as tokens

# Imported when they run.
_OPERATOR = {
    "status": Module("flywheel.operator.verbs.status", "Show the loop at a glance."),
    "incident": Module("flywheel.operator.verbs.incident", "Open, look at and resolve incidents."),
    "approval": Module(
        "flywheel.operator.verbs.approval", "Propose actions, decide about them and execute them."
    ),
    "delivery": Module(
        "flywheel.operator.verbs.delivery", "What approvals have caused, and what waits of it."
    ),
    "effect": Module(
        "flywheel.operator.verbs.effect", "The side effects of resolutions, and what waits of them."
    ),
    "knowledge": Module("flywheel.operator.verbs.knowledge", "What resolved similar incidents."),
    "reconcile": Module("flywheel.operator.verbs.reconcile", "Queue the resolves that were lost."),
    "export": Module(
        "flywheel.operator.verbs.export", "Write incidents and approvals for `flywheel import`."
    ),
    "migrate": Module("flywheel.migrating", "Bring the databases to the newest revision."),
    "completion": Module("flywheel.completion", "Print the completion script of a shell."),
    "context": Module("flywheel.operator.verbs.context", "The deployments that these commands are for."),
}

app = typer.Typer(
    help="Incidents, approvals, and the loop that closes them: on this machine, and on any deployment.",
    cls=group_with(_OPERATOR),
    no_args_is_help=True,
    # Plain lines: a pipe, a log and a narrow terminal show them as they are.
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - see above

        print(f"flywheel {version('awoooi-flywheel')}")  # noqa: T201 - the requested output
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


app.add_typer(tokens.app, name="token")


@app.command()
def up(
    data_dir: Annotated[
        Path, typer.Option(envvar="FLYWHEEL_DATA_DIR", help="Databases and logs; created if missing.")
    ] = Path(".flywheel"),
    incident_listen: Annotated[
        str,
        typer.Option(envvar="INCIDENT_LISTEN", help="Incident service, host:port; port 0 takes a free one."),
    ] = "127.0.0.1:50051",
    approval_listen: Annotated[
        str, typer.Option(envvar="APPROVAL_LISTEN", help="Approval service, likewise.")
    ] = "127.0.0.1:50052",
    gateway_listen: Annotated[
        str, typer.Option(envvar="GATEWAY_LISTEN", help="Metrics gateway (HTTP), likewise.")
    ] = "127.0.0.1:9464",
    intake_listen: Annotated[
        str, typer.Option(envvar="INTAKE_LISTEN", help="Alert intake (HTTP), likewise.")
    ] = "127.0.0.1:9465",
) -> None:
    """Start PostgreSQL and four services: incident, approval, metrics gateway and alert intake; Ctrl-C stops them.

    Prints one line `ready incident=… approval=… gateway=… intake=…` when all are healthy. With INCIDENT_DATABASE_URL or
    APPROVAL_DATABASE_URL set, that service uses that database in place of the embedded one.
    """
    from flywheel.commands.up import run  # noqa: PLC0415 - see above

    run(
        data_dir,
        incident_listen=incident_listen,
        approval_listen=approval_listen,
        gateway_listen=gateway_listen,
        intake_listen=intake_listen,
    )


@app.command()
def demo(
    context: typer.Context,
    *,
    incidents: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of stuck incidents; 566 in production.")
    ] = 566,
    alerts: Annotated[
        bool,
        typer.Option("--alerts", help="The loop from a real alert to its verified recovery: half a minute."),
    ] = False,
    stay: Annotated[
        bool,
        typer.Option(
            "--stay", help="With --alerts: run on at the end, until Ctrl-C, for a look at the pages."
        ),
    ] = False,
    prometheus: Annotated[
        Path | None, typer.Option(help="With --alerts: the program, if it is not on the PATH.")
    ] = None,
    alertmanager: Annotated[Path | None, typer.Option(help="With --alerts: likewise.")] = None,
) -> None:
    """Replay the outage with 566 stuck incidents on a temporary stack: about a minute, nothing is kept.

    With --alerts, Prometheus and Alertmanager fire two alerts beside a temporary stack: a repair that helps, and one that
    does not. They are taken from the PATH, or out of Debian's packages, which are unpacked and not installed.
    """
    _refuse_together(
        context,
        {"incidents"} if alerts else {"stay", "prometheus", "alertmanager"},
        "with" if alerts else "without",
    )
    if alerts:
        from flywheel.demo.alerts import run as run_alerts  # noqa: PLC0415 - see above

        run_alerts(prometheus=prometheus, alertmanager=alertmanager, stays=stay)
    else:
        from flywheel.demo.outage import run  # noqa: PLC0415 - see above

        run(incidents=incidents)


def _refuse_together(context: typer.Context, names: set[str], how: str) -> None:
    for name in sorted(names):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"it has no effect {how} --alerts", context, param_hint=f"--{name}")


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", exists=True, dir_okay=False, help="JSON Lines; see docs/import.md."
        ),
    ],
    data_dir: Annotated[
        Path, typer.Option(envvar="FLYWHEEL_DATA_DIR", help="Of the local stack, running or not.")
    ] = Path(".flywheel"),
) -> None:
    """Import incidents and approvals of another system: all lines, or none when one is invalid.

    With INCIDENT_DATABASE_URL or APPROVAL_DATABASE_URL set, that database is written to in place of the local stack's.
    An import is idempotent: repeating it changes nothing.
    """
    from flywheel.importing.command import run  # noqa: PLC0415 - see above

    run(files, data_dir)


audit = typer.Typer(help="Export the audit trails, and prove that an export is unchanged; see docs/audit.md.")
app.add_typer(audit, name="audit", no_args_is_help=True)
_DataDir = Annotated[
    Path, typer.Option(envvar="FLYWHEEL_DATA_DIR", help="Of the local stack, running or not.")
]
_Output = Annotated[
    Path | None, typer.Option("--output", "-o", dir_okay=False, help="A file; standard output if not given.")
]
_Services = Annotated[
    list[str] | None, typer.Option("--service", help="incident or approval; both if not given.")
]


@audit.command("export")
def audit_export(
    output: _Output = None, services: _Services = None, data_dir: _DataDir = Path(".flywheel")
) -> None:
    """Write the audit trails as JSON Lines.

    With INCIDENT_DATABASE_URL or APPROVAL_DATABASE_URL set, that database is read in place of the local stack's.
    """
    from flywheel.audit.command import export  # noqa: PLC0415 - see above

    export(data_dir, output, services=services or (), heads_only=False)


@audit.command("heads")
def audit_heads(
    output: _Output = None, services: _Services = None, data_dir: _DataDir = Path(".flywheel")
) -> None:
    """Write the last record's hash of each chain: keep it elsewhere, and give it to `verify` later."""
    from flywheel.audit.command import export  # noqa: PLC0415 - see above

    export(data_dir, output, services=services or (), heads_only=True)


@audit.command("verify")
def audit_verify(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An export.")],
    heads: Annotated[
        list[Path] | None,
        typer.Option(
            "--heads", exists=True, dir_okay=False, help="Heads, or an older export, that it has to contain."
        ),
    ] = None,
) -> None:
    """Verify an export, without a database: find every edit, deletion, insertion and reordering."""
    from flywheel.audit.command import verify_file  # noqa: PLC0415 - see above

    verify_file(file, heads or ())


def _file(name: str, text: str) -> Any:
    return typer.Option(f"--{name}-file", exists=True, dir_okay=False, help=text)


def _context_names() -> list[str]:
    from flywheel.operator.contexts.store import context_names  # noqa: PLC0415 - see above

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
    from flywheel.doctor.command import run  # noqa: PLC0415 - see above
    from flywheel.doctor.deployment import Deployment  # noqa: PLC0415 - see above

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
    from flywheel.operator.contexts.model import LOCAL  # noqa: PLC0415 - see above
    from flywheel.operator.contexts.store import ContextStore  # noqa: PLC0415 - see above

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


policy = typer.Typer(help="A policy file before it takes effect; see docs/policy.md.")
app.add_typer(policy, name="policy", no_args_is_help=True)
_PolicyFile = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A policy file.")
]


@policy.command("check")
def policy_check(
    file: _PolicyFile,
    channels: Annotated[
        list[str] | None,
        typer.Option("--channel", help="A channel that routes may name; may be repeated. None: not checked."),
    ] = None,
) -> None:
    """Say what is wrong with a policy file, one line each, or what is in it."""
    from flywheel.policy.command import check  # noqa: PLC0415 - see above

    raise typer.Exit(check(file, channels or ()))


@policy.command("replay")
def policy_replay(
    file: _PolicyFile,
    since: Annotated[
        str,
        typer.Option(help="Proposals since then: a duration, such as 30d, or a time, such as 2026-05-01."),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    data_dir: _DataDir = Path(".flywheel"),
) -> None:
    """Say what a policy file would have decided about past proposals, and how that differs from what was decided.

    With APPROVAL_DATABASE_URL set, that database is read in place of the local stack's. Nothing is changed.
    """
    from flywheel.policy.command import replay  # noqa: PLC0415 - see above

    raise typer.Exit(replay(file, data_dir, since=since, as_json=json))


@app.command()
def certs(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the files go; nothing in it is overwritten.")
    ] = Path(".flywheel/certs"),
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="A further host name or address of the services; may be repeated. Without: their names, localhost."
        ),
    ] = None,
    trust_domain: Annotated[
        str, typer.Option(help="Of the services' SPIFFE ids: spiffe://<trust domain>/approval.")
    ] = "awoooi",
    days: Annotated[int, typer.Option(min=1, max=825, help="How long the certificates are valid.")] = 90,
    renew: Annotated[
        bool, typer.Option("--renew", help="Replace the certificates by new ones of the same authority.")
    ] = False,
) -> None:
    """Make an authority and certificates for the services, for a trial.

    Prints the settings that use them, as lines for a shell. The authority's key, ca.key, can sign a certificate for any
    service: keep it away from them. For production see docs/security.md.
    """
    from flywheel.certificates.command import run  # noqa: PLC0415 - see above

    run(directory, hosts=host or [], trust_domain=trust_domain, days=days, renews=renew)


def main() -> None:
    """Run the command. An expected error is printed in a few lines, with advice; the exit status is its own."""
    protect_stderr()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal in Latin-1 has no ✓.
        sys.stdout.reconfigure(errors="replace")
    try:
        if "_FLYWHEEL_COMPLETE" in os.environ:
            completion_init()
        app(prog_name="flywheel")
    except FlywheelError as exc:
        print(exc.text, file=sys.stderr)  # noqa: T201 - for the user
        sys.exit(exc.exit_status)
    except BrokenPipeError:
        # The reader of standard output has ended, as `head` does. What is still in the buffer would fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + signal.SIGPIPE)
    except StopSignal as exc:
        sys.exit(128 + exc.number)  # as a shell shows it
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
