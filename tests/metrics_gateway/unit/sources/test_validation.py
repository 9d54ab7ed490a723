from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from awoooi.approval.v1.approval_pb2 import Approval
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from awoooi.incident.v1.incident_pb2 import Incident
from metrics_gateway.exposition.registry import Exposition, encode
from metrics_gateway.sources.source import Reading
from metrics_gateway.sources.validation import NonsenseError, check_answer
from tests.metrics_gateway.honest_answers import READ_TIME, approval_answer, incident_answer
from tests.metrics_gateway.scrapes import read_openmetrics, read_text

Change = Callable[[GetFlywheelStatsResponse], object]


def whole_answer() -> GetFlywheelStatsResponse:
    answer = approval_answer()
    answer.MergeFrom(incident_answer())
    return answer


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(approval_answer(), id="of the approval service"),
        pytest.param(incident_answer(), id="of the incident service"),
        pytest.param(whole_answer(), id="with all sections"),
        pytest.param(GetFlywheelStatsResponse(read_time=READ_TIME), id="of a service that keeps no figures"),
        pytest.param(
            GetFlywheelStatsResponse(read_time=READ_TIME, executions=stats.ExecutionStats()),
            id="of an empty database",
        ),
    ],
)
def test_an_honest_answer_is_believed(answer: GetFlywheelStatsResponse) -> None:
    assert check_answer(answer) is answer


def test_enum_numbers_of_a_newer_source_are_believed() -> None:
    answer = incident_answer()
    answer.incidents.incidents.add(count=5).state = 77  # type: ignore[assignment] # not in the enum yet
    assert check_answer(answer) is answer


def test_an_answer_that_could_not_be_parsed_is_nonsense() -> None:
    with pytest.raises(NonsenseError, match=r"^not a GetFlywheelStatsResponse$"):
        check_answer(None)


def _buckets(*buckets: tuple[float, int]) -> Change:
    def change(answer: GetFlywheelStatsResponse) -> None:
        histogram = answer.resolutions.resolution_seconds
        del histogram.buckets[:]
        for bound, count in buckets:
            histogram.buckets.add(upper_bound=bound, cumulative_count=count)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda a: a.ClearField("read_time"), "read_time: missing", id="no time of reading"),
        pytest.param(lambda a: a.Clear(), "read_time: missing", id="nothing at all"),
        pytest.param(
            lambda a: setattr(a.incidents, "stuck", -1),
            "incidents.stuck: negative or not finite",
            id="negative figure",
        ),
        pytest.param(
            lambda a: setattr(a.executions.executions_total[0], "count", -5),
            "executions.executions_total.count: negative or not finite",
            id="negative count",
        ),
        pytest.param(
            lambda a: setattr(a.approvals, "oldest_pending_seconds", float("nan")),
            "approvals.oldest_pending_seconds: negative or not finite",
            id="an age that is no number",
        ),
        pytest.param(
            lambda a: setattr(a.deliveries, "oldest_pending_seconds", float("inf")),
            "deliveries.oldest_pending_seconds: negative or not finite",
            id="infinite age",
        ),
        pytest.param(
            lambda a: setattr(a.side_effects, "oldest_pending_seconds", -0.1),
            "side_effects.oldest_pending_seconds: negative or not finite",
            id="negative age",
        ),
        pytest.param(
            lambda a: setattr(a.executions, "success_rate", float("nan")),
            "executions.success_rate: negative or not finite",
            id="a rate that is no number",
        ),
        pytest.param(
            lambda a: setattr(a.executions, "success_rate", 1.01),
            "executions.success_rate: above 1",
            id="rate above 1",
        ),
        pytest.param(
            lambda a: a.incidents.incidents.add(state=Incident.STATE_OPEN, count=9),
            "incidents.incidents: the same count twice",
            id="a state counted twice",
        ),
        pytest.param(
            lambda a: a.side_effects.side_effects.append(a.side_effects.side_effects[0]),
            "side_effects.side_effects: the same count twice",
            id="an effect and state counted twice",
        ),
        pytest.param(
            lambda a: a.approvals.approvals.extend(
                stats.ApprovalStateCount(state=number, count=1)  # type: ignore[arg-type] # more than the enum has
                for number in range(100, 300)
            ),
            "approvals.approvals: more than 128 entries",
            id="far too many labels",
        ),
        pytest.param(
            _buckets((60.0, 1), (60.0, 2)),
            "resolutions.resolution_seconds: bounds do not ascend",
            id="a bound twice",
        ),
        pytest.param(
            _buckets((300.0, 1), (60.0, 2)),
            "resolutions.resolution_seconds: bounds do not ascend",
            id="bounds out of order",
        ),
        pytest.param(
            _buckets((60.0, 5), (300.0, 4)),
            "resolutions.resolution_seconds: cumulative counts fall",
            id="cumulative counts that fall",
        ),
        pytest.param(
            _buckets((60.0, 10)),
            "resolutions.resolution_seconds: cumulative counts fall",
            id="more in a bucket than in all",
        ),
        pytest.param(
            _buckets((float("inf"), 9)),
            "resolutions.resolution_seconds.buckets.upper_bound: negative or not finite",
            id="infinite bound",
        ),
    ],
)
def test_nonsense_is_refused_and_its_field_named(change: Change, said: str) -> None:
    answer = whole_answer()
    change(answer)
    with pytest.raises(NonsenseError) as refused:
        check_answer(answer)
    assert str(refused.value) == said


