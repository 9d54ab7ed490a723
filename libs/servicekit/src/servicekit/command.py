"""The command line that both services have: `serve` and `migrate`."""

import argparse
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import uvloop

from servicekit.addresses import ExposedWithoutAuthenticationError
from servicekit.database import DatabaseUnavailableError
from servicekit.log import configure_logging, redact_url_passwords
from servicekit.server import AddressInUseError, BackgroundEndedError
from servicekit.settings import Settings, SettingsError

S = TypeVar("S", bound=Settings)

_EXIT_FAILED = 1
_EXIT_USAGE = 2


def run_service(
    name: str,
    settings: Callable[[], S],
    *,
    log_level: Callable[[S], str],
    serve: Callable[[S, bool], Awaitable[None]],
    migrate: Callable[[S], Awaitable[None]],
) -> int:
    """Run the service's command line and return its exit code.

    `serve` is given the settings and whether to migrate first. What an operator can mend is one line on standard error;
    anything else is a bug and keeps its traceback.
    """
    parser = argparse.ArgumentParser(prog=f"{name}-service", description=f"The {name} service.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="serve RPCs until SIGTERM or Ctrl-C")
    serving.add_argument("--migrate", action="store_true", help="bring the database up to date first")
    commands.add_parser("migrate", help="bring the database up to date and exit")
    arguments = parser.parse_args()
    prefix = name.upper()
    try:
        found = settings()
        configure_logging(service=name, level=log_level(found))
        if arguments.command == "migrate":
            uvloop.run(_as_coroutine(migrate(found)))
        else:
            uvloop.run(_as_coroutine(serve(found, arguments.migrate)))
    except SettingsError as exc:
        return _fail(f"{exc}", _EXIT_USAGE)
    except ExposedWithoutAuthenticationError as exc:
        return _fail(
            f"{prefix}_LISTEN: {exc} can be reached from other machines and this server has no authentication. "
            f"Listen on 127.0.0.1, or set {prefix}_INSECURE=true if the network keeps strangers out.",
            _EXIT_USAGE,
        )
    except DatabaseUnavailableError as exc:
        reason = redact_url_passwords(str(exc.__cause__)) or type(exc.__cause__).__name__
        return _fail(f"{prefix}_DATABASE_URL: the database cannot be reached: {reason}", _EXIT_FAILED)
    except AddressInUseError as exc:
        return _fail(
            f"{prefix}_LISTEN: {exc} cannot be listened on: another process has it, or it is no address of this machine",
            _EXIT_FAILED,
        )
    except BackgroundEndedError as exc:
        return _fail(f"stopped because background work ended: {exc}", _EXIT_FAILED)
    return 0


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - for the person who started it, not for the log
    return code
