"""Who is calling a real server, by tokens and certificates, and how many calls one identity may make."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.identity.authenticator import Authenticator
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import CertificatePaths, Certificates
from servicekit.identity.credentials import Credentials, Refusal, UnauthenticatedError
from servicekit.identity.identity import Identity
from servicekit.rpc.admission import PlaceLimits
from servicekit.rpc.identity import current_identity
from servicekit.rpc.role_table import role_table
from servicekit.rpc.server_limits import ServerLimits
from servicekit.rpc.tls import ServerTls, channel_credentials
from tests.authority import Pair, authority
from tests.credentials import bearer
from tests.eventually import eventually
from tests.rpc_errors import refused
from tests.servicekit.scripted_server import SERVICE, VALID, Held, Running, at_once, scripted_server


class Named(Authenticator):
    """Takes a name as a token; `nobody` is invalid, as is a revoked one, and `norole` has no role."""

    def __init__(self) -> None:
        super().__init__()
        self.revoked: dict[str, Refusal] = {}
        self.without_role = {"norole"}

    async def authenticate(self, credentials: Credentials) -> Identity:
        """Return the identity of this name."""
        if not credentials.authorization:
            return await super().authenticate(credentials)
        name = credentials.authorization[0].removeprefix("Bearer ")
        if name == "nobody":
            raise UnauthenticatedError(Refusal.UNKNOWN_TOKEN)
        if name in self.revoked:
            raise UnauthenticatedError(self.revoked[name])
        return Identity(name, frozenset() if name in self.without_role else frozenset({"viewer"}), "token")


def limited(running: Running, limit: str) -> float | None:
    """How often a limit refused."""
    return running.registry.get_sample_value("grpc_server_refused_total", {"limit": limit})


async def identity_seen(running: Running, metadata: Any = None) -> Identity:
    """The identity that a handler sees."""
    seen: list[Identity] = []

    async def answer(request: Any, context: Any) -> pb.GetResponse:
        seen.append(current_identity())
        return await at_once(request, context)

    running.service.answer = answer
    await running.stub.Get(VALID, metadata=metadata)
    return seen[0]


async def test_without_credentials_no_handler_runs_and_the_refusals_are_counted() -> None:
    async with scripted_server(authenticator=Named()) as running:
        missing = await refused(running.stub.Get(VALID))
        wrong = await refused(running.stub.Get(VALID, metadata=bearer("nobody")))
        stream = await refused(anext(aiter(running.stub.Watch(pb.WatchRequest()))))
        assert {each.code for each in (missing, wrong, stream)} == {grpc.StatusCode.UNAUTHENTICATED}
        assert [each.reason for each in (missing, wrong)] == ["CREDENTIALS_MISSING", "CREDENTIALS_INVALID"]
        assert running.service.calls == 0

        def counted(reason: str) -> float | None:
            return running.registry.get_sample_value("grpc_server_unauthenticated_total", {"reason": reason})

        assert (counted("missing"), counted("unknown_token"), counted("expired")) == (2, 1, 0)


async def test_a_refused_caller_is_logged_once_and_not_again_at_every_call() -> None:
    async with scripted_server(authenticator=Named()) as running:
        with structlog.testing.capture_logs() as log:
            for _ in range(20):
                await refused(running.stub.Get(VALID))
        assert [line["reason"] for line in log if line["event"] == "rpc_unauthenticated"] == ["missing"]


async def test_a_method_that_is_not_in_the_table_is_open_to_no_role() -> None:
    table = role_table(SERVICE, {"Get": ("viewer",), "List": ("operator",)})
    for authenticator in (None, Named()):
        async with scripted_server(authenticator=authenticator, roles=table) as running:
            metadata = bearer("alice")
            await running.stub.Get(VALID, metadata=metadata)
            refusal = await refused(running.stub.GetPostmortem(pb.GetPostmortemRequest(), metadata=metadata))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
    async with scripted_server(authenticator=Named(), roles=table) as running:
        refusal = await refused(running.stub.List(pb.ListRequest(), metadata=bearer("alice")))
        assert refusal.metadata == {"roles": "operator"}
        assert "operator" in refusal.message


async def test_health_is_open_to_everyone_and_reflection_to_those_with_a_role() -> None:
    async with scripted_server(authenticator=Named()) as running:
        health: Any = HealthStub(running.channel)
        await health.Check(health_pb2.HealthCheckRequest())
        channel: Any = running.channel  # the type stubs want the threaded one
        reflection: Any = ServerReflectionStub(channel)

        async def call(metadata: Any = None) -> object:
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            return await reflection.ServerReflectionInfo(iter([request]), metadata=metadata).read()

        assert (await refused(call())).code is grpc.StatusCode.UNAUTHENTICATED
        assert (await refused(call(bearer("norole")))).code is grpc.StatusCode.PERMISSION_DENIED
        assert isinstance(await call(bearer("alice")), reflection_pb2.ServerReflectionResponse)


class HeldStream:
    """A stream that sends one response, and no other."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, _request: Any, _context: Any) -> AsyncIterator[pb.WatchResponse]:
        try:
            yield pb.WatchResponse(resume_token="first")
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@pytest.mark.parametrize(
    ("refusal", "code", "reason"),
    [
        (Refusal.REVOKED, grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID"),
        (Refusal.EXPIRED, grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_EXPIRED"),
        (None, grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING"),
    ],
    ids=["revoked", "expired", "role taken away"],
)
async def test_an_open_stream_ends_with_its_callers_credentials(
    refusal: Refusal | None, code: grpc.StatusCode, reason: str
) -> None:
    authenticator = Named()
    limits = ServerLimits(verify_streams=timedelta(milliseconds=20))
    async with scripted_server(authenticator=authenticator, limits=limits) as running:
        held = running.service.stream = HeldStream()
        stream = aiter(running.stub.Watch(pb.WatchRequest(), metadata=bearer("alice")))
        assert (await anext(stream)).resume_token == "first"
        # A provider that cannot be reached is no reason to end it.
        authenticator.revoked["alice"] = Refusal.KEYS_UNAVAILABLE
        await asyncio.wait([asyncio.ensure_future(held.ended.wait())], timeout=0.1)
        assert not held.ended.is_set()
        del authenticator.revoked["alice"]
        if refusal is None:
            authenticator.without_role.add("alice")
        else:
            authenticator.revoked["alice"] = refusal
        ended = await refused(anext(stream))
        assert (ended.code, ended.reason) == (code, reason)
        await held.ended.wait()


async def test_a_stream_whose_caller_hangs_up_is_verified_no_longer() -> None:
    limits = ServerLimits(verify_streams=timedelta(milliseconds=20))
    async with scripted_server(authenticator=Named(), limits=limits) as running:
        held = running.service.stream = HeldStream()
        before = len(asyncio.all_tasks())
        call = running.stub.Watch(pb.WatchRequest(), metadata=bearer("alice"))
        await anext(aiter(call))
        call.cancel()
        await held.ended.wait()
        await eventually(lambda: asyncio.sleep(0, len(asyncio.all_tasks())), lambda count: count <= before)


async def test_one_identity_makes_so_many_calls_per_second_and_others_go_on() -> None:
    async with scripted_server(authenticator=Named(), limits=ServerLimits(calls_per_second=1)) as running:
        for _ in range(2):
            await running.stub.Get(VALID, metadata=bearer("alice"))
        refusal = await refused(running.stub.Get(VALID, metadata=bearer("alice")))
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_CALLS_PER_SECOND",
        )
        assert refusal.retry_after_seconds is not None
        assert 0 < refusal.retry_after_seconds <= 1
        await running.stub.Get(VALID, metadata=bearer("bob"))
        assert limited(running, "calls_per_second") == 1


async def test_without_authentication_calls_per_second_are_not_limited() -> None:
    async with scripted_server(limits=ServerLimits(calls_per_second=1)) as running:
        for _ in range(5):
            await running.stub.Get(VALID)


async def test_one_identity_has_so_many_calls_open_and_others_go_on() -> None:
    limits = ServerLimits(calls=PlaceLimits(10, per_peer=10, per_identity=2))
    async with scripted_server(authenticator=Named(), limits=limits) as running:
        held = [Held(), Held()]
        open_calls = []
        for answer in held:
            running.service.answer = answer
            open_calls.append(asyncio.ensure_future(running.stub.Get(VALID, metadata=bearer("alice"))))
            await answer.began.wait()
        running.service.answer = at_once
        refusal = await refused(running.stub.Get(VALID, metadata=bearer("alice")))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert refusal.retry_after_seconds is not None
        assert limited(running, "calls_per_identity") == 1
        await running.stub.Get(VALID, metadata=bearer("bob"))
        held[0].may_end.set()
        await open_calls[0]
        await running.stub.Get(VALID, metadata=bearer("alice"))
        held[1].may_end.set()
        await open_calls[1]


def certificates(folder: Path) -> ServerTls:
    """TLS that requires a certificate of a client."""
    certificate, key = authority().sign("127.0.0.1", "localhost", service="incident").write(folder, "server")
    ca = folder / "clients.crt"
    ca.write_bytes(authority().certificate)
    return ServerTls(
        CertificateWatch(CertificatePaths(certificate, key, ca)),
        requires_client_certificate=True,
        trust_domain="awoooi",
    )


def shows(pair: Pair) -> grpc.ChannelCredentials:
    """The credentials of a channel that shows a certificate."""
    return channel_credentials(Certificates((pair.key, pair.certificate), authority().certificate))


async def test_a_service_is_its_certificate_and_its_role_is_its_name(tmp_path: Path) -> None:
    client = shows(authority().sign("approval", service="approval"))
    async with scripted_server(
        authenticator=Named(), tls=certificates(tmp_path), credentials=client
    ) as running:
        assert await identity_seen(running) == Identity(
            "service:approval", frozenset({"service:approval"}), "mtls"
        )
        # A token counts before the certificate, also a wrong one.
        assert (await identity_seen(running, bearer("alice"))).name == "alice"
        refusal = await refused(running.stub.Get(VALID, metadata=bearer("nobody")))
        assert refusal.reason == "CREDENTIALS_INVALID"
        refusal = await refused(running.stub.Get(VALID, metadata=(("awoooi-actor", "service:gateway"),)))
        assert refusal.reason == "ACTOR_NOT_AUTHENTICATED"


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["spiffe://other/approval"],
        ["spiffe://awoooi/approval", "spiffe://awoooi/gateway"],
        ["spiffe://awoooi/ns/prod/sa/approval"],
        ["spiffe://awoooi/Approval"],
        ["https://awoooi/approval"],
        ["spiffe://awoooi"],
    ],
    ids=str,
)
async def test_a_certificate_that_names_no_service_of_ours_is_no_identity(
    uris: list[str], tmp_path: Path
) -> None:
    client = shows(authority().sign("approval", service=uris))
    async with scripted_server(
        authenticator=Named(), tls=certificates(tmp_path), credentials=client
    ) as running:
        refusal = await refused(running.stub.Get(VALID))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")
        assert running.service.calls == 0
