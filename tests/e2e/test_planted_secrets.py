"""A stack with a secret wherever one can be, in which everything fails that can: no secret is anywhere it must not be."""

import asyncio
import json
import ssl
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx2

from awoooi.approval.v1 import approval_pb2
from awoooi.client import ApprovalClient, CallError, IncidentClient
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident_service
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from tests.approval.schemas import rows
from tests.callers import NO_ACTION
from tests.credentials import bearer, confused, rsa_key, signed, unsigned
from tests.e2e.planted import Planted, command_lines, environments, files_in
from tests.e2e.planted_stack import SHORT_SECRET, World, world_in
from tests.eventually import eventually
from tests.services import TIMEOUT_SECONDS, ServiceProcess

EXPIRED = "2026-01-02T00:00:00Z"
HOOK, SHORT_HOOK = "HTTP POST leaky", "HTTP POST short"


def test_the_search_finds_a_secret_in_each_spelling_and_on_a_command_line() -> None:
    planted = Planted()
    secret, quoted = planted.new("one"), planted.known("quoted", 'a secret with "quotes" & more')
    texts: dict[str, str | bytes] = {
        "text": f"x://u:{secret}@h",
        "URL": quote(quoted, safe=""),
        "JSON": json.dumps({"a": quoted}),
        **{f"base64 {n}": b64encode(b"u" * n + secret.encode() + b"v" * n).decode() for n in range(4)},
        "nothing": "planted",
    }
    assert {line.partition(" is in ")[2] for line in planted.found_in(texts)} == texts.keys() - {"nothing"}
    process = subprocess.Popen([sys.executable, "-c", "input()", secret], stdin=subprocess.PIPE)
    try:
        assert planted.found_in(command_lines()) == [f"one is in /proc/{process.pid}/cmdline"]
    finally:
        process.communicate()


