"""The command line of a service whose clients speak HTTP to it: `serve`."""

import argparse
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import uvloop

from servicekit.http.errors import CannotListenError
from servicekit.http.settings import HttpServiceSettings
from servicekit.process.addresses import ExposedWithoutAuthenticationError, require_protection
from servicekit.process.background import BackgroundEndedError
from servicekit.process.log import configure_logging
from servicekit.process.settings import SettingsError

S = TypeVar("S", bound=HttpServiceSettings)

_EXIT_FAILED = 1
_EXIT_USAGE = 2


@dataclass(frozen=True, slots=True)
class HttpService(Generic[S]):
    """A service that answers HTTP: what its command line runs."""

    # Its command.
    program: str
    description: str
    # Its name in the log.
    name: str
    settings: type[S]
    # Serves until SIGTERM. Raises CannotListenError, SettingsError.
    serve: Callable[[S], Coroutine[Any, Any, None]]

    def parser(self) -> tuple[argparse.ArgumentParser, "argparse._SubParsersAction[argparse.ArgumentParser]"]:
        """Return a parser that knows `serve`, and its commands, for more of them."""
        parser = argparse.ArgumentParser(prog=self.program, description=self.description)
        commands = parser.add_subparsers(dest="command", required=True)
        serving = commands.add_parser("serve", help="serve HTTP until SIGTERM or Ctrl-C")
        serving.add_argument(
            "--insecure", action="store_true", help="listen beyond loopback without TLS and authentication"
        )
        return parser, commands

    def run(self, *, insecure: bool) -> int:
        """Serve, and return the exit code. An error that an operator can mend is written to standard error."""
        prefix = self.settings.model_config.get("env_prefix", "").rstrip("_")
        try:
            settings = self.settings.from_environment()
            require_protection(
                settings.listen,
                insecure=insecure or settings.insecure,
                tls=settings.tls_cert_file is not None,
                authenticated=settings.authenticated,
            )
            configure_logging(service=self.name, level=settings.log_level, file=settings.rotated_log)
            uvloop.run(self.serve(settings))
        except SettingsError as exc:
            return _fail(str(exc), _EXIT_USAGE)
        except ExposedWithoutAuthenticationError as exc:
            return _fail(exc.advice(prefix), _EXIT_USAGE)
        except CannotListenError as exc:
            return _fail(f"{prefix}_LISTEN: {exc}", _EXIT_FAILED)
        except BackgroundEndedError as exc:
            return _fail(f"stopped because background work ended: {exc}", _EXIT_FAILED)
        return 0


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - for the operator at the terminal, not for the log
    return code
