"""The metrics gateway. The only place where its parts are put together, read from top to bottom."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

import uvloop

from metrics_gateway.deadlines import Deadlines
from metrics_gateway.exposition import Exposition
from metrics_gateway.http import Endpoints, build_app
from metrics_gateway.http_server import CannotListenError, HttpServer
from metrics_gateway.settings import GatewaySettings
from metrics_gateway.sources import Source, Sources
from servicekit.addresses import is_loopback
from servicekit.log import configure_logging
from servicekit.settings import SettingsError
from servicekit.signals import stop_event

_DISTRIBUTION = "awoooi-metrics-gateway"
# On top of the longest wait for a source: a scrape under way at SIGTERM is answered, not cut off.
_WRITING_SECONDS = 1.0
_EXIT_FAILED = 1
_EXIT_USAGE = 2


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises CannotListenError when the address cannot be listened on.
    """
    stop = stop_event()
    deadlines = Deadlines(
        default=settings.source_timeout.total_seconds(),
        longest=settings.longest_source_timeout.total_seconds(),
        margin=settings.scrape_margin.total_seconds(),
    )
    sources = Sources(
        Source(
            address,
            shortest_deadline=deadlines.default,
            hung_patience=settings.hung_source_patience.total_seconds(),
        )
        for address in settings.sources
    )
    endpoints = Endpoints(sources, Exposition(version(_DISTRIBUTION)), deadlines)
    try:
        server = HttpServer(
            build_app(endpoints), settings.listen, drain_seconds=deadlines.longest + _WRITING_SECONDS
        )
        await server.serve_until(stop)
    finally:
        await sources.close()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. What an operator can mend is one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="metrics-gateway", description="The figures of all services at one /metrics."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="serve HTTP until SIGTERM or Ctrl-C")
    serving.add_argument(
        "--insecure",
        action="store_true",
        help="listen beyond loopback although there is no authentication",
    )
    parsed = parser.parse_args(arguments)
    try:
        settings = GatewaySettings.from_environment()
        if not (parsed.insecure or settings.insecure or is_loopback(settings.listen)):
            return _fail(
                f"GATEWAY_LISTEN: {settings.listen} can be reached from other machines and this server has no"
                " authentication. Listen on 127.0.0.1, or say --insecure (or GATEWAY_INSECURE=true) if the network keeps"
                " strangers out.",
                _EXIT_USAGE,
            )
        configure_logging(service="metrics-gateway", level=settings.log_level)
        uvloop.run(serve(settings))
    except SettingsError as exc:
        return _fail(str(exc), _EXIT_USAGE)
    except CannotListenError as exc:
        return _fail(f"GATEWAY_LISTEN: {exc}", _EXIT_FAILED)
    return 0


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    sys.exit(run())


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - for the person who started it, not for the log
    return code


if __name__ == "__main__":
    main()
