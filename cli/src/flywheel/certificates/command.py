"""`flywheel certs`."""

import re
import shlex
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from flywheel.certificates.files import AUTHORITIES, CERTIFICATE, KEY, Request, make, renew
from flywheel.errors import FlywheelError
from flywheel.lazy import command
from flywheel.system.output import report

_SERVICES = ("incident", "approval", "gateway", "intake")
# Where other services call; the addresses of before are for people and jobs, with tokens.
_MTLS_LISTEN = {"incident": "127.0.0.1:50061", "approval": "127.0.0.1:50062"}
_LOCAL = ("localhost", "127.0.0.1", "::1")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f:.]+")
_AUTHORITY_LIFETIME = timedelta(days=3650)

app = command()


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
    run(directory, hosts=host or [], trust_domain=trust_domain, days=days, renews=renew)


def run(folder: Path, *, hosts: Sequence[str], trust_domain: str, days: int, renews: bool) -> None:
    """Make or renew certificates, and print what to do with them. Raises FlywheelError."""
    if _TRUST_DOMAIN.fullmatch(trust_domain) is None:
        raise FlywheelError("--trust-domain has lower-case letters, digits and . _ - only")
    for host in hosts:
        if _HOST.fullmatch(host) is None:
            raise FlywheelError(f"--host {host} is no host name or address")
    request = Request(
        hosts={service: (service, *_LOCAL, *hosts) for service in _SERVICES},
        trust_domain=trust_domain,
        lifetime=timedelta(days=days),
        authority_lifetime=_AUTHORITY_LIFETIME,
    )
    if renews:
        renew(folder, request)
        report(
            f"renewed the certificates in {folder} for {days} days; running services take them within seconds"
        )
        return
    make(folder, request)
    report(
        f"made an authority and certificates in {folder}, valid for {days} days; docs/security.md says how to use them"
    )
    print("\n".join(_variables(folder.resolve(), trust_domain)))  # noqa: T201 - the requested output


def _variables(folder: Path, trust_domain: str) -> Sequence[str]:
    """Return the settings that use the certificates, as lines for a shell."""

    def export(variable: str, value: object) -> str:
        return f"export {variable}={shlex.quote(str(value))}"

    def files(prefix: str, service: str) -> list[str]:
        return [
            export(f"{prefix}_CERT_FILE", folder / service / CERTIFICATE),
            export(f"{prefix}_KEY_FILE", folder / service / KEY),
        ]

    lines = []
    for service in _SERVICES:
        lines += files(f"{service.upper()}_TLS", service)
    for service, mtls_listen in _MTLS_LISTEN.items():
        lines.append(export(f"{service.upper()}_MTLS_LISTEN", mtls_listen))
        lines.append(export(f"{service.upper()}_TLS_CLIENT_CA_FILE", folder / service / AUTHORITIES))
        if trust_domain != "awoooi":
            lines.append(export(f"{service.upper()}_TLS_TRUST_DOMAIN", trust_domain))
    for prefix, service in (
        ("APPROVAL_INCIDENT_TLS", "approval"),
        ("GATEWAY_SOURCES_TLS", "gateway"),
        ("INTAKE_SERVICES_TLS", "intake"),
    ):
        lines += [export(f"{prefix}_CA_FILE", folder / service / AUTHORITIES), *files(prefix, service)]
    return lines
