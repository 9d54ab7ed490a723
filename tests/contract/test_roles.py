"""Who may call what: every cell of the role tables, for every RPC of the contracts and every kind of caller.

The servers have the tables and interceptors of the services and handlers that answer nothing, so that a call which may be made
ends as UNIMPLEMENTED or INVALID_ARGUMENT.
"""

import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from prometheus_client import CollectorRegistry

from approval.roles import ROLES as APPROVAL_ROLES
from incident.roles import ROLES as INCIDENT_ROLES
from servicekit.identity.jwks import parse_jwks
from servicekit.identity.jwt import JwtRules, JwtVerifier
from servicekit.identity.key_sources import FileKeys
from servicekit.identity.metrics import SourceMetrics
from servicekit.identity.roles import ROLES_BY_NAME
from servicekit.identity.tokens import Tokens, TokenVerifier, parse_tokens
from servicekit.identity.watched_file import WatchedFile
from tests.contract.role_servers import APPROVALS, INCIDENTS, STATS, Servers, WithServices, running_servers
from tests.credentials import AUDIENCE, ISSUER, TokenFile, confused, jwk, jwks, rsa_key, signed, unsigned

in_module = pytest.mark.asyncio(loop_scope="module")

_ROOT = Path(__file__).parents[2]

COLUMNS = (
    "viewer",
    "proposer",
    "approver",
    "operator",
    "detector",
    "intake",
    "service:approval",
    "service:gateway",
    "service:intake",
)
# By column; x: may call.
READ = "xxxx  x  "
INTAKE_READ = "xxxx xx x"
EXPECTED: Mapping[str, Mapping[str, str]] = {
    INCIDENTS.full_name: {
        "Get": INTAKE_READ,
        "List": INTAKE_READ,
        "LookupIncidents": READ,
        "ListEvents": INTAKE_READ,
        "Watch": READ,
        "SearchKnowledge": READ,
        "GetPostmortem": READ,
        "ListSideEffects": READ,
        "Create": "   xxx  x",
        "StartInvestigation": "   x  x  ",
        "AddEvent": "   x  x  ",
        "Resolve": "   x xx x",
        "BatchResolve": "   x  x  ",
        "Reopen": "   x     ",
        "RemoveCanary": "   x     ",
        "RetrySideEffect": "   x     ",
        "RetrySideEffects": "   x     ",
        "DismissSideEffect": "   x     ",
    },
    APPROVALS.full_name: {
        "Get": INTAKE_READ,
        "List": INTAKE_READ,
        "ListExecutions": READ,
        "ListDeliveries": READ,
        "Watch": READ,
        "Propose": " x x     ",
        "Cancel": " x x     ",
        "Approve": "  x      ",
        "Reject": "  x      ",
        "Execute": "   x     ",
        "RetryDelivery": "   x     ",
        "RetryDeliveries": "   x     ",
        "DismissDelivery": "   x     ",
        "Reconcile": "   x     ",
        "RemoveCanary": "   x     ",
    },
    STATS.full_name: {"GetFlywheelStats": "x  x   x "},
}


def test_every_rpc_of_the_contracts_is_in_the_tables_and_nothing_else() -> None:
    methods = {
        service: {method.name for method in service.methods} for service in (INCIDENTS, APPROVALS, STATS)
    }
    assert {service.full_name: names for service, names in methods.items()} == {
        name: set(rows) for name, rows in EXPECTED.items()
    }
    for table, services in ((INCIDENT_ROLES, (INCIDENTS, STATS)), (APPROVAL_ROLES, (APPROVALS, STATS))):
        assert set(table) == {f"/{each.full_name}/{name}" for each in services for name in methods[each]}


WRONG = (
    *(
        "none",
        "empty",
        "another scheme",
        "unknown token",
        "expired token",
        "revoked token",
        "expired",
        "not yet valid",
    ),
    *("wrong audience", "wrong issuer", "unknown key", "alg none", "key confusion", "a service's name"),
)


