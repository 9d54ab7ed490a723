"""What the alerts of the demo are about: a shop's queues, with gauges, hooks that repair them, and people who are notified."""

import base64
import binascii
import hmac
import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_STUCK_LENGTH = 1_000
_MAX_BODY_BYTES = 1 << 20
_MAX_AGE_SECONDS = 300


@dataclass(frozen=True)
class Notification:
    """A message to people, as Apprise posts it."""

    title: str
    text: str

    @property
    def message_id(self) -> str:
        """Its last line: the id, which begins with that of what it is about."""
        return self.text.rsplit("\n", 1)[-1]


class Target:
    """One HTTP server on loopback: `/metrics`, `/repair/<queue>`, `/notify`."""

    def __init__(self, queues: Mapping[str, bool]) -> None:
        """`queues` says of each whether its repair helps; the hook of one that it does not help responds all the same."""
        self._repairable = queues
        self._lengths = dict.fromkeys(queues, 0)
        self._key = secrets.token_bytes(32)
        self._executed: set[str] = set()
        self._notifications: list[Notification] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def notifications(self) -> Sequence[Notification]:
        """The messages so far, each once: a message is delivered at least once."""
        with self._lock:
            return list({each.message_id: each for each in self._notifications}.values())

    def stop_draining(self) -> None:
        """Let every queue grow until it is repaired."""
        with self._lock:
            self._lengths = dict.fromkeys(self._lengths, _STUCK_LENGTH)

    def write_hooks(self, folder: Path) -> Path:
        """Write the file of hooks of the executor `http`, and their secret; return its path."""
        secret = folder / "hook.secret"
        secret.touch(mode=0o600)
        secret.write_text(f"whsec_{base64.b64encode(self._key).decode()}\n")
        hooks = folder / "hooks.toml"
        hooks.write_text(
            "".join(
                f'[hooks.{hook_of(queue)}]\nurl = "http://{self.address}/repair/{queue}"\nsecret_file = "{secret.name}"\n'
                for queue in self._lengths
            )
        )
        return hooks

    def metrics(self) -> str:
        """Return the gauges as Prometheus scrapes them."""
        with self._lock:
            return "".join(
                f'demo_queue_length{{queue="{queue}"}} {length}\n' for queue, length in self._lengths.items()
            )

    def repair(self, queue: str, headers: Mapping[str, str], body: bytes) -> HTTPStatus:
        """Execute a call of a hook, each approval once; return the status of the response."""
        if not self._is_signed(headers, body):
            return HTTPStatus.UNAUTHORIZED
        with self._lock:
            if queue not in self._lengths:
                return HTTPStatus.NOT_FOUND
            if (key := headers["idempotency-key"]) not in self._executed:
                self._executed.add(key)
                if self._repairable[queue]:
                    self._lengths[queue] = 0
        return HTTPStatus.OK

    def notify(self, body: bytes) -> HTTPStatus:
        """Receive a message; return the status of the response."""
        content = json.loads(body)
        with self._lock:
            self._notifications.append(Notification(content["title"], content["message"]))
        return HTTPStatus.OK

    def _is_signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the request has the signature of the Standard Webhooks scheme, and is not an old one."""
        message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not timestamp.isdecimal() or abs(time.time() - float(timestamp)) > _MAX_AGE_SECONDS:
            return False
        digest = hmac.digest(self._key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
        expected = binascii.b2a_base64(digest, newline=False)
        signatures = headers.get("webhook-signature", "").split(" ")
        return any(
            hmac.compare_digest(f"v1,{expected.decode()}".encode(), each.encode()) for each in signatures
        )

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._respond(HTTPStatus.OK, target.metrics())
                else:
                    self._respond(HTTPStatus.NOT_FOUND)

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length", 0))
                if size > _MAX_BODY_BYTES:
                    self._respond(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    return
                body = self.rfile.read(size)
                headers = {name.lower(): value for name, value in self.headers.items()}
                if self.path.startswith("/repair/"):
                    self._respond(target.repair(self.path.removeprefix("/repair/"), headers, body))
                elif self.path == "/notify":
                    self._respond(target.notify(body))
                else:
                    self._respond(HTTPStatus.NOT_FOUND)

            def _respond(self, status: HTTPStatus, text: str = "") -> None:
                content = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
                pass

        return Handler


def hook_of(queue: str) -> str:
    """Return the name of the hook that repairs a queue."""
    return f"restart-{queue}"
