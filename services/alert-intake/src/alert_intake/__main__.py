"""The alert intake's command line, and the only place where its parts are put together."""

import sys
from datetime import UTC, datetime
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.types import ASGIApp

from alert_intake.endpoints import ALERTMANAGER, HEALTHY, READY, AlertmanagerEndpoint, build_app
from alert_intake.incidents.metrics import IntakeMetrics
from alert_intake.incidents.open_incident import OpenIncident
from alert_intake.incidents.resolve_incident import ResolveIncident
from alert_intake.incidents.use_cases import Intake
from alert_intake.mapping.file import MappingFileError, load_mapping
from alert_intake.mapping.model import AlertMapping
from alert_intake.settings import IntakeSettings
from awoooi.client import ApprovalClient, IncidentClient
from servicekit.http.admission import AllowedHosts
from servicekit.http.authentication import Authentication
from servicekit.http.bodies import Bodies
from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.http.log_metrics import LogCollector
from servicekit.http.readers import Readers
from servicekit.http.server import HttpServer
from servicekit.http.tls import http_tls
from servicekit.http_service import HttpService
from servicekit.identity.authentication import open_authentication
from servicekit.identity.certificate_store import CertificateStore
from servicekit.identity.roles import DETECTOR, INTAKE_SERVICE, OPERATOR
from servicekit.process.log import protect_stderr
from servicekit.process.settings import SettingsError
from servicekit.process.signals import stop_event
from servicekit.rpc.channel import channel_tls, open_channel

# Who may post alerts.
_POSTERS = (DETECTOR, OPERATOR)
# A post in flight at SIGTERM is answered: beside its own time.
_WRITING_SECONDS = 1.0
# So many of the largest bodies are in memory at most.
_BODIES = 4


async def serve(settings: IntakeSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises CannotListenError when the address cannot be listened on, SettingsError for a file that cannot be used.
    """
    stop = stop_event()
    mapping = _mapping(settings)
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
        OpenIncident(incidents, late_after=settings.late_after, clock=partial(datetime.now, UTC)),
        ResolveIncident(incidents, approvals),
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
        background = {} if authentication is None else authentication.background()
        await server.serve_until(stop, {"certificates": certificates.keep_current(), **background})
    finally:
        for channel in channels:
            await channel.close()


def _mapping(settings: IntakeSettings) -> AlertMapping:
    try:
        return load_mapping(settings.mapping_file)
    except MappingFileError as exc:
        lines = [f"INTAKE_MAPPING_FILE: {settings.mapping_file}: {problem}" for problem in exc.problems]
        raise SettingsError("\n".join(lines)) from None


SERVICE = HttpService(
    program="alert-intake",
    description="Opens and resolves incidents from what Alertmanager posts.",
    name="intake",
    settings=IntakeSettings,
    serve=serve,
)


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    protect_stderr()
    parser, _ = SERVICE.parser()
    sys.exit(SERVICE.run(insecure=parser.parse_args().insecure))


if __name__ == "__main__":
    main()
