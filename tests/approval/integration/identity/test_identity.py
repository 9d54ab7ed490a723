"""No caller acts under another's name: on a real service with tokens and an identity provider."""

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from awoooi.approval.v1 import approval_pb2
from awoooi.client import NO_RETRIES, ApprovalClient, CallError
from tests.approval.conftest import AT_REST
from tests.approval.schemas import approval_database
from tests.callers import NO_ACTION, Incidents, State
from tests.credentials import AUDIENCE, ISSUER, TokenFile, confused, jwk, jwks, rsa_key, signed, unsigned
from tests.eventually import eventually
from tests.rpc_errors import read_refusal, refused
from tests.services import TIMEOUT_SECONDS, RunningService, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="session")

MAPPING = """[roles]
viewer = ["viewer"]
proposer = ["proposer"]
approver = ["approver"]
operator = ["operator"]
"""


@dataclass
class Secured:
    """An approval service that takes tokens."""

    service: RunningService
    approvals: ApprovalClient
    tokens: TokenFile
    keys: Path
    mapping: Path
    # Every credential that a caller was given, and every refusal as a caller received it.
    secrets: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    async def token(self, name: str, *roles: str) -> str:
        """A token of the file, which the service knows."""
        token = self.kept(self.tokens.add(name, *roles))
        await self.until(token, "OK")
        return token

    def jwt(self, name: str, *roles: str, **fields: Any) -> str:
        """A token of the identity provider."""
        return self.kept(signed(name, roles, **fields))

    def kept(self, token: str) -> str:
        """Remember a credential for the search."""
        self.secrets.append(token)
        return token

    async def outcome(self, token: str) -> str:
        """How a read with this token ends."""
        try:
            await self.approvals.list(page_size=1, token=token).page()
        except CallError as exc:
            self.refusals.append(read_refusal(exc).wire)
            return exc.reason
        return "OK"

    async def until(self, token: str, outcome: str) -> None:
        """Return when calls with this token end so."""
        await eventually(lambda: self.outcome(token), lambda found: found == outcome)

    async def proposed(self, incidents: Incidents, token: str, **fields: Any) -> str:
        """The id of a new proposal."""
        proposal: dict[str, Any] = {"action": NO_ACTION, "risk": "LOW", "auto_execute": False} | fields
        found = await self.approvals.propose(await incidents.opened_id(), token=token, **proposal)
        return found.approval_id


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def secured(
    incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Secured]:
    """The service, over the shared incident service."""
    folder = tmp_path_factory.mktemp("identity")
    tokens = TokenFile(folder / "tokens.json")
    keys, mapping = folder / "jwks.json", folder / "roles.toml"
    keys.write_bytes(jwks(jwk(rsa_key())))
    mapping.write_text(MAPPING)
    variables = {
        "APPROVAL_INCIDENT_TARGET": incident_service.address,
        "APPROVAL_TOKENS_FILE": str(tokens.path),
        "APPROVAL_OIDC_ISSUER": ISSUER,
        "APPROVAL_OIDC_AUDIENCE": AUDIENCE,
        "APPROVAL_OIDC_JWKS_FILE": str(keys),
        "APPROVAL_OIDC_ROLES_FILE": str(mapping),
        **AT_REST,
    }
    async with (
        approval_database() as url,
        healthy_service("approval", url, variables=variables) as running,
        ApprovalClient(running.address, timeout=TIMEOUT_SECONDS, retry=NO_RETRIES) as approvals,
    ):
        yield Secured(running, approvals, tokens, keys, mapping)


async def test_no_spelling_of_a_name_approves_its_own_proposal(
    secured: Secured, incidents: Incidents
) -> None:
    approval_id = await secured.proposed(incidents, secured.jwt("Alice", "proposer"))
    spellings = [
        secured.kept(secured.tokens.add("alice", "approver")),
        await secured.token("ALICE", "approver"),
        secured.jwt("alice", "approver"),
        secured.jwt(" aLICE\u00a0", "approver"),
        secured.jwt("\uff41\uff4c\uff49\uff43\uff45", "approver"),
        secured.jwt("\U0001d41a\U0001d425\U0001d422\U0001d41c\U0001d41e", "approver"),
    ]
    for token in spellings:
        for decide in (secured.approvals.approve, secured.approvals.reject):
            refusal = await refused(decide(approval_id, token=token))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "OWN_PROPOSAL")
    for look_alike in ("\u0430lice", "al\u0456ce", "alice\u200b", "\u13aalice"):
        refusal = await refused(
            secured.approvals.approve(approval_id, token=secured.jwt(look_alike, "approver"))
        )
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")
    approval = await secured.approvals.get(approval_id, token=spellings[0])
    assert (approval.state, approval.proposed_by, list(approval.decisions)) == (
        State.STATE_PENDING,
        "alice",
        [],
    )


async def test_one_approver_counts_once_in_every_spelling(secured: Secured, incidents: Incidents) -> None:
    approval_id = await secured.proposed(incidents, secured.jwt("alice", "proposer"), required_approvals=2)
    for token in (
        secured.jwt("Bob", "approver"),
        await secured.token("bob", "approver"),
        secured.jwt("\uff22\uff4f\uff42", "approver"),
    ):
        approval = await secured.approvals.approve(approval_id, token=token)
        assert approval.state == State.STATE_PENDING
        assert [decision.actor for decision in approval.decisions] == ["bob"]
    approval = await secured.approvals.approve(approval_id, token=secured.jwt("carol", "approver"))
    assert approval.state == State.STATE_APPROVED


