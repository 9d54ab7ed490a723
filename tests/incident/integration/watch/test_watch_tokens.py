"""Watch: which resume tokens are taken."""

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from grpc import StatusCode

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit.rpc.page_tokens import PageTokens
from servicekit.watch.epoch import FIRST_EPOCH
from servicekit.watch.model import Position, ResumePoint
from servicekit.watch.snapshot import Snapshot
from servicekit.watch.tokens import make_token
from tests.callers import Incidents
from tests.incident.incidents import OPEN, token
from tests.incident.integration.watch.watching import act, type_name, watching
from tests.rpc_errors import refused

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
    incidents: Incidents, make: Callable[[str, str], str]
) -> None:
    for _ in range(2):
        await incidents.opened()
    page = (await incidents.list(page_size=1).page()).next_page_token
    given = (await watching(incidents)).token
    refusal = await refused(anext(incidents.watch(resume_token=make(given, page))))
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
    incidents: Incidents, other: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {"labels": {"team": "a"}}
    given = (await watching(incidents, **fields)).token
    refusal = await refused(anext(incidents.watch(**fields | other, resume_token=given)))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, ("resume_token",))


async def test_a_resume_token_is_not_bound_to_include_existing(incidents: Incidents) -> None:
    labels = {"test": token()}
    existing = await incidents.opened(labels=labels)
    first = await watching(incidents, labels=labels, include_existing=True)
    assert [response.incident for response in first.responses[:-1]] == [existing]
    await act(incidents, "start", existing.incident_id)
    for include_existing in (True, False):
        resumed = await watching(
            incidents, labels=labels, include_existing=include_existing, resume_token=first.token
        )
        assert type_name((await resumed.change()).event) == "INVESTIGATION_STARTED"
        assert len(resumed.responses) == 2


async def test_a_resume_token_ahead_of_the_database_is_refused(
    incidents: Incidents, rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    # As after a restore from a backup that is older than the token.
    tokens = PageTokens()
    tokens.key = await rows.fetchval("SELECT key FROM service_keys WHERE name = 'page_tokens'")
    later = make_token(pb.WatchRequest(), tokens)(
        ResumePoint(Position.at(Snapshot(1 << 40, 1 << 40)), FIRST_EPOCH, None)
    )
    refusal = await refused(anext(incidents.watch(resume_token=later)))
    assert (refusal.code, refusal.reason, refusal.fields) == (
        StatusCode.INVALID_ARGUMENT,
        "RESUME_TOKEN_AHEAD",
        ("resume_token",),
    )


async def test_an_invalid_filter_is_refused_and_its_field_named(incidents: Incidents) -> None:
    refusal = await refused(anext(incidents.watch(incident_id="INC-1")))
    assert (refusal.code, refusal.fields) == (StatusCode.INVALID_ARGUMENT, ("incident_id",))
