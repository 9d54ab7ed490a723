"""HTTP over TLS: who is connected to, certificates that are replaced, and the bounds of handshakes."""

import asyncio
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from servicekit.http.limits import HttpLimits, HttpRefusals
from servicekit.http.tls import HttpTls
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import CertificatePaths, Certificates
from tests.authority import Pair, authority
from tests.servicekit.integration.http.bounded_server import GET, BoundedServer, bounded_server
from tests.services import TIMEOUT_SECONDS
from tests.tls_clients import client_context

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def watch(folder: Path, *, clients: str = "") -> CertificateWatch:
    """The files of a server for 127.0.0.1; with `clients`, the authority of their certificates."""
    certificate, key = authority().sign("127.0.0.1").write(folder, "server")
    ca = None
    if clients:
        ca = folder / "clients.crt"
        ca.write_bytes(authority(clients).certificate)
    return CertificateWatch(CertificatePaths(certificate, key, ca))


async def shown_by(server: BoundedServer, context: ssl.SSLContext) -> bytes:
    """The certificate that a new connection sees; its request is answered."""
    client = await server.connect(tls=context)
    assert (await client.response()).startswith(b"HTTP/1.1 200")
    der = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(der).encode()


async def fails(server: BoundedServer, context: ssl.SSLContext | None) -> bool:
    """Whether a request on a new connection gets no response."""
    with suppress(OSError, asyncio.IncompleteReadError):
        client = await server.connect(tls=context)
        return not (await client.response()).startswith(b"HTTP/1.1")
    return True


async def test_a_client_that_trusts_the_authority_is_answered(tmp_path: Path) -> None:
    async with bounded_server(HttpLimits(), tls=HttpTls(watch(tmp_path))) as server:
        assert await shown_by(server, client_context(tmp_path)) == (tmp_path / "server.crt").read_bytes()
        client = await server.connect(tls=client_context(tmp_path))
        for _ in range(3):
            assert (await client.response()).endswith(b"here")


def test_it_works_on_the_event_loop_of_the_services(tmp_path: Path) -> None:
    async def request() -> bytes:
        async with bounded_server(HttpLimits(), tls=HttpTls(watch(tmp_path))) as server:
            client = await server.connect(tls=client_context(tmp_path))
            return await client.response()

    assert uvloop.run(request()).endswith(b"here")


async def test_a_client_in_plain_text_or_of_another_authority_gets_nothing(tmp_path: Path) -> None:
    async with bounded_server(HttpLimits(), tls=HttpTls(watch(tmp_path))) as server:
        assert await fails(server, None)
        assert await fails(server, client_context(tmp_path, ca="others"))
        assert not await fails(server, client_context(tmp_path))
        assert server.refused() == {"tls_handshake": 2}


async def test_a_handshake_that_takes_too_long_ends(tmp_path: Path) -> None:
    limits = HttpLimits(header_time=timedelta(seconds=0.2))
    async with bounded_server(limits, tls=HttpTls(watch(tmp_path))) as server:
        silent = await server.connect()
        assert await silent.closed() == b""
        assert server.refused() == {"tls_handshake": 1}


async def test_silent_handshakes_keep_no_other_out(tmp_path: Path) -> None:
    limits = HttpLimits(connections=3, connections_per_peer=3)
    async with bounded_server(limits, tls=HttpTls(watch(tmp_path))) as server:
        silent = [await server.connect() for _ in range(5)]
        assert not await fails(server, client_context(tmp_path))
        assert await silent[0].closed() == b""
        assert server.refused()["connections_per_peer"] >= 3


async def test_requests_are_answered_while_the_certificate_is_replaced(tmp_path: Path) -> None:
    files = watch(tmp_path)
    async with bounded_server(HttpLimits(), tls=HttpTls(files)) as server:
        open_before = await server.connect(tls=client_context(tmp_path))
        stop = asyncio.Event()

        async def requests() -> int:
            number = 0
            while not stop.is_set():
                await shown_by(server, client_context(tmp_path))
                number += 1
            return number

        clients = [asyncio.create_task(requests()) for _ in range(2)]
        for number in range(4):
            new = authority().sign("127.0.0.1", key=f"rotated {number % 2}")
            new.write(tmp_path, "server")
            assert files.refresh()
            files.changed()
            assert await shown_by(server, client_context(tmp_path)) == new.certificate
            assert (await open_before.response()).endswith(b"here")
        stop.set()
        assert min(await asyncio.gather(*clients)) > 0
        assert server.refused() == {}