async def test_a_proposer_cancels_only_their_own(secured: Secured, incidents: Incidents) -> None:
    approval_id = await secured.proposed(incidents, secured.jwt("alice", "proposer"))
    refusal = await refused(secured.approvals.cancel(approval_id, token=secured.jwt("bob", "proposer")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PROPOSER")
    cancelled = await secured.approvals.cancel(approval_id, token=secured.jwt("ALICE", "proposer"))
    assert cancelled.state == State.STATE_CANCELLED
    other_id = await secured.proposed(incidents, secured.jwt("alice", "proposer"))
    cancelled = await secured.approvals.cancel(other_id, token=secured.jwt("oscar", "operator"))
    assert cancelled.state == State.STATE_CANCELLED


async def test_a_proposer_supersedes_only_their_own_and_neither_of_two_proposers_decides(
    secured: Secured, incidents: Incidents
) -> None:
    alice, bob = secured.jwt("alice", "proposer", "approver"), secured.jwt("bob", "proposer", "approver")
    first = await secured.approvals.get(await secured.proposed(incidents, alice), token=alice)

    def superseding(approval_id: str, token: str) -> Awaitable[approval_pb2.Approval]:
        return secured.approvals.propose(
            first.incident_id, action=NO_ACTION, risk="LOW", supersedes=approval_id, token=token
        )

    refusal = await refused(superseding(first.approval_id, bob))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PROPOSER")
    approver = secured.jwt("carol", "approver")
    refusal = await refused(superseding(first.approval_id, approver))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
    second = await superseding(first.approval_id, secured.jwt("ALICE", "proposer"))
    third = await superseding(second.approval_id, secured.jwt("oscar", "operator", "approver"))
    for token in (alice, secured.jwt("Alice", "approver"), secured.jwt("oscar", "approver")):
        refusal = await refused(secured.approvals.approve(third.approval_id, token=token))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "OWN_PROPOSAL")
    approved = await secured.approvals.approve(third.approval_id, token=bob)
    assert [decision.actor for decision in approved.decisions] == ["bob"]


async def test_what_is_indeterminate_is_closed_by_an_operator_alone(
    secured: Secured, incidents: Incidents
) -> None:
    approval_id = await secured.proposed(incidents, secured.jwt("alice", "proposer"))
    connection = await asyncpg.connect(secured.service.database_url)
    try:
        await connection.execute(
            "UPDATE approvals SET state = 'INDETERMINATE' WHERE approval_id = $1", approval_id
        )
    finally:
        await connection.close()
    refusal = await refused(secured.approvals.cancel(approval_id, token=secured.jwt("alice", "proposer")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PROPOSER")
    cancelled = await secured.approvals.cancel(approval_id, token=secured.jwt("oscar", "operator"))
    assert cancelled.state == State.STATE_CANCELLED


async def test_the_metadata_may_repeat_the_identity_and_name_no_other(secured: Secured) -> None:
    token = secured.jwt("alice", "viewer")
    await secured.approvals.list(token=token, actor="Alice").page()
    refusal = await refused(secured.approvals.list(token=token, actor="bob").page())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ACTOR_NOT_AUTHENTICATED")
    refusal = await refused(secured.approvals.list(actor="service:approval").page())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING")


async def test_a_revoked_token_stops_without_a_restart(secured: Secured) -> None:
    token, other = await secured.token("gone", "viewer"), await secured.token("stays", "viewer")
    secured.tokens.revoke("gone")
    await secured.until(token, "CREDENTIALS_INVALID")
    assert await secured.outcome(other) == "OK"


async def test_keys_are_rotated_without_a_refused_call(secured: Secured) -> None:
    old = secured.jwt("alice", "viewer")
    new = secured.jwt("alice", "viewer", key=rsa_key("next"), key_id="next")
    assert await secured.outcome(new) == "CREDENTIALS_INVALID"
    secured.keys.write_bytes(jwks(jwk(rsa_key()), jwk(rsa_key("next"), "next")))

    async def both() -> str:
        assert await secured.outcome(old) == "OK"
        return await secured.outcome(new)

    await eventually(both, lambda found: found == "OK")
    secured.keys.write_bytes(jwks(jwk(rsa_key("next"), "next")))
    await secured.until(old, "CREDENTIALS_INVALID")
    assert await secured.outcome(new) == "OK"
    secured.keys.write_bytes(jwks(jwk(rsa_key())))
    await secured.until(old, "OK")


async def test_a_changed_role_mapping_counts_without_a_restart(secured: Secured) -> None:
    token = secured.jwt("alice", "viewer")
    await secured.until(token, "OK")
    secured.mapping.write_text(MAPPING.replace('viewer = ["viewer"]', 'viewer = ["others"]'))
    await secured.until(token, "ROLE_MISSING")
    secured.mapping.write_text(MAPPING)
    await secured.until(token, "OK")


async def test_no_credential_is_in_the_log_in_a_response_or_in_the_process_list(secured: Secured) -> None:
    forged = [
        unsigned(),
        confused(),
        signed(aud="another"),
        signed(key=rsa_key("other")),
        signed(exp=1),
        "fw_" + "planted" * 6,
        "planted.planted.planted",
    ]
    for token in forged:
        secured.kept(token)
        assert (await secured.outcome(token)).startswith("CREDENTIALS_")
    assert secured.service.events("rpc_unauthenticated")
    command = secured.service.command_line
    written = "".join([*secured.service.lines, *secured.refusals, command])
    # Of a JSON Web Token also its signature alone, and its claims.
    parts = {
        part for secret in secured.secrets for part in (secret, *secret.split(".")[1:]) if len(part) > 20
    }
    assert len(parts) > len(forged)
    assert not [part for part in parts if part in written]
