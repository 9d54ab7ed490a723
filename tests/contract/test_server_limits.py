"""Every limit of a gRPC server has a value in the contract, is in the stats of both services, and in the documents."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import approval.stats.mapping
import incident.stats.mapping
from awoooi.flywheel.v1 import flywheel_stats_pb2 as pb
from servicekit.identity.authentication import open_authentication
from servicekit.identity.settings import IdentitySettings
from servicekit.process.build import Build
from servicekit.rpc.server_builder import ServerBuilder
from servicekit.rpc.status_codes import ErrorTable
from tests.credentials import AUDIENCE, ISSUER, TokenFile, ec_key, jwk, jwks

CONFIGURATION = Path(__file__).parents[2] / "docs" / "configuration.md"


def limits() -> set[str]:
    """The limits that a server counts from its start."""
    builder = ServerBuilder("127.0.0.1:0", errors=ErrorTable({}), registry=CollectorRegistry(), roles={})
    return set(builder.refused)


async def test_the_contract_knows_every_limit() -> None:
    names = {name.removeprefix("SERVER_LIMIT_").lower() for name in pb.ServerLimit.keys()[1:]}
    assert limits() == names


async def test_the_documents_list_every_limit() -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    assert [name for name in sorted(limits()) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("mapping", [incident.stats.mapping, approval.stats.mapping])
def test_both_services_report_what_was_refused(mapping: object) -> None:
    to_proto: Callable[..., pb.ServerStats] = vars(mapping)["server_to_proto"]
    stats = to_proto(
        {"calls": 3, "write_time": 0, "of_a_later_version": 1, "of_another": 2},
        {"tokens", "of_a_later_version"},
        Build("1.2.3", "0014"),
        database_revision="0013",
    )
    assert (stats.version, stats.code_revision, stats.database_revision) == ("1.2.3", "0014", "0013")
    assert {entry.limit: entry.count for entry in stats.refused_total} == {
        pb.SERVER_LIMIT_CALLS: 3,
        pb.SERVER_LIMIT_WRITE_TIME: 0,
        pb.SERVER_LIMIT_UNSPECIFIED: 3,
    }
    assert set(stats.unusable_identity_sources) == {pb.IDENTITY_SOURCE_TOKENS, pb.IDENTITY_SOURCE_UNSPECIFIED}


def test_the_contract_knows_every_source_of_identities(tmp_path: Path) -> None:
    tokens, keys, mapping = tmp_path / "tokens", tmp_path / "jwks", tmp_path / "roles"
    TokenFile(tokens)
    keys.write_bytes(jwks(jwk(ec_key())))
    mapping.write_text("[roles]\n")
    settings = IdentitySettings(
        tokens_file=tokens,
        oidc_issuer=ISSUER,
        oidc_audience=AUDIENCE,
        oidc_jwks_file=keys,
        oidc_roles_file=mapping,
    )
    registry = CollectorRegistry()
    open_authentication(settings, registry)
    sources = {
        sample.labels["source"]
        for family in registry.collect()
        if family.name == "identity_source_usable"
        for sample in family.samples
    }
    assert sources == {name.removeprefix("IDENTITY_SOURCE_").lower() for name in pb.IdentitySource.keys()[1:]}
