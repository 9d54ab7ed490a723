"""The verifier alertmanager against a real HTTP server."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from approval.verifiers.alertmanager import make_verifier
from approval.verifiers.protocol import CannotTellError, Look, Repair
from tests.approval.unit.verifiers.repaired import FINGERPRINT, LABELS, answer, answering, repair

RUNNING = {"uptime": "2026-05-07T11:00:00.123456789Z", "cluster": {"status": "ready"}}
# Would be taken for a response if it were called.
GONE = [[], RUNNING]

GROUP = {"alertname": "ApiDown", "namespace": "prod"}
OF_GROUP = repair(
    wanted="group:0123",
    labels={**GROUP, "alertmanager_group": json.dumps({"receiver": "flywheel", "labels": GROUP})},
)


def listed(
    labels: Mapping[str, str] = GROUP, *, receiver: str = "flywheel", alerts: int = 1
) -> Mapping[str, Any]:
    """A group as Alertmanager lists it."""
    return {"labels": labels, "receiver": {"name": receiver}, "alerts": [{}] * alerts}


async def look(repaired: Repair, *contents: Any, **variables: str) -> Look:
    async with answering(*map(answer, contents)) as (_, environment):
        verifier = make_verifier({**environment, **variables})
        try:
            return await verifier.look(repaired)
        finally:
            await verifier.close()


async def test_an_alert_that_is_not_listed_is_gone() -> None:
    found = await look(repair(), [], RUNNING)
    assert found == Look(gone=True, message=f"the alert {FINGERPRINT} is not active in Alertmanager")


@pytest.mark.parametrize("state", ["active", "suppressed", "unprocessed"])
async def test_an_alert_in_any_state_is_not_gone(state: str) -> None:
    others = [{"fingerprint": "0" * 16, "status": {"state": "active"}}]
    found = await look(repair(), [*others, {"fingerprint": FINGERPRINT, "status": {"state": state}}])
    assert found == Look(gone=False, message=f"the alert {FINGERPRINT} is {state} in Alertmanager")


async def test_labels_that_are_the_alert_s_narrow_the_request() -> None:
    async with answering(answer([]), answer(RUNNING)) as (api, environment):
        verifier = make_verifier(environment)
        await verifier.look(repair())
        await verifier.close()
        asked = urlsplit((await api.received(1)).target)
    assert asked.path == "/api/v2/alerts"
    parameters = parse_qsl(asked.query)
    assert [value for name, value in parameters if name == "filter"] == [
        'alertname="ApiDown"',
        'instance="a\\\\b\\"c\\nd"',
        'namespace="prod"',
    ]
    # In every state of the alert: a silenced one has not ended.
    assert {"silenced": "true", "inhibited": "true", "active": "true", "unprocessed": "true"}.items() <= dict(
        parameters
    ).items()


async def test_a_label_that_the_intake_has_added_is_none_of_the_alert_s() -> None:
    async with answering(answer([]), answer(RUNNING)) as (api, environment):
        verifier = make_verifier(environment)
        await verifier.look(repair(labels={**LABELS, "recovery_expression": "up == 0"}, source=""))
        await verifier.close()
        target = (await api.received(1)).target
    assert "filter" in target
    assert "recovery_expression" not in target


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"alertname": "ApiDown"}, id="some of them"),
        pytest.param({**LABELS, "team": "sre"}, id="more than those"),
        pytest.param({**LABELS, "namespace": "Prod"}, id="another value"),
    ],
)
async def test_labels_that_are_not_the_alert_s_exclude_nothing(labels: Mapping[str, str]) -> None:
    async with answering(answer([{"fingerprint": FINGERPRINT, "status": {}}])) as (api, environment):
        verifier = make_verifier(environment)
        found = await verifier.look(repair(labels=labels))
        await verifier.close()
        assert "filter" not in (await api.received(1)).target
    assert not found.gone


@pytest.mark.parametrize(
    ("repaired", "contents", "reason"),
    [
        pytest.param(repair(wanted=""), GONE, "the incident has no fingerprint", id="no fingerprint"),
        pytest.param(
            repair(wanted="group:0123", source="other"),
            GONE,
            "the incident has no fingerprint",
            id="of a group of another system",
        ),
        pytest.param(repair(wanted="group:0123"), GONE, "which group", id="of a group that is not named"),
        pytest.param(
            OF_GROUP, [{"status": "success"}], "not a list of groups", id="of another API of groups"
        ),
        pytest.param(OF_GROUP, [[{"labels": GROUP}]], "not a list of groups", id="of no groups"),
        pytest.param(OF_GROUP, [[], {}], "since when it runs", id="no start, of a group"),
        pytest.param(
            repair(wanted="0" * 16, source="other"),
            GONE,
            "the incident has no fingerprint",
            id="of another system",
        ),
        pytest.param(repair(), [{"status": "success"}], "not a list of alerts", id="of another API"),
        pytest.param(repair(), [[1]], "not a list of alerts", id="of no alerts"),
        pytest.param(repair(), [[], []], "not a status", id="no status"),
        pytest.param(repair(), [[], {}], "since when it runs", id="no start"),
        pytest.param(
            repair(),
            [[], {**RUNNING, "cluster": {"status": "settling"}}],
            "not yet settled in its cluster",
            id="settling",
        ),
        pytest.param(
            repair(),
            [[], {**RUNNING, "uptime": "2026-05-07T11:58:30Z"}],
            "less than 120 s",
            id="just started",
        ),
    ],
)
async def test_an_undetermined_problem_is_not_gone(
    repaired: Repair, contents: list[Any], reason: str
) -> None:
    with pytest.raises(CannotTellError, match=reason):
        await look(repaired, *contents)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([], id="none"),
        pytest.param([listed({"alertname": "ApiDown"})], id="a wider group"),
        pytest.param([listed({**GROUP, "instance": "a"})], id="a narrower group"),
        pytest.param([listed(receiver="other")], id="another receiver's"),
        pytest.param([listed(alerts=0)], id="without alerts"),
    ],
)
async def test_a_group_of_which_no_alert_is_listed_is_gone(others: list[Any]) -> None:
    found = await look(OF_GROUP, others, RUNNING)
    assert found == Look(gone=True, message="no alert of the group is in Alertmanager")


async def test_a_group_with_any_alert_is_not_gone() -> None:
    async with answering(answer([listed(receiver="other"), listed(alerts=2), listed()])) as (
        api,
        environment,
    ):
        verifier = make_verifier(environment)
        found = await verifier.look(OF_GROUP)
        await verifier.close()
        asked = urlsplit((await api.received(1)).target)
    assert found == Look(gone=False, message="alerts of the group are in Alertmanager: 3")
    assert asked.path == "/api/v2/alerts/groups"
    parameters = parse_qsl(asked.query)
    assert [value for name, value in parameters if name == "filter"] == [
        'alertname="ApiDown"',
        'namespace="prod"',
    ]
    assert {"silenced": "true", "inhibited": "true", "active": "true"}.items() <= dict(parameters).items()


async def test_how_long_it_must_have_run_is_a_setting() -> None:
    started = {**RUNNING, "uptime": "2026-05-07T11:58:30Z"}
    assert (await look(repair(), [], started, APPROVAL_VERIFIER_SETTLE="1m")).gone
    assert (await look(repair(), [], {"cluster": {"status": "disabled"}}, APPROVAL_VERIFIER_SETTLE="0s")).gone
