"""Watch: which resume tokens are taken."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from grpc import StatusCode

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from incident.watch.epoch import FIRST_EPOCH
from incident.watch.mapping import make_token
from incident.watch.model import Position, ResumePoint, Snapshot
from servicekit.rpc.page_tokens import PageTokens
from tests.incident.incidents import OPEN, opened, token
from tests.incident.integration.watch.watching import act, type_name, watching
from tests.rpc_errors import refused

if TYPE_CHECKING:
    from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

HIGH = incident_pb2.SEVERITY_HIGH


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda given, _: "AAAA" + given[4:], id="another signature"),
        pytest.param(lambda given, _: given[:-4] + "AAAA", id="another position"),
        pytest.param(lambda given, _: given[:10], id="a part of one"),
        pytest.param(lambda _, page: page, id="a page token"),
        pytest.param(lambda *_: "once upon a time", id="no token"),
    ],
)
async def test_a_forged_resume_token_is_refused(
    stub: "IncidentServiceAsyncStub", make: Callable[[str, str], str]
) -> None:
    for _ in range(2):
        await opened(stub)
    page = (await stub.List(pb.ListRequest(page_size=1))).next_page_token
    given = (await watching(stub)).token
    refusal = await refused(stub.Watch(pb.WatchRequest(resume_token=make(given, page))).read())
    assert (refusal.code, refusal.reason, refusal.fields) == (
        StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        ("resume_token",),
    )


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"states": [OPEN]}, id="states"),
        pytest.param({"severities": [HIGH]}, id="severities"),
        pytest.param({"fingerprint": "another"}, id="fingerprint"),
        pytest.param({"labels": {"team": "b"}}, id="labels"),
        pytest.param({"incident_id": "INC-20260507-ABCDEF"}, id="incident"),
    ],
)
async def test_a_resume_token_of_another_filter_is_refused(
    stub: "IncidentServiceAsyncStub", other: dict[str, Any]
) -> None:
    fields = {"labels": {"team": "a"}}
    given = (await watching(stub, **fields)).token
    refusal = await refused(stub.Watch(pb.WatchRequest(**(fields | other), resume_token=given)).read())
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, ("resume_token",))


async def test_a_resume_token_is_not_bound_to_include_existing(stub: "IncidentServiceAsyncStub") -> None:
    labels = {"test": token()}
    existing = await opened(stub, labels=labels)
    first = await watching(stub, labels=labels, include_existing=True)
    assert [response.incident for response in first.responses[:-1]] == [existing]
    await act(stub, "start", existing.incident_id)
    for include_existing in (True, False):
        resumed = await watching(
            stub, labels=labels, include_existing=include_existing, resume_token=first.token
        )
        assert type_name((await resumed.change()).event) == "INVESTIGATION_STARTED"
        assert len(resumed.responses) == 2


async def test_a_resume_token_ahead_of_the_database_is_refused(
    stub: "IncidentServiceAsyncStub", rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    # As after a restore from a backup that is older than the token.
    tokens = PageTokens()
    tokens.key = await rows.fetchval("SELECT key FROM service_keys WHERE name = 'page_tokens'")
    later = make_token(pb.WatchRequest(), tokens)(
        ResumePoint(Position.at(Snapshot(1 << 40, 1 << 40)), FIRST_EPOCH)
    )
    refusal = await refused(stub.Watch(pb.WatchRequest(resume_token=later)).read())
    assert (refusal.code, refusal.reason, refusal.fields) == (
        StatusCode.INVALID_ARGUMENT,
        "RESUME_TOKEN_AHEAD",
        ("resume_token",),
    )


async def test_an_invalid_filter_is_refused_and_its_field_named(stub: "IncidentServiceAsyncStub") -> None:
    refusal = await refused(stub.Watch(pb.WatchRequest(incident_id="INC-1")).read())
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, ("incident_id",))
