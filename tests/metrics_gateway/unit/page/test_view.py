"""The view model of the page, and its HTML without a browser."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from metrics_gateway.page.conditions import Level
from metrics_gateway.page.handler import PageTemplate
from metrics_gateway.page.view import PageView, view
from metrics_gateway.sources.reading import Reading, Reason
from metrics_gateway.sources.validation import InvalidResponseError, validate_response
from tests.metrics_gateway.page_responses import (
    NOW,
    ago,
    ahead,
    approvals_empty,
    approvals_stuck,
    approvals_well,
    incidents_empty,
    incidents_stuck,
    incidents_well,
)

TEMPLATE = PageTemplate(version="1.2.3")
UP_SINCE = datetime(2026, 5, 6, 22, 0, 0, tzinfo=UTC).timestamp()
DOWN_SINCE = datetime(2026, 5, 7, 2, 58, 1, tzinfo=UTC).timestamp()


def up(source: str, response: GetFlywheelStatsResponse) -> Reading:
    return Reading(source, response, 0.004, NOW.timestamp(), {}, None, UP_SINCE)


def down(source: str, failing: Reason | None = Reason.UNAVAILABLE, last: float = UP_SINCE) -> Reading:
    return Reading(source, None, 0.2, last, {}, failing, DOWN_SINCE)


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
        "Every resolve is delivered.",
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


def test_texts_of_callers_are_escaped() -> None:
    incidents, approvals = incidents_stuck(), approvals_stuck()
    evil = "<i>&\"'{{ 7 * 7 }}</i>"
    _fill_texts(incidents, evil)
    _fill_texts(approvals, evil)
    html = TEMPLATE.render(view([up("incident", incidents), up("approval", approvals)], NOW), refreshes=True)
    assert evil not in html
    assert "<i>&" not in html
    assert "&lt;i&gt;&amp;&#34;&#39;{{ 7 * 7 }}&lt;/i&gt;" in html


def _fill_texts(message: Message, text: str) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else (value,):
                _fill_texts(each, text)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            setattr(message, field.name, text)


_STRATEGIES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(0, 2**31 - 1) | st.integers(0, 3),
    FieldDescriptor.CPPTYPE_INT64: st.integers(0, 2**63 - 1) | st.integers(0, 3),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(0, 1e308) | st.floats(0, 1),
    FieldDescriptor.CPPTYPE_STRING: st.text(max_size=30),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 6),
}


def _fill(draw: st.DrawFn, message: Message) -> None:
    """Set any fields to any values that the message can hold."""
    for field in message.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is None:
            setattr(message, field.name, draw(_STRATEGIES[field.cpp_type]))
        elif field.is_repeated:
            for _ in range(draw(st.integers(0, 3))):
                _fill(draw, getattr(message, field.name).add())
        else:
            getattr(message, field.name).SetInParent()
            _fill(draw, getattr(message, field.name))


@st.composite
def _any_response(draw: st.DrawFn) -> GetFlywheelStatsResponse:
    response = GetFlywheelStatsResponse(read_time=ago())
    _fill(draw, response)
    return response


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(_any_response())
def test_every_valid_response_can_be_rendered(response: GetFlywheelStatsResponse) -> None:
    try:
        valid = validate_response(response)
    except InvalidResponseError:
        return
    html = TEMPLATE.render(view([up("loop", valid)], NOW), refreshes=True)
    assert html.rstrip().endswith("</html>")


Change = Callable[[GetFlywheelStatsResponse], Any]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda response: setattr(response.read_time, "seconds", 10**15),
            "read_time: beyond the range of a time",
            id="an instant",
        ),
        pytest.param(
            lambda response: setattr(response.incidents.stuck_after, "seconds", 10**18),
            "incidents.stuck_after: beyond the range of a time",
            id="a duration",
        ),
        pytest.param(
            lambda response: setattr(response.incidents.hours[0].start_time, "seconds", 10**12),
            "incidents.hours.start_time: beyond the range of a time",
            id="an hour",
        ),
    ],
)
def test_a_time_out_of_range_is_an_invalid_response(change: Change, message: str) -> None:
    response = incidents_well()
    change(response)
    with pytest.raises(InvalidResponseError, match=re.escape(message)):
        validate_response(response)


def test_stuck_reasons_of_a_newer_source_are_other() -> None:
    response = incidents_stuck()
    response.incidents.stuck_incidents[0].reason = 77  # type: ignore[assignment] # not in the enum yet
    (row, *_) = view([up("incident", response)], NOW).listings[0].rows
    assert row.what == "other"
    assert stats.StuckReason.DESCRIPTOR.values_by_number.get(77) is None
