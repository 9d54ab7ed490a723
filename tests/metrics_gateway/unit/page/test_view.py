"""The view model of the page, and its HTML without a browser."""

import pytest

from awoooi.approval.v1.approval_pb2 import Delivery
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from awoooi.incident.v1.incident_pb2 import SideEffect
from metrics_gateway.page.conditions import Level
from metrics_gateway.page.handler import PageTemplate
from metrics_gateway.page.view import PageView, view
from metrics_gateway.sources.reading import Reading
from tests.metrics_gateway.page_responses import (
    NOW,
    ahead,
    approvals_empty,
    approvals_stuck,
    approvals_well,
    incidents_empty,
    incidents_stuck,
    incidents_well,
)
from tests.metrics_gateway.unit.page.readings import down, up

TEMPLATE = PageTemplate(version="1.2.3")


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def tile(shown: PageView, label: str) -> tuple[str, str]:
    (found,) = [each for each in shown.tiles if each.label == label]
    return found.value, plain(found.note)


def test_all_is_well() -> None:
    shown = view([up("incident", incidents_well()), up("approval", approvals_well())], NOW)
    assert (shown.verdict.level, shown.verdict.headline, shown.verdict.others) == (
        Level.WELL,
        "All is well",
        (),
    )


def test_the_worst_finding_is_the_headline_and_the_others_are_counted() -> None:
    shown = view([up("incident", incidents_stuck()), up("approval", approvals_stuck())], NOW)
    assert shown.verdict.headline == "566 incidents are stuck"
    assert shown.verdict.note == "4 more things are wrong, 1 thing to look at"
    assert len(shown.verdict.others) == 5


def _change_executions(**fields: float) -> GetFlywheelStatsResponse:
    response = approvals_well()
    response.executions.ClearField("success_rate")
    for name, value in fields.items():
        setattr(response.executions, name, value)
    return response


@pytest.mark.parametrize(
    ("response", "value", "note"),
    [
        pytest.param(
            _change_executions(success_rate=0.996, samples=500, successes=498),
            "99 %",
            "498 of 500 repairs in 24 h",
            id="never rounded up",
        ),
        pytest.param(
            _change_executions(success_rate=0.29, samples=100, successes=29),
            "29 %",
            "29 of 100 repairs in 24 h",
            id="not one too low by binary rounding",
        ),
        pytest.param(
            _change_executions(samples=3),
            "withheld",
            "3 of 10 repairs required in 24 h",
            id="withheld",
        ),
        pytest.param(
            _change_executions(samples=12),
            "missing",
            "although there are 12 repairs in 24 h",
            id="missing",
        ),
    ],
)
def test_the_success_rate_or_why_it_is_withheld_or_missing(
    response: GetFlywheelStatsResponse, value: str, note: str
) -> None:
    shown = view([up("incident", incidents_well()), up("approval", response)], NOW)
    assert tile(shown, "Success rate") == (value, note)


@pytest.mark.parametrize(
    ("recoveries", "value", "note"),
    [
        pytest.param(
            stats.RecoveryStats(recovery_rate=0.996, samples=500, verified=498, min_samples=10),
            "99 %",
            "498 of 500 repairs helped in 24 h",
            id="never rounded up",
        ),
        pytest.param(
            stats.RecoveryStats(samples=3, verified=2, min_samples=10, pending=1),
            "withheld",
            "2 of 3 repairs helped in 24 h, 10 required; 1 not known yet",
            id="withheld",
        ),
        pytest.param(
            stats.RecoveryStats(min_samples=10), "none", "no repair was verified in 24 h", id="not verified"
        ),
    ],
)
def test_the_recovery_rate_stands_beside_the_success_rate(
    recoveries: stats.RecoveryStats, value: str, note: str
) -> None:
    response = approvals_well()
    response.recoveries.CopyFrom(recoveries)
    shown = view([up("incident", incidents_well()), up("approval", response)], NOW)
    assert tile(shown, "Recovery rate") == (value, note)
    assert [each.label for each in shown.tiles[:2]] == ["Success rate", "Recovery rate"]