async def test_no_secret_is_where_it_must_not_be(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        stack = world.protected.stack
        await asyncio.gather(
            _effects_fail(world),
            _executors_fail(world),
            _credentials_are_refused(world),
            _crash(world, tmp_path),
        )
        await _database_fails(world)
        await _pages(world)
        for service, url in world.protected.database_urls.items():
            world.show(f"database of {service}", await _all_rows(url))
        pids = [found.pid for found in (stack.incident, stack.approval, stack.gateway) if found.pid]
        shown = {**world.shown, **command_lines(), **files_in(tmp_path / "data" / "log")}
        assert world.planted.found_in(shown) == []
        # They were there to be found.
        held = world.planted.found_in(environments(pids))
        assert {"password of incident", "webhook path", "Apprise password", "proxy", "JWKS query"} <= {
            line.partition(" is in ")[0] for line in held
        }


async def _effects_fail(world: World) -> None:
    """A resolution whose webhook and notifications fail."""
    async with world.protected.incidents("olga") as olga:
        created = await olga.create(title="api answers slowly", severity="HIGH")
        incident_id = created.incident.incident_id
        await olga.resolve(incident_id, resolution_type="HUMAN", note="by hand")

        async def failed() -> list[incident_pb2.SideEffect]:
            effects = [each async for each in olga.list_side_effects(incident_id=incident_id)]
            return [each for each in effects if each.last_error]

        await eventually(failed, lambda found: len(found) == 2)
        world.show("side effects", await failed())
        world.show("timeline", [each async for each in olga.list_events(incident_id)])


async def _executors_fail(world: World) -> None:
    """Operations of the http executor that fail, the second for want of a secret."""
    protected = world.protected
    # Read at every request: too short from now on.
    secret_file = protected.folder.parent / SHORT_SECRET
    secret_file.write_text(world.planted.known("short secret", secret_file.read_text()[:15]))
    async with (
        protected.incidents("detector") as detector,
        protected.approvals("ai") as ai,
        protected.approvals("alice") as alice,
    ):
        for action in (HOOK, SHORT_HOOK):
            incident_id = (await detector.create(title="it is down", severity="HIGH")).incident.incident_id
            approval_id = (await ai.propose(incident_id, action=action, risk="LOW")).approval_id
            await alice.approve(approval_id)

            async def ended(approval_id: str = approval_id) -> approval_pb2.Approval:
                return await alice.get(approval_id)

            found = await eventually(ended, lambda approval: approval.HasField("finish_time"))
            assert found.state == approval_pb2.Approval.STATE_FAILED
            world.show(action, found)
            world.show(action, [each async for each in alice.list_executions(approval_id=approval_id)])
            world.show(action, [each async for each in alice.list_deliveries(approval_id=approval_id)])


async def _credentials_are_refused(world: World) -> None:
    """Wrong and right credentials in wrong places, at each service."""
    protected, planted = world.protected, world.planted
    wrong = [
        planted.known("expired token", protected.token_file.add("eve", "operator", expire_time=EXPIRED)),
        planted.known("unknown token", "fw_" + planted.new("token that was never made")),
        planted.known("no token", planted.new("text in place of a token")),
        planted.known("unsigned JWT", unsigned()),
        planted.known("HMAC JWT", confused()),
        planted.known("expired JWT", signed("jo", ["operator"], exp=1)),
        planted.known("JWT of another key", signed("jo", ["operator"], key=rsa_key("second"))),
        planted.known("JWT of an impossible name", signed("system:x", ["operator"])),
    ]
    async with (
        grpc.aio.secure_channel(protected.addresses["incident"], protected.credentials()) as channel,
        grpc.aio.secure_channel(protected.addresses["approval"], protected.credentials()) as approvals,
    ):
        stub = IncidentServiceStub(channel)
        approve: Any = approvals.unary_unary("/awoooi.approval.v1.ApprovalService/Approve")
        unknown = incident_service.ResolveRequest(
            incident_id="INC-20260507-000000", resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN
        )
        for token in wrong:
            for metadata in (bearer(token), bearer(token, scheme="Basic"), (("authorization", token),)):
                await world.refused("incident", stub.Resolve(unknown, metadata=metadata))
            await world.refused(
                "approval",
                approve(b"", metadata=bearer(token)),
            )
        right = protected.tokens["vera"]
        for metadata in (
            bearer(right),
            (*bearer(right), ("awoooi-actor", right)),
            (*bearer(right), *bearer(right)),
        ):
            await world.refused("incident", stub.Resolve(unknown, metadata=metadata))
    context = ssl.create_default_context(cafile=str(protected.folder / "ca.crt"))
    address = f"https://{protected.stack.gateway.address}"
    async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=TIMEOUT_SECONDS) as client:
        for token in wrong:
            for headers in (
                {"Authorization": f"Bearer {token}"},
                {"Authorization": f"Basic {b64encode(f'user:{token}'.encode()).decode()}"},
                {"Authorization": token, "Host": token[:40]},
            ):
                for path in ("/metrics", f"/?token={token}", f"/{token}"):
                    response = await client.get(f"{address}{path}", headers=headers)
                    assert response.status_code >= 400
                    world.show("gateway", f"{response.headers} {response.text}")


async def _database_fails(world: World) -> None:
    """The schema is broken, and then the database is gone, while calls are made."""
    database = world.protected.stack.database
    assert database is not None
    url = world.protected.database_urls["incident"]
    async with world.protected.incidents("vera") as viewer, world.protected.approvals("ai") as ai:
        await rows(url, "ALTER TABLE knowledge RENAME TO knowledge_away")
        await world.refused("incident", viewer.search_knowledge("api").page())
        await rows(url, "ALTER TABLE knowledge_away RENAME TO knowledge")
        await asyncio.to_thread(database.stop)
        await world.refused("incident", viewer.list(page_size=1, timeout=1).page())
        await world.refused(
            "approval", ai.propose("INC-20260507-000000", action=NO_ACTION, risk="LOW", timeout=1)
        )
        await asyncio.to_thread(database.start)
        await eventually(lambda: _serves(viewer, ai))


async def _serves(viewer: IncidentClient, ai: ApprovalClient) -> bool:
    try:
        await viewer.list(page_size=1).page()
        await ai.list(page_size=1).page()
    except CallError:
        return False
    return True


