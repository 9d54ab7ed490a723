"""A system that has alerts, the Alertmanager that lists them, and the hooks that repair it: one HTTP server."""

import asyncio
import json
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from approval.verifiers.fingerprint import fingerprint
from tests.approval.hooks import SECRET, WITHOUT_LIMITS
from tests.receiver import Answer, Received, read_request, status
from tests.services import TIMEOUT_SECONDS
from tests.tcp_server import tcp_server

# What a look of a script finds.
ACTIVE, GONE = True, False


class SimulatedTarget:
    """Alerts by fingerprint. Its own clock may be another than that of all others."""

    def __init__(self) -> None:
        self.port = 0
        # The labels of every alert that has ever been, those that are active, and those that are silenced of them.
        self.alerts: dict[str, Mapping[str, str]] = {}
        self.active: set[str] = set()
        self.silenced: set[str] = set()
        # What the next looks at an alert find, before what is there.
        self.scripts: dict[str, deque[bool]] = {}
        # The alert that each hook ends: hooks that end none are useless.
        self.ends: dict[str, str] = {}
        # The answers of the next hooks, in place of 204.
        self.repairs: deque[Answer] = deque()
        # The answer to every look, in place of a true one.
        self.failure: Answer | None = None
        self.up_for = timedelta(days=1)
        self.clock_ahead = timedelta(0)
        self.looks: Counter[str] = Counter()
        self.calls: list[str] = []
        self.requests: list[Received] = []
        # Of this target alone: services that targets share take the same alert for the same incident.
        self._name = secrets.token_hex(4)
        self._numbers = count()
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        """Of the Alertmanager."""
        return f"http://127.0.0.1:{self.port}"

    def fire(self, **labels: str) -> Mapping[str, Any]:
        """Have an alert that nothing ends by itself; returns the fields of its incident."""
        alert = {"alertname": "ApiDown", "number": f"{self._name}-{next(self._numbers)}", **labels}
        self.alerts[fingerprint(alert)] = alert
        self.active.add(fingerprint(alert))
        return {"fingerprint": fingerprint(alert), "labels": alert, "source": "alertmanager"}

    def hook(self, number: int, *, ends: str = "") -> str:
        """The action of a hook; the alert with this fingerprint ends by it."""
        self.ends[f"/hook-{number}"] = ends
        return f"HTTP POST hook-{number}"

    async def looked(self, wanted: str, times: int) -> None:
        """Return when an alert was looked for so many times from now on."""
        async with asyncio.timeout(TIMEOUT_SECONDS), self._changed:
            aim = self.looks[wanted] + times
            await self._changed.wait_for(lambda: self.looks[wanted] >= aim)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                request = await read_request(reader, 0)
                self.requests.append(request)
                await self._answer(request)(writer)
                async with self._changed:
                    self._changed.notify_all()

    def _answer(self, request: Received) -> Answer:
        parts = urlsplit(request.target)
        if request.method == "POST":
            self.calls.append(parts.path)
            self.active.discard(self.ends.get(parts.path, ""))
            return self.repairs.popleft() if self.repairs else status(204)
        if parts.path == "/api/v2/alerts":
            found = self._listed(parse_qsl(parts.query))
            return self.failure or self._json(found)
        if parts.path == "/api/v2/status":
            started = self._now() - self.up_for
            return self._json({"uptime": started.isoformat(), "cluster": {"status": "ready"}})
        return status(404)

    def _listed(self, query: Sequence[tuple[str, str]]) -> Sequence[Mapping[str, Any]]:
        filters = [value.partition("=")[::2] for name, value in query if name == "filter"]
        wanted = {name: json.loads(value) for name, value in filters}
        listed = []
        for found, labels in self.alerts.items():
            if not wanted.items() <= labels.items():
                continue
            self.looks[found] += 1
            script = self.scripts.get(found)
            if script.popleft() if script else found in self.active:
                state = "suppressed" if found in self.silenced else "active"
                listed.append({"fingerprint": found, "labels": labels, "status": {"state": state}})
        return listed

    def _json(self, content: object) -> Answer:
        date = format_datetime(self._now(), usegmt=True)
        return status(200, headers={"Date": date}, body=json.dumps(content).encode())

    def _now(self) -> datetime:
        return datetime.now(UTC) + self.clock_ahead


@asynccontextmanager
async def simulated_target() -> AsyncIterator[SimulatedTarget]:
    """A target until the block ends."""
    target = SimulatedTarget()
    async with tcp_server(target.serve, None) as server:
        target.port = server.port
        yield target


def verified_by(target: SimulatedTarget, folder: Path, *, hooks: int = 100) -> Mapping[str, str]:
    """The variables of a service whose repairs are hooks of the target and verified by its Alertmanager.

    It looks often and for long: a test that wants the end of the window brings it about.
    """
    (folder / "secret").write_text(f"{SECRET}\n")
    path = folder / "hooks.toml"
    path.write_text(
        "\n".join(
            f'[hooks.hook-{number}]\nurl = "{target.url}/hook-{number}"\nsecret_file = "secret"\n'
            for number in range(hooks)
        )
    )
    return {
        "APPROVAL_EXECUTORS": "http",
        "APPROVAL_HTTP_HOOKS_FILE": str(path),
        "APPROVAL_VERIFIER": "alertmanager",
        "APPROVAL_VERIFIER_URL": target.url,
        "APPROVAL_VERIFIER_INTERVAL": "100ms",
        "APPROVAL_VERIFIER_WINDOW": "1h",
        **WITHOUT_LIMITS,
    }