def credentials(tokens: TokenFile) -> Mapping[str, str | None]:
    """Credentials of each column and each kind that is wrong, as `authorization`; the wrong ones would be an operator's."""
    people = COLUMNS[:6]
    right = {role: tokens.add(f"some-{role}", role) for role in people}
    expired = tokens.add("early", "operator", expire_time="2026-01-01T00:00:00Z")
    revoked = tokens.add("gone", "operator")
    tokens.revoke("gone")
    role = ["operator"]
    return {
        **{name: f"Bearer {token}" for name, token in right.items()},
        **{name: name for name in (*COLUMNS[6:], "service:incident")},
        "no role": f"Bearer {signed('somebody', [])}",
        "none": None,
        "empty": "",
        "another scheme": f"Basic {right['operator']}",
        "unknown token": f"Bearer {right['operator']}x",
        "expired token": f"Bearer {expired}",
        "revoked token": f"Bearer {revoked}",
        "expired": f"Bearer {signed('mallory', role, exp=time.time() - 1)}",
        "not yet valid": f"Bearer {signed('mallory', role, nbf=time.time() + 3600)}",
        "wrong audience": f"Bearer {signed('mallory', role, aud='another')}",
        "wrong issuer": f"Bearer {signed('mallory', role, iss='https://other.example')}",
        "unknown key": f"Bearer {signed('mallory', role, key=rsa_key('other'), key_id='second')}",
        "alg none": f"Bearer {unsigned()}",
        "key confusion": f"Bearer {confused()}",
        "a service's name": f"Bearer {signed('service:approval', role)}",
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Both services' interceptors and tables, over handlers that are not implemented."""
    tokens = TokenFile(tmp_path_factory.mktemp("tokens") / "tokens.json")
    found = credentials(tokens)
    metrics = SourceMetrics(CollectorRegistry())
    file = WatchedFile[Tokens](tokens.path, parse_tokens, unusable={}, source="tokens", metrics=metrics)
    keys = WatchedFile(
        tokens.path.with_name("jwks.json"), parse_jwks, unusable=None, source="jwks", metrics=metrics
    )
    tokens.path.with_name("jwks.json").write_bytes(jwks(jwk(rsa_key())))
    file.load()
    keys.load()
    rules = JwtRules(ISSUER, (AUDIENCE,), frozenset({"RS256"}), timedelta(0), "sub", "roles")
    authenticator = WithServices(
        tokens=TokenVerifier(file), jwts=JwtVerifier(rules, FileKeys(keys), lambda: ROLES_BY_NAME)
    )
    async with running_servers(authenticator) as running:
        channels = {name: grpc.aio.insecure_channel(server.address) for name, server in running.items()}
        servers = Servers(channels, found)
        yield servers
        await servers.close()


def table_rows() -> list[tuple[str, MethodDescriptor, str]]:
    return [
        (service, method, EXPECTED[described.full_name][method.name])
        for service, described in (
            ("incident", INCIDENTS),
            ("incident", STATS),
            ("approval", APPROVALS),
            ("approval", STATS),
        )
        for method in described.methods
    ]


@in_module
@pytest.mark.parametrize("role", COLUMNS)
async def test_a_role_may_call_what_its_column_says(servers: Servers, role: str) -> None:
    column = COLUMNS.index(role)
    passed = {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT}
    for service, method, row in table_rows():
        code = await servers.call(service, method, servers.credentials[role])
        if row[column] == "x":
            assert code in passed, f"{role} may call {method.full_name}: {code}"
        else:
            assert code is grpc.StatusCode.PERMISSION_DENIED, (
                f"{role} may not call {method.full_name}: {code}"
            )


@in_module
@pytest.mark.parametrize("wrong", ["no role", "service:incident"])
async def test_without_a_role_of_the_table_nothing_may_be_called(servers: Servers, wrong: str) -> None:
    for service, method, _ in table_rows():
        code = await servers.call(service, method, servers.credentials[wrong])
        assert code is grpc.StatusCode.PERMISSION_DENIED, method.full_name


@in_module
@pytest.mark.parametrize("wrong", WRONG)
async def test_with_wrong_credentials_nothing_may_be_called(servers: Servers, wrong: str) -> None:
    for service, method, _ in table_rows():
        code = await servers.call(service, method, servers.credentials[wrong])
        assert code is grpc.StatusCode.UNAUTHENTICATED, method.full_name


def test_the_table_in_the_documents_is_the_same() -> None:
    lines = (_ROOT / "docs/security.md").read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("| `") and line.count("|") == len(COLUMNS) + 2
    ]
    documented = {
        name.strip(" `"): "".join("x" if cell == "✓" else " " for cell in cells)
        for names, *cells in rows
        for name in names.split(",")
    }
    expected = {name: row for methods in EXPECTED.values() for name, row in methods.items()}
    assert documented == expected
