"""A stack with a secret wherever one can be."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from awoooi.client import CallError
from flywheel.postgres.embedded import EmbeddedPostgres
from tests.e2e.planted import Planted
from tests.e2e.protected_stack import Protected, free_address, protected_stack
from tests.echo_receiver import EchoReceiver, echo_receiver

SHORT_SECRET = "short_secret"


@dataclass
class World:
    """The stack, the secrets in it, and all that it has shown."""

    protected: Protected
    planted: Planted
    metrics_addresses: Sequence[str]
    shown: dict[str, str | bytes] = field(default_factory=dict)

    def show(self, where: str, what: object) -> None:
        """Keep what a caller was shown."""
        self.shown[f"{where} ({len(self.shown)})"] = str(what)

    async def refused(self, where: str, call: Any) -> None:
        """Keep how a call was refused: its text, its details, its trailing metadata."""
        with pytest.raises((CallError, grpc.aio.AioRpcError)) as caught:
            await call
        error = caught.value
        self.show(where, f"{error!r} {vars(error)}")
        if isinstance(error, grpc.aio.AioRpcError):
            self.show(where, f"{error.details()} {error.debug_error_string()} {error.trailing_metadata()!r}")


def variables(planted: Planted, folder: Path, echo: EchoReceiver) -> dict[str, str | None]:
    """Settings with a secret in each place that can hold one."""
    new = planted.new
    url = f"http://{echo.address()}"
    (folder / "hook_secret").write_text(new("secret of a hook"))
    (folder / SHORT_SECRET).write_text(new("secret that is cut short"))
    hooks = folder / "hooks.toml"
    hooks.write_text(
        f'[hooks.leaky]\nurl = "{url}/leaky/{new("URL of a hook")}?key={new("query of a hook")}"\n'
        f'secret_file = "hook_secret"\nheaders = {{ "X-Api-Key" = "{new("header of a hook")}" }}\n'
        f'[hooks.short]\nurl = "{url}/short/{new("URL of another hook")}"\nsecret_file = "{SHORT_SECRET}"\n'
    )
    (folder / "webhook_secret").write_text(
        f"{new('webhook secret')} whsec_{b64encode(new('webhook key').encode()).decode()}"
    )
    database = EmbeddedPostgres(folder / "data" / "postgres")

    def database_url(service: str) -> str:
        password = new(f"password of {service}")
        return database.url(service).replace("://postgres@", f"://postgres:{password}@")

    proxy = f"http://proxy:{new('proxy')}@{echo.address()}"
    return {
        "INCIDENT_DATABASE_URL": database_url("incident"),
        "APPROVAL_DATABASE_URL": database_url("approval"),
        "INCIDENT_WEBHOOK_URL": f"{url}/webhook/{new('webhook path')}?token={new('webhook query')}",
        "INCIDENT_WEBHOOK_SECRET_FILE": str(folder / "webhook_secret"),
        "INCIDENT_NOTIFY_URLS": (
            f"json://user:{new('Apprise password')}@{echo.address()}/notify/{new('Apprise path')}"
            f" jsons://user:{new('Apprise password beyond a proxy')}@receiver.invalid/{new('Apprise path beyond a proxy')}"
        ),
        "APPROVAL_NOTIFY_URLS": (
            f"oncall=json://user:{new('approvers password')}@{echo.address()}/approvers/{new('approvers path')}"
        ),
        "APPROVAL_EXECUTORS": "http",
        "APPROVAL_HTTP_HOOKS_FILE": str(hooks),
        "APPROVAL_COOLDOWN": "0s",
        "GATEWAY_OIDC_JWKS_FILE": None,
        "GATEWAY_OIDC_JWKS_URL": f"{url}/keys/{new('JWKS path')}?key={new('JWKS query')}",
        "HTTPS_PROXY": proxy,
        "HTTP_PROXY": proxy,
        "NO_PROXY": "127.0.0.1,localhost",
        "INCIDENT_METRICS_LISTEN": free_address(),
        "APPROVAL_METRICS_LISTEN": free_address(),
    }


@asynccontextmanager
async def world_in(folder: Path) -> AsyncIterator[World]:
    """The running stack."""
    planted = Planted()
    async with echo_receiver() as echo:
        settings = variables(planted, folder, echo)
        context = protected_stack(folder, settings)
        protected = await asyncio.to_thread(context.__enter__)
        try:
            for name, token in protected.tokens.items():
                planted.known(f"token of {name}", token)
            for path in (folder / "certs").rglob("*.key"):
                planted.key(path)
            metrics = [settings[f"{service}_METRICS_LISTEN"] or "" for service in ("INCIDENT", "APPROVAL")]
            world = World(protected, planted, metrics)
            yield world
            asked = {path.split("/")[1] if path.startswith("/") else path for path in echo.paths}
            assert asked >= {"webhook", "notify", "approvers", "leaky", "keys", "receiver.invalid:443"}
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)
