"""What a transport and its metadata say about a caller."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import pytest
import structlog
from prometheus_client import CollectorRegistry

from servicekit.identity.authenticator import Authenticator
from servicekit.identity.credentials import Credentials, Refusal, UnauthenticatedError
from servicekit.identity.identity import Identity
from servicekit.rpc.access_log import AccessLog
from servicekit.rpc.caller import VerifiedCallers, is_loopback_peer
from servicekit.rpc.identity import set_identity
from servicekit.rpc.interceptors.rate_limit import RateLimitLayer
from servicekit.rpc.refusals import RefusalMetrics
from servicekit.rpc.status_details import RpcError

TLS = {"transport_security_type": [b"ssl"]}


class Call:
    """A call, as gRPC describes it to a handler."""

    def __init__(self, peer: str, properties: Mapping[str, Sequence[bytes]], *authorization: str) -> None:
        self._peer = peer
        self._properties = properties
        self._authorization = authorization

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return self._properties

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return [("authorization", value) for value in self._authorization]


class Recording(Authenticator):
    """Takes every private token."""

    async def authenticate(self, credentials: Credentials) -> Identity:
        if not credentials.is_private:
            return await super().authenticate(credentials)
        return Identity("alice", frozenset({"viewer"}), "token")


async def identify(call: Any) -> Identity:
    return await VerifiedCallers(Recording(), AccessLog(CollectorRegistry())).identify(call, "/s/M")


@pytest.mark.parametrize(
    ("peer", "properties"),
    [
        ("ipv4:10.0.0.1:5", TLS),
        ("ipv6:%5Bfe80::1%5D:5", {"transport_security_type": [b"tls"]}),
        ("ipv4:127.0.0.1:5", {}),
        ("unix:", {}),
    ],
)
async def test_a_token_is_taken_over_tls_and_on_this_machine(peer: str, properties: Any) -> None:
    assert (await identify(Call(peer, properties, "Bearer fw_x"))).name == "alice"


@pytest.mark.parametrize(
    ("peer", "properties"),
    [
        ("ipv4:10.0.0.1:5", {}),
        ("ipv6:[fe80::1]:5", {"transport_security_type": [b"insecure"]}),
        ("", {}),
    ],
)
async def test_a_token_in_plain_text_is_refused_and_called_known_to_others(
    peer: str, properties: Any
) -> None:
    with pytest.raises(RpcError) as caught:
        await identify(Call(peer, properties, "Bearer fw_x"))
    status = caught.value.status
    assert (status.code, status.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TLS_REQUIRED")
    assert "fw_x" not in status.message


@pytest.mark.parametrize(
    ("peer", "is_loopback"),
    [
        ("ipv4:127.0.0.1:50312", True),
        ("ipv4:127.8.8.8:1", True),
        ("ipv6:%5B::1%5D:50312", True),
        ("ipv6:[::1]:50312", True),
        ("ipv6:[::ffff:127.0.0.1]:50312", True),
        ("unix:/run/x.sock", True),
        ("ipv4:128.0.0.1:50312", False),
        ("ipv6:[::ffff:10.0.0.1]:50312", False),
        ("ipv4:127.0.0.1.example:1", False),
        ("dns:localhost:1", False),
    ],
)
def test_which_peers_are_on_this_machine(peer: str, is_loopback: bool) -> None:
    assert is_loopback_peer(peer) is is_loopback


@pytest.mark.parametrize(
    "authorization",
    [
        ("Basic x",),
        ("Bearer",),
        ("Bearer ",),
        ("fw_x",),
        ("Bearer a.b.c", "Bearer a.b.c"),
        ("Bearer " + "x" * 9000,),
    ],
    ids=["scheme", "no token", "blank", "no scheme", "twice", "long"],
)
async def test_one_bearer_token_is_expected(authorization: tuple[str, ...]) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        await Authenticator().authenticate(Credentials(authorization, is_private=True))
    assert caught.value.refusal is Refusal.MALFORMED


@pytest.mark.parametrize("token", ["fw_x", "a.b.c"])
async def test_a_kind_of_token_that_is_not_configured_is_refused(token: str) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        await Authenticator().authenticate(Credentials((f"bearer {token}",), is_private=True))
    assert caught.value.refusal is Refusal.NOT_ACCEPTED


def test_repeated_refusals_are_one_line_that_says_how_many_it_stands_for() -> None:
    now = [0.0]
    log = AccessLog(CollectorRegistry(), clock=lambda: now[0])
    call: Any = Call("ipv4:10.0.0.1:5", {})
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            log.unauthenticated(Refusal.MISSING, "/s/M", call)
        log.unauthenticated(Refusal.MISSING, "/s/Other", call)
        log.denied("role_missing", "/s/M", Identity("alice", frozenset(), "token"))
        now[0] = 10.0
        log.unauthenticated(Refusal.MISSING, "/s/M", call)
    shown = [(line["reason"], line["method"], line["suppressed"]) for line in lines]
    assert shown == [
        ("missing", "/s/M", 0),
        ("missing", "/s/Other", 0),
        ("role_missing", "/s/M", 0),
        ("missing", "/s/M", 99),
    ]


async def test_calls_per_second_come_back_with_time_and_services_are_not_limited() -> None:
    now = [0.0]
    layer = RateLimitLayer(10, RefusalMetrics(CollectorRegistry()), clock=lambda: now[0])

    async def inner(_request: Any, _context: Any) -> str:
        return "made"

    call = layer.unary("/s/M", inner)
    context: Any = None

    async def made() -> int:
        """How many of 100 calls at once are made."""
        delays = []
        for _ in range(100):
            try:
                await call(None, context)
            except RpcError as exc:
                delays.append(exc.status.retry_after)
        assert all(delay is not None and 0 < delay.total_seconds() <= 0.1 for delay in delays)
        return 100 - len(delays)

    set_identity(Identity("alice", frozenset(), "jwt"))
    assert await made() == 20
    now[0] = 0.55
    assert await made() == 5
    now[0] = 1000.0
    assert await made() == 20
    for identity in (
        Identity("service:approval", frozenset(), "mtls"),
        Identity("alice", frozenset(), "loopback"),
    ):
        set_identity(identity)
        assert await made() == 100