async def _pages(world: World) -> None:
    """What the gateway and the services show to those who may see it."""
    protected = world.protected
    addresses = [
        f"https://{protected.stack.gateway.address}{path}"
        for path in ("/", "/metrics", "/-/ready", "/-/healthy")
    ]
    addresses += [f"https://{address}/metrics" for address in world.metrics_addresses]
    context = ssl.create_default_context(cafile=str(protected.folder / "ca.crt"))
    headers = {"Authorization": f"Bearer {protected.tokens['vera']}"}
    async with httpx2.AsyncClient(
        verify=context, trust_env=False, timeout=TIMEOUT_SECONDS, headers=headers
    ) as client:
        for address in addresses:
            response = await client.get(address)
            assert response.status_code == 200
            world.show(address, response.text)


async def _all_rows(url: str) -> str:
    """Every row of every table but those of keys."""
    named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'service_keys' ORDER BY 1"
    found = []
    for (table,) in await rows(url, named):
        found += [text for (text,) in await rows(url, f'SELECT row_to_json(t)::text FROM "{table}" AS t')]  # noqa: S608 - from the catalogue
    return "\n".join(found)


async def _crash(world: World, folder: Path) -> None:
    """Services that cannot start because of a value or a file that holds a secret."""
    new = world.planted.new

    def file(name: str, content: str) -> str:
        path = folder / name
        path.write_text(content)
        return str(path)

    key = f"-----BEGIN PRIVATE KEY-----\n{new('key in PEM')}\n-----END PRIVATE KEY-----\n"
    away = {
        "INCIDENT_DATABASE_URL": f"postgresql://u:{new('password of a database that is away')}@127.0.0.1:1/x"
    }
    oidc = {"INCIDENT_OIDC_ISSUER": "https://login.example", "INCIDENT_OIDC_AUDIENCE": "flywheel"}
    approval = {
        "APPROVAL_DATABASE_URL": "postgresql://127.0.0.1:1/x",
        "APPROVAL_INCIDENT_TARGET": "127.0.0.1:1",
    }
    cases: list[tuple[str, str, dict[str, str]]] = [
        ("incident", "migrate", away),
        (
            "incident",
            "serve",
            {
                **oidc,
                "INCIDENT_DATABASE_URL": f"postgresql://u:{new('password before a bad port')}@127.0.0.1:x/x",
                "INCIDENT_WEBHOOK_URL": f"ftp://{new('bad webhook')}",
                "INCIDENT_WEBHOOK_SECRET": new("secret of a bad webhook"),
                "INCIDENT_NOTIFY_URLS": f"nosuch://u:{new('bad Apprise URL')}@h",
                "INCIDENT_OIDC_JWKS_URL": f"https://u:{new('password of a JWKS URL')}@login.example/",
            },
        ),
        ("incident", "serve", {**away, "INCIDENT_TOKENS_FILE": file("bad_tokens", new("in a token file"))}),
        (
            "incident",
            "serve",
            {
                **away,
                "INCIDENT_TLS_CERT_FILE": file("bad_key", key),
                "INCIDENT_TLS_KEY_FILE": file("bad_key_too", key),
            },
        ),
        (
            "incident",
            "serve",
            {**away, **oidc, "INCIDENT_OIDC_JWKS_FILE": file("bad_jwks", f'{{"keys": [{new("in a JWKS")}')},
        ),
        (
            "approval",
            "serve",
            {
                **approval,
                "APPROVAL_EXECUTORS": "http",
                "APPROVAL_HTTP_HOOKS_FILE": file(
                    "bad_hooks", f'[hooks.x]\nurl = "{new("in a hooks file")}\n'
                ),
            },
        ),
    ]
    await asyncio.gather(*(_refuses_to_start(world, *case) for case in cases))


async def _refuses_to_start(world: World, package: str, command: str, settings: dict[str, str]) -> None:
    process = await asyncio.to_thread(ServiceProcess, package, [command], settings)
    try:
        assert await process.ended() != 0
    finally:
        await asyncio.to_thread(process.kill)
    world.show(f"{package} {command} {', '.join(settings)}", "".join(process.lines))
