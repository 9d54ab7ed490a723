"""The alert intake's command line, and the only place where its parts are put together."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial

import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.types import ASGIApp

from alert_intake.endpoints import ALERTMANAGER, HEALTHY, READY, AlertmanagerEndpoint, build_app
from alert_intake.intake.end_use_case import ReportEnd
from alert_intake.intake.firing_use_case import ReportFiring
from alert_intake.intake.metrics import IntakeMetrics
from alert_intake.intake.use_cases import Intake
from alert_intake.mapping.file import MappingFileError, load_mapping
from alert_intake.settings import IntakeSettings
from awoooi.client import ApprovalClient, IncidentClient
from servicekit.http.admission import AllowedHosts
from servicekit.http.authentication import Authentication
from servicekit.http.bodies import Bodies
from servicekit.http.errors import CannotListenError
from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.http.log_metrics import LogCollector
from servicekit.http.readers import Readers
from servicekit.http.server import HttpServer
from servicekit.http.tls import http_tls
from servicekit.identity.authentication import open_authentication
from servicekit.identity.certificate_store import CertificateStore
from servicekit.identity.roles import DETECTOR, INTAKE_SERVICE, OPERATOR
from servicekit.process.addresses import ExposedWithoutAuthenticationError, require_protection
from servicekit.process.log import configure_logging, protect_stderr
from servicekit.process.settings import SettingsError
from servicekit.process.signals import stop_event
from servicekit.rpc.channel import channel_tls, open_channel

# Who may post alerts.
_POSTERS = (DETECTOR, OPERATOR)
# A post in flight at SIGTERM is answered: beside its own time.
_WRITING_SECONDS = 1.0
# So many of the largest bodies are in memory at most.
_BODIES = 4
_EXIT_FAILED = 1
_EXIT_USAGE = 2


async def serve(settings: IntakeSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises CannotListenError when the address cannot be listened on, MappingFileError.
    """
    stop = stop_event()
    mapping = load_mapping(settings.mapping_file)
    registry = CollectorRegistry()
    refusals = HttpRefusals()
    certificates = CertificateStore()
    for collector in (refusals, certificates, LogCollector()):
        registry.register(collector)
    ProcessCollector(registry=registry)
    tls = http_tls(settings, certificates)
    services_tls = channel_tls(settings, certificates, "services_tls")
    authentication = open_authentication(
        settings, registry, certificates=settings.tls_client_ca_file is not None
    )
    # A client retries by itself, within its deadline: the channels need not.
    channels = [
        open_channel(target, [], tls=services_tls)
        for target in (settings.incident_target, settings.approval_target)
    ]
    token = settings.services_token.get_secret_value()
    # With a token the services know its name.
    actor = "" if token else INTAKE_SERVICE
    timeout = settings.call_timeout.total_seconds()
    incidents = IncidentClient(channels[0], actor=actor, token=token, timeout=timeout)
    approvals = ApprovalClient(channels[1], actor=actor, token=token, timeout=timeout)
    intake = Intake(
        ReportFiring(incidents, late_after=settings.late_after, clock=partial(datetime.now, UTC)),
        ReportEnd(incidents, approvals),
        concurrent_reports=settings.concurrent_alerts,
        timeout=settings.post_timeout,
    )
    limits = HttpLimits(body_bytes=settings.max_body_bytes, bodies_bytes=_BODIES * settings.max_body_bytes)
    endpoint = AlertmanagerEndpoint(intake, mapping, Bodies(limits, refusals), IntakeMetrics(registry))
    app: ASGIApp = build_app(endpoint, registry)
    if authentication is not None:
        authenticator = authentication.authenticator
        app = Authentication(
            app,
            Readers(authenticator).decide,
            refusals,
            open_paths=[HEALTHY, READY],
            others={ALERTMANAGER: Readers(authenticator, _POSTERS).decide},
        )
    try:
        server = HttpServer(
            app,
            settings.listen,
            drain_seconds=settings.post_timeout.total_seconds() + _WRITING_SECONDS,
            refusals=refusals,
            hosts=AllowedHosts(settings.allowed_hosts),
            limits=limits,
            tls=tls,
        )
        works: Iterable[Awaitable[None]] = (
            certificates.keep_current(),
            *(authentication.background().values() if authentication is not None else ()),
        )
        keeping = [asyncio.ensure_future(work) for work in works]
        try:
            await server.serve_until(stop)
        finally:
            for task in keeping:
                task.cancel()
    finally:
        for channel in channels:
            await channel.close()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. A configuration error is one line on standard error."""
    parsed = _parser().parse_args(arguments)
    try:
        settings = IntakeSettings.from_environment()
        require_protection(
            settings.listen,
            insecure=parsed.insecure or settings.insecure,
            tls=settings.tls_cert_file is not None,
            authenticated=settings.authenticated,
        )
        configure_logging(service="intake", level=settings.log_level, file=settings.rotated_log)
        uvloop.run(serve(settings))
    except SettingsError as exc:
        return _fail(str(exc), _EXIT_USAGE)
    except MappingFileError as exc:
        lines = [f"INTAKE_MAPPING_FILE: {settings.mapping_file}: {problem}" for problem in exc.problems]
        return _fail("\n".join(lines), _EXIT_USAGE)
    except ExposedWithoutAuthenticationError as exc:
        return _fail(exc.advice("INTAKE"), _EXIT_USAGE)
    except CannotListenError as exc:
        return _fail(f"INTAKE_LISTEN: {exc}", _EXIT_FAILED)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alert-intake", description="Opens and resolves incidents from what Alertmanager posts."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="serve HTTP until SIGTERM or Ctrl-C")
    serving.add_argument(
        "--insecure",
        action="store_true",
        help="listen beyond loopback without TLS and authentication",
    )
    return parser


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    protect_stderr()
    sys.exit(run())


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - for the operator at the terminal, not for the log
    return code


if __name__ == "__main__":
    main()