def test_a_source_that_is_down_makes_only_its_own_sections_unknown() -> None:
    shown = view([down("incident"), up("approval", approvals_well())], NOW)
    why = "the incident service does not respond since 02:58:01 UTC"
    assert tile(shown, "Stuck incidents") == ("unknown", why)
    assert tile(shown, "Side effects to run") == ("unknown", why)
    assert [listing.unknown for listing in shown.listings] == [why, "", "", why]
    assert [panel.unknown for panel in shown.charts] == [why, ""]
    assert tile(shown, "Pending approvals") == ("2", "oldest waits for 6 min")
    html = TEMPLATE.render(shown, refreshes=True)
    assert html.count("<b>unknown:</b> the incident service does not respond since 02:58:01 UTC") == 3


def test_with_all_sources_down_every_tile_is_unknown() -> None:
    shown = view([down("incident"), down("approval")], NOW)
    assert {each.value for each in shown.tiles} == {"unknown"}
    assert shown.verdict.note == "1 more thing is wrong"


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        pytest.param(
            [down("eu"), up("approval", approvals_well())],
            "the eu service does not respond since 02:58:01 UTC",
            id="the one that is down, under any name",
        ),
        pytest.param(
            [up("incident", approvals_empty()), down("approval")],
            "no source has these stats",
            id="none, when the owner responds without them",
        ),
        pytest.param(
            [up("approval", approvals_well())], "no source has these stats", id="none, without an owner"
        ),
    ],
)
def test_unknown_stats_name_the_source_that_is_down(readings: list[Reading], why: str) -> None:
    assert tile(view(readings, NOW), "Stuck incidents") == ("unknown", why)


def test_of_two_sources_with_the_same_section_the_first_one_is_shown() -> None:
    shown = view([up("a", incidents_stuck()), up("b", incidents_well()), up("c", approvals_well())], NOW)
    assert tile(shown, "Stuck incidents")[0] == "566"


@pytest.mark.parametrize(
    ("reading", "state", "since", "last_response"),
    [
        pytest.param(
            up("x", incidents_well()),
            "responded in 4 ms",
            "2026-05-06 22:00:00 UTC, for 5 h 12 min",
            "03:12:05 UTC, 0 s ago",
            id="up",
        ),
        pytest.param(
            down("x"),
            "does not respond",
            "02:58:01 UTC, for 14 min",
            "2026-05-06 22:00:00 UTC, 5 h 12 min ago",
            id="down",
        ),
        pytest.param(
            down("x", last=0),
            "does not respond",
            "02:58:01 UTC, for 14 min",
            "none since the gateway started",
            id="never up",
        ),
        pytest.param(
            down("x", None),
            "has not responded yet",
            "just now",
            "2026-05-06 22:00:00 UTC, 5 h 12 min ago",
            id="request still in flight",
        ),
    ],
)
def test_a_source_is_shown_with_its_state_and_since_when(
    reading: Reading, state: str, since: str, last_response: str
) -> None:
    (row,) = view([reading], NOW).sources
    assert (row.state, plain(row.since), plain(row.last_response)) == (state, since, last_response)
    assert row.is_up is (reading.response is not None)


def test_an_empty_database_gives_empty_lists_with_a_summary() -> None:
    shown = view([up("incident", incidents_empty()), up("approval", approvals_empty())], NOW)
    assert [listing.summary for listing in shown.listings] == [
        "No incident is stuck.",
        "No approval is pending.",
        "Everything is delivered.",
        "Every side effect has run.",
    ]
    assert [panel.chart.top for panel in shown.charts if panel.chart] == [0, 0]


