"""Who may call what by a certificate, over mutual TLS: the columns of the services, and certificates that prove no identity."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from servicekit.identity.authenticator import Authenticator
from servicekit.identity.certificate_watch import CertificateWatch
from servicekit.identity.certificates import CertificatePaths, Certificates
from servicekit.rpc.tls import ServerTls, channel_credentials
from tests.authority import Pair, authority
from tests.contract.role_servers import Servers, running_servers
from tests.contract.test_roles import COLUMNS, table_rows

in_module = pytest.mark.asyncio(loop_scope="module")

PASSED = {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT}
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
TRUSTED = authority().sign


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def addresses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mapping[str, str]]:
    """Both services' interceptors and tables, behind an address that requires a certificate."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = TRUSTED("127.0.0.1", service="incident").write(folder, "server")
    ca = folder / "ca.crt"
    ca.write_bytes(authority().certificate)
    tls = ServerTls(
        CertificateWatch(CertificatePaths(certificate, key, ca)),
        requires_client_certificate=True,
        trust_domain="awoooi",
    )
    async with running_servers(Authenticator(), tls) as running:
        yield {name: server.address for name, server in running.items()}


def shown(addresses: Mapping[str, str], pair: Pair) -> Servers:
    """The services, called with a certificate."""
    credentials = channel_credentials(Certificates((pair.key, pair.certificate), authority().certificate))
    return Servers(
        {name: grpc.aio.secure_channel(address, credentials) for name, address in addresses.items()}, {}
    )


@in_module
@pytest.mark.parametrize("service", COLUMNS[6:])
async def test_a_service_may_call_what_its_column_says(service: str, addresses: Mapping[str, str]) -> None:
    servers = shown(addresses, TRUSTED("localhost", service=service.removeprefix("service:")))
    for name, method, row in table_rows():
        code = await servers.call(name, method, None)
        if row[COLUMNS.index(service)] == "x":
            assert code in PASSED, f"{service} may call {method.full_name}: {code}"
        else:
            assert code is grpc.StatusCode.PERMISSION_DENIED, (
                f"{service} may not call {method.full_name}: {code}"
            )
    await servers.close()


@in_module
@pytest.mark.parametrize(
    ("pair", "code"),
    [
        pytest.param(
            authority("others").sign("localhost", service="approval"),
            grpc.StatusCode.UNAVAILABLE,
            id="wrong authority",
        ),
        pytest.param(
            TRUSTED("localhost", service="approval", begin=NOW - 2 * HOUR, end=NOW - HOUR),
            grpc.StatusCode.UNAVAILABLE,
            id="expired",
        ),
        *(
            pytest.param(TRUSTED(*names, service=uris), grpc.StatusCode.UNAUTHENTICATED, id=case)
            for case, names, uris in (
                ("another trust domain", ["localhost"], ["spiffe://other/approval"]),
                ("two URIs", ["localhost"], ["spiffe://awoooi/approval", "spiffe://awoooi/incident"]),
                ("no URI, only names", ["approval", "operator"], []),
                ("another scheme", ["localhost"], ["https://awoooi/approval"]),
                ("a path of two segments", ["localhost"], ["spiffe://awoooi/a/approval"]),
                ("a trust domain alone", ["localhost"], ["spiffe://awoooi"]),
            )
        ),
        pytest.param(
            TRUSTED("localhost", service="operator"),
            grpc.StatusCode.PERMISSION_DENIED,
            id="a role for a service",
        ),
    ],
)
async def test_with_a_certificate_that_proves_no_identity_nothing_may_be_called(
    pair: Pair, code: grpc.StatusCode, addresses: Mapping[str, str]
) -> None:
    servers = shown(addresses, pair)
    for name, method, _ in table_rows():
        assert await servers.call(name, method, None) is code, method.full_name
    await servers.close()
