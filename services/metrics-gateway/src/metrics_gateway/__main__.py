"""The metrics gateway's command line, and the only place where its parts are put together."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from metrics_gateway.endpoints import HEALTHY, READY, Endpoints, build_app
from metrics_gateway.exposition.registry import Exposition
from metrics_gateway.page.handler import Page, PageTemplate
from metrics_gateway.settings import GatewaySettings
from metrics_gateway.sources.deadlines import Deadlines
from metrics_gateway.sources.source import Source, Sources
from servicekit.http.admission import AllowedHosts
from servicekit.http.authentication import Authentication
from servicekit.http.limits import HttpRefusals
from servicekit.http.readers import Readers
from servicekit.http.server import HttpServer
from servicekit.http.tls import http_tls
from servicekit.http_service import HttpService
from servicekit.identity.authentication import open_authentication
from servicekit.identity.certificate_store import CertificateStore
from servicekit.process.log import protect_stderr
from servicekit.process.signals import stop_event
from servicekit.rpc.channel import channel_tls

_DISTRIBUTION = "awoooi-metrics-gateway"
# On top of the maximum wait for a source: a scrape in flight at SIGTERM gets its response.
_WRITING_SECONDS = 1.0


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises CannotListenError when the address cannot be listened on.
    """
    stop = stop_event()
    certificates = CertificateStore()
    tls = http_tls(settings, certificates)
    sources_tls = channel_tls(settings, certificates, "sources_tls")
    deadlines = Deadlines(
        default=settings.source_timeout.total_seconds(),
        maximum=settings.longest_source_timeout.total_seconds(),
        margin=settings.scrape_margin.total_seconds(),
    )
    sources = Sources(
        Source(
            address,
            min_deadline=deadlines.default,
            hung_timeout=settings.hung_source_patience.total_seconds(),
            tls=sources_tls,
        )
        for address in settings.sources
    )
    gateway_version = version(_DISTRIBUTION)
    own = CollectorRegistry()
    refusals = HttpRefusals()
    own.register(refusals)
    own.register(certificates)
    authentication = open_authentication(settings, own, certificates=settings.tls_client_ca_file is not None)
    endpoints = Endpoints(sources, Exposition(gateway_version, [own]), deadlines)
    page = Page(sources, PageTemplate(version=gateway_version), deadline=deadlines.default)
    app: ASGIApp = build_app(endpoints, page)
    if authentication is not None:
        readers = Readers(authentication.authenticator)
        app = Authentication(app, readers.decide, refusals, open_paths=[HEALTHY, READY])
    try:
        server = HttpServer(
            app,
            settings.listen,
            drain_seconds=deadlines.maximum + _WRITING_SECONDS,
            refusals=refusals,
            hosts=AllowedHosts(settings.allowed_hosts),
            tls=tls,
        )
        background = {} if authentication is None else authentication.background()
        await server.serve_until(stop, {"certificates": certificates.keep_current(), **background})
    finally:
        await sources.close()


SERVICE = HttpService(
    program="metrics-gateway",
    description="Exposes the stats of all services at one /metrics.",
    name="metrics-gateway",
    settings=GatewaySettings,
    serve=serve,
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. A configuration error is one line on standard error."""
    parsed = _parser().parse_args(arguments)
    if parsed.command == "check-rules":
        # Imported here: serving needs no PromQL parser.
        from metrics_gateway.rules import command as rule_check  # noqa: PLC0415

        return rule_check.run(parsed.files, parsed.target_label)
    if parsed.command == "check-scrape":
        from metrics_gateway.rules import scrape  # noqa: PLC0415 - as above

        return scrape.run()
    return SERVICE.run(insecure=parsed.insecure)


def _parser() -> argparse.ArgumentParser:
    parser, commands = SERVICE.parser()
    checking = commands.add_parser(
        "check-rules",
        help="check that Prometheus rules and Grafana dashboards use only series, labels and values that exist",
        description="Reads Prometheus rules and Grafana dashboards, as plain files or as Kubernetes objects and Lists of"
        " them, in YAML (several documents a file) or JSON (.json), and names every use of a flywheel"
        " series, label or label value that this gateway does not export. Series of other exporters are ignored; series"
        " that a rule in one of the files records exist.",
        epilog="Exit code: 0 when all exist, 1 when some do not, 2 when a file cannot be read or has no queries.",
    )
    checking.add_argument("files", nargs="+", type=Path, metavar="FILE")
    checking.add_argument(
        "--target-label",
        action="append",
        default=[],
        metavar="NAME",
        help="a label that your Prometheus adds when it scrapes, besides job and instance; may be repeated",
    )
    commands.add_parser(
        "check-scrape",
        help="check that a scrape of a gateway, on standard input, has every series of this version",
        description="Reads a scrape in Prometheus' text format from standard input and names every series that this version"
        " exports and the scrape does not have. A rate that is withheld for too few samples is not missing.",
        epilog="Exit code: 0 when all are there, 1 when some are not, 2 when it is no scrape.",
    )
    return parser


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    protect_stderr()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Not every terminal can show every name in a rule.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of standard output has ended, as `head` does. What is still in the buffer would fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 128 + signal.SIGPIPE
    sys.exit(code)


if __name__ == "__main__":
    main()
