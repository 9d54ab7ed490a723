"""Texts are normalized before they are compared, stored and returned."""

import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.callers import Incidents
from tests.incident.incidents import HUMAN, token

CAFE, CAFE_DECOMPOSED = "caf\u00e9", "cafe\u0301"


async def test_a_title_is_one_line(incidents: Incidents) -> None:
    incident = await incidents.opened(title="\tdisk full\r\n on\u2028db-1\n")
    assert incident.title == "disk full on db-1"
    [opened] = await incidents.events(incident.incident_id)
    assert "\n" not in opened.summary


async def test_a_description_keeps_its_lines_without_escape_characters(incidents: Incidents) -> None:
    incident = await incidents.opened(description="first\r\n\tsecond\x1b[31m \u202e!")
    assert (await incidents.get(incident.incident_id)).description == "first\n\tsecond [31m  !"


async def test_a_repeated_create_is_compared_after_normalization(incidents: Incidents) -> None:
    request_id = token()
    first = await incidents.opened(title="disk  full", labels={CAFE: "a\r\nb"}, request_id=request_id)
    again = await incidents.opened(
        title=" disk\nfull ", labels={f" {CAFE_DECOMPOSED}": "a\nb"}, request_id=request_id
    )
    assert again == first
    assert first.labels == {CAFE: "a\nb"}


async def test_a_fingerprint_in_another_normalization_form_is_the_same(incidents: Incidents) -> None:
    fingerprint = token()
    first = await incidents.report(fingerprint=f"{fingerprint} {CAFE}")
    second = await incidents.report(fingerprint=f" {fingerprint}\u00a0{CAFE_DECOMPOSED}")
    assert (second.deduplicated, second.incident.incident_id) == (True, first.incident.incident_id)
    assert second.incident.fingerprint == f"{fingerprint} {CAFE}"


async def test_incidents_are_found_by_labels_and_fingerprints_in_any_normalization_form(
    incidents: Incidents,
) -> None:
    mark = token()
    incident = await incidents.opened(labels={f"{mark} {CAFE}": "x"}, fingerprint=f"{mark} {CAFE}")
    other = f"{mark}  {CAFE_DECOMPOSED} "
    for criteria in ({"labels": {other: "x"}}, {"fingerprint": other}):
        found = [each.incident_id async for each in incidents.list(**criteria)]
        assert found == [incident.incident_id]


async def test_a_repeated_event_is_compared_after_normalization(incidents: Incidents) -> None:
    incident_id, event_id = await incidents.opened_id(), token()
    summaries = ("looked\r\nat it \x1b[0m", "looked\nat it  [0m")
    first, second = [
        await incidents.add_event(
            incident_id, event_id=event_id, type="NOTE", summary=summary, attributes={"tool ": "top"}
        )
        for summary in summaries
    ]
    assert first == second
    assert first.summary == summaries[1]
    assert first.attributes == {"tool": "top"}


@pytest.mark.parametrize("rpc", ["Resolve", "BatchResolve"])
async def test_a_resolve_of_an_older_approval_service_has_its_action_on_one_line(
    incidents: Incidents, rpc: str
) -> None:
    """That service stored actions as they were proposed: its deliveries must not be refused."""
    incident_id, action = (
        await incidents.opened_id(),
        "NO_ACTION:\n\n\x1b[2J\u202eRESTART deployment/web -n shop",
    )
    note = "observed\r\nonly\x1b"
    if rpc == "Resolve":
        await incidents.resolve(incident_id, resolution_type="HUMAN", note=note, action=action)
    else:
        item = pb.BatchResolveRequest.Item(
            incident_id=incident_id, resolution_type=HUMAN, note=note, action=action
        )
        [result] = await incidents.batch_resolve([item])
        assert result.HasField("resolved")
    assert (await incidents.get(incident_id)).resolution_note == "observed\nonly "
    resolved = (await incidents.events(incident_id))[-1]
    assert resolved.attributes["action"] == "NO_ACTION: [2J RESTART deployment/web -n shop"