def test_list_summaries_count_the_entries_beyond_the_limit() -> None:
    shown = view([up("incident", incidents_stuck()), up("approval", approvals_stuck())], NOW)
    stuck, approvals, deliveries, effects = shown.listings
    assert stuck.summary == (
        "executed, not resolved: 559; no proposed action: 4; approval pending: 3; the first 20 are listed"
    )
    assert (len(stuck.open_rows), len(stuck.folded_rows)) == (8, 12)
    assert approvals.summary == "the first 2 are listed"
    assert deliveries.summary == "1 parked; 5 waiting"
    assert effects.summary == "2 parked; 1 waiting"
    assert [(row.what, plain(row.age), plain(row.age_note)) for row in effects.rows] == [
        ("parked, 1 try", "1 h 34 min", ""),
        ("parked, 1 try", "1 h 11 min", ""),
        ("waiting, 3 tries", "21 s", "next try in 40 s"),
    ]


def test_deliveries_of_every_topic_are_counted_and_listed() -> None:
    response = approvals_stuck()
    for topic in (Delivery.TOPIC_TIMELINE, Delivery.TOPIC_EXECUTION):
        entry = response.deliveries.topics.add(topic=topic, oldest_pending_seconds=600)
        entry.deliveries.add(state=Delivery.STATE_PARKED, count=2)
        entry.deliveries.add(state=Delivery.STATE_PENDING, count=1)
    del response.deliveries.waiting[:]
    for topic, incident in ((Delivery.TOPIC_TIMELINE, "INC-1"), (Delivery.TOPIC_EXECUTION, "")):
        response.deliveries.waiting.add(
            topic=topic, incident_id=incident, approval_id="APR-1", state=Delivery.STATE_PARKED
        )
    response.deliveries.waiting.add(
        topic=Delivery.TOPIC_OTHER, idempotency_key="key", state=Delivery.STATE_PARKED
    )
    shown = view([up("approval", response)], NOW)
    deliveries = shown.listings[2]
    assert deliveries.summary == "5 parked; 7 waiting; the first 3 are listed"
    assert [(row.which, row.which_note) for row in deliveries.rows] == [
        ("INC-1", "timeline entry of APR-1"),
        ("APR-1", "execution of APR-1"),
        ("key", "job of another version"),
    ]
    (tile,) = [tile for tile in shown.tiles if tile.label == "Deliveries"]
    assert (tile.value, tile.level) == ("12", Level.WRONG)
    assert plain(tile.note) == "5 parked; 7 waiting, the oldest for 10 min"
    assert shown.verdict.level is Level.WRONG


def test_a_side_effect_of_another_version_is_listed_by_its_delivery_id() -> None:
    response = incidents_stuck()
    del response.side_effects.waiting[:]
    response.side_effects.waiting.add(state=SideEffect.STATE_PARKED, delivery_id="effect.newer/x")
    (row,) = view([up("incident", response)], NOW).listings[3].rows
    assert (row.which, row.which_note) == ("effect.newer/x", "other")


def test_ages_are_measured_by_the_clock_of_the_source() -> None:
    response = incidents_stuck()
    # The source's clock is an hour ahead of the gateway's.
    response.read_time.CopyFrom(ahead(hours=1))
    response.incidents.stuck_incidents[0].last_progress_time.CopyFrom(ahead(minutes=25))
    (row, *_) = view([up("incident", response)], NOW).listings[0].rows
    assert plain(row.age) == "35 min"


def test_outcomes_of_a_newer_source_are_shown_together() -> None:
    response = approvals_well()
    for number in (77, 78):
        entry = response.executions.hours[0].executions.add(count=2)
        entry.outcome = number  # type: ignore[assignment] # not in the enum yet
    chart = view([up("approval", response)], NOW).charts[1].chart
    assert chart
    assert (chart.names[-1], chart.totals[-1]) == ("other", 4)


def test_stuck_reasons_of_a_newer_source_are_other() -> None:
    response = incidents_stuck()
    response.incidents.stuck_incidents[0].reason = 77  # type: ignore[assignment] # not in the enum yet
    (row, *_) = view([up("incident", response)], NOW).listings[0].rows
    assert row.what == "other"
    assert stats.StuckReason.DESCRIPTOR.values_by_number.get(77) is None