async def test_what_openssl_does_not_take_leaves_the_old_certificate(tmp_path: Path) -> None:
    files = watch(tmp_path)
    async with bounded_server(HttpLimits(), tls=HttpTls(files)) as server:
        before = await shown_by(server, client_context(tmp_path))
        files.current = Certificates((b"no key", b"no certificate"))
        with capture_logs() as logs:
            files.changed()
        assert [line["event"] for line in logs] == ["certificates_not_reloaded"]
        assert await shown_by(server, client_context(tmp_path)) == before


class Around:
    """Notes whose certificate the application sees."""

    def __init__(self, names: list[str | None]) -> None:
        self.names = names

    def __call__(self, app: ASGIApp, _refusals: HttpRefusals) -> ASGIApp:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            self.names.append(scope["extensions"]["tls"]["client_cert_name"])
            await app(scope, receive, send)

        return application


async def test_the_application_sees_whose_certificate_was_verified(tmp_path: Path) -> None:
    names: list[str | None] = []
    tls = HttpTls(watch(tmp_path, clients="tests"))
    async with bounded_server(HttpLimits(), tls=tls, around=Around(names)) as server:
        prometheus = authority().sign("prometheus")
        assert not await fails(server, client_context(tmp_path, prometheus))
        assert not await fails(server, client_context(tmp_path))
    assert names == ["commonName=prometheus", None]


@pytest.mark.parametrize(
    "pair",
    [
        authority("others").sign("prometheus"),
        authority().sign("prometheus", begin=NOW - 2 * HOUR, end=NOW - HOUR),
    ],
    ids=["other authority", "expired"],
)
async def test_a_bad_certificate_of_a_client_ends_the_connection(pair: Pair, tmp_path: Path) -> None:
    tls = HttpTls(watch(tmp_path, clients="tests"))
    async with bounded_server(HttpLimits(), tls=tls) as server:
        assert await fails(server, client_context(tmp_path, pair))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not server.refused():  # noqa: ASYNC110 - the client ends first
                await asyncio.sleep(0.001)
        assert server.refused() == {"tls_handshake": 1}
        assert not await fails(server, client_context(tmp_path))


async def test_many_requests_on_one_connection_with_pipelining(tmp_path: Path) -> None:
    async with bounded_server(HttpLimits(), tls=HttpTls(watch(tmp_path))) as server:
        client = await server.connect(tls=client_context(tmp_path))
        assert (await client.response(GET + GET)).endswith(b"here")
        assert (await client.response(b"")).endswith(b"here")


async def test_a_client_that_does_not_read_its_response_is_disconnected(tmp_path: Path) -> None:
    limits = HttpLimits(write_time=timedelta(seconds=0.3))
    async with bounded_server(limits, tls=HttpTls(watch(tmp_path))) as server:
        # More than both kernels and the client buffer.
        server.application.response = Response(b"x" * (32 << 20))
        client = await server.connect(read_limit=1, tls=client_context(tmp_path))
        await client.send(GET)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while "write_time" not in server.refused():  # noqa: ASYNC110 - a timer of the server
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [0, 1, 64 << 10, (64 << 10) + 1, 200_000])
async def test_a_response_of_any_size_arrives_as_it_was_sent(size: int, tmp_path: Path) -> None:
    async with bounded_server(HttpLimits(), tls=HttpTls(watch(tmp_path))) as server:
        body = bytes(range(256)) * (size // 256 + 1)
        server.application.response = Response(body[:size])
        client = await server.connect(tls=client_context(tmp_path))
        assert (await client.response()).partition(b"\r\n\r\n")[2] == body[:size]