# How long an example takes says how busy the machine is, no more.
any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3)
_ENUM_NUMBERS = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 4)
_FLOATS = st.floats() | st.floats(0, 1)


@st.composite
def _any_answer(draw: st.DrawFn) -> GetFlywheelStatsResponse:
    """Anything that the message can hold, honest or not."""
    answer = whole_answer() if draw(st.booleans()) else GetFlywheelStatsResponse(read_time=READ_TIME)
    for outcome, count in draw(st.lists(st.tuples(_ENUM_NUMBERS, _NUMBERS), max_size=4)):
        entry = answer.executions.executions_total.add(count=count)
        entry.outcome = outcome  # type: ignore[assignment] # any number travels
    if draw(st.booleans()):
        answer.executions.success_rate = draw(_FLOATS)
    answer.incidents.stuck = draw(_NUMBERS)
    answer.approvals.oldest_pending_seconds = draw(_FLOATS)
    for state, count in draw(st.lists(st.tuples(_ENUM_NUMBERS, _NUMBERS), max_size=4)):
        answer.approvals.approvals.add(count=count).state = state  # type: ignore[assignment] # as above
    for bound, count in draw(st.lists(st.tuples(_FLOATS, _NUMBERS), max_size=3)):
        answer.resolutions.resolution_seconds.buckets.add(upper_bound=bound, cumulative_count=count)
    answer.resolutions.resolution_seconds.count = draw(_NUMBERS)
    answer.resolutions.resolution_seconds.sum = draw(_FLOATS)
    return answer


@any_speed
@given(_any_answer())
def test_whatever_is_believed_can_be_exposed(answer: GetFlywheelStatsResponse) -> None:
    try:
        believed = check_answer(answer)
    except NonsenseError:
        return
    reading = Reading("approval", believed, 0.0, 0.0, {})
    registry = Exposition("0").registry([reading], with_process=False)
    read_text(encode(registry, "")[0].decode())
    read_openmetrics(encode(registry, "application/openmetrics-text")[0].decode())


@any_speed
@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_nonsense(raw: bytes) -> None:
    try:
        check_answer(GetFlywheelStatsResponse.FromString(raw))
    except (NonsenseError, DecodeError):
        return


def test_a_state_that_only_the_enum_knows_is_no_reason_to_refuse() -> None:
    answer = GetFlywheelStatsResponse(read_time=READ_TIME)
    answer.approvals.approvals.add(state=Approval.STATE_UNSPECIFIED, count=1)
    assert check_answer(answer) is answer
