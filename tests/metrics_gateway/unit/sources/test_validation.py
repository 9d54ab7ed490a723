from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from awoooi.approval.v1.approval_pb2 import Approval
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats
from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from awoooi.incident.v1.incident_pb2 import Incident
from metrics_gateway.exposition.negotiation import DEFAULT, OPENMETRICS
from metrics_gateway.exposition.registry import Exposition, encode
from metrics_gateway.sources.reading import Reading
from metrics_gateway.sources.validation import InvalidResponseError, validate_response
from servicekit.http.limits import HttpRefusals
from tests.metrics_gateway.scrapes import read_openmetrics, read_text
from tests.metrics_gateway.valid_responses import READ_TIME, approval_response, incident_response

Change = Callable[[GetFlywheelStatsResponse], object]


def whole_response() -> GetFlywheelStatsResponse:
    response = approval_response()
    response.MergeFrom(incident_response())
    return response


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(approval_response(), id="of the approval service"),
        pytest.param(incident_response(), id="of the incident service"),
        pytest.param(whole_response(), id="with all sections"),
        pytest.param(GetFlywheelStatsResponse(read_time=READ_TIME), id="of a service without stats"),
        pytest.param(
            GetFlywheelStatsResponse(read_time=READ_TIME, executions=stats.ExecutionStats()),
            id="of an empty database",
        ),
    ],
)
def test_valid_responses_pass(response: GetFlywheelStatsResponse) -> None:
    assert validate_response(response) is response


def test_enum_numbers_of_a_newer_source_are_valid() -> None:
    response = incident_response()
    response.incidents.incidents.add(count=5).state = 77  # type: ignore[assignment] # not in the enum yet
    assert validate_response(response) is response


def test_an_unparsable_response_is_invalid() -> None:
    with pytest.raises(InvalidResponseError, match=r"^not a GetFlywheelStatsResponse$"):
        validate_response(None)


def _buckets(*buckets: tuple[float, int]) -> Change:
    def change(response: GetFlywheelStatsResponse) -> None:
        histogram = response.resolutions.resolution_seconds
        del histogram.buckets[:]
        for bound, count in buckets:
            histogram.buckets.add(upper_bound=bound, cumulative_count=count)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda a: a.ClearField("read_time"), "read_time: missing", id="no read time"),
        pytest.param(lambda a: a.Clear(), "read_time: missing", id="empty"),
        pytest.param(
            lambda a: setattr(a.incidents, "stuck", -1),
            "incidents.stuck: negative or not finite",
            id="negative number",
        ),
        pytest.param(
            lambda a: setattr(a.executions.executions_total[0], "count", -5),
            "executions.executions_total.count: negative or not finite",
            id="negative count",
        ),
        pytest.param(
            lambda a: setattr(a.approvals, "oldest_pending_seconds", float("nan")),
            "approvals.oldest_pending_seconds: negative or not finite",
            id="age not a number",
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
            id="rate not a number",
        ),
        pytest.param(
            lambda a: setattr(a.executions, "success_rate", 1.01),
            "executions.success_rate: above 1",
            id="rate above 1",
        ),
        pytest.param(
            lambda a: setattr(a.recoveries, "recovery_rate", 1.01),
            "recoveries.recovery_rate: above 1",
            id="recovery rate above 1",
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
            id="too many labels",
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
            id="falling cumulative counts",
        ),
        pytest.param(
            _buckets((60.0, 10)),
            "resolutions.resolution_seconds: cumulative counts fall",
            id="bucket count above the total",
        ),
        pytest.param(
            _buckets((float("inf"), 9)),
            "resolutions.resolution_seconds.buckets.upper_bound: negative or not finite",
            id="infinite bound",
        ),
        pytest.param(
            lambda a: setattr(a.read_time, "seconds", 10**15),
            "read_time: beyond the range of a time",
            id="read time out of range",
        ),
        pytest.param(
            lambda a: setattr(a.incidents.stuck_after, "seconds", 10**18),
            "incidents.stuck_after: beyond the range of a time",
            id="duration out of range",
        ),
        pytest.param(
            lambda a: setattr(a.incidents.hours.add().start_time, "seconds", 10**12),
            "incidents.hours.start_time: beyond the range of a time",
            id="start of an hour out of range",
        ),
    ],
)
def test_an_invalid_response_is_refused_and_its_field_named(change: Change, message: str) -> None:
    response = whole_response()
    change(response)
    with pytest.raises(InvalidResponseError) as refused:
        validate_response(response)
    assert str(refused.value) == message


# The duration of an example only shows how busy the machine is.
any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3)
_ENUM_NUMBERS = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 4)
_FLOATS = st.floats() | st.floats(0, 1)


@st.composite
def _any_response(draw: st.DrawFn) -> GetFlywheelStatsResponse:
    """Any message, valid or not."""
    response = whole_response() if draw(st.booleans()) else GetFlywheelStatsResponse(read_time=READ_TIME)
    for outcome, count in draw(st.lists(st.tuples(_ENUM_NUMBERS, _NUMBERS), max_size=4)):
        entry = response.executions.executions_total.add(count=count)
        entry.outcome = outcome  # type: ignore[assignment] # any number travels
    if draw(st.booleans()):
        response.executions.success_rate = draw(_FLOATS)
    response.incidents.stuck = draw(_NUMBERS)
    response.approvals.oldest_pending_seconds = draw(_FLOATS)
    for state, count in draw(st.lists(st.tuples(_ENUM_NUMBERS, _NUMBERS), max_size=4)):
        response.approvals.approvals.add(count=count).state = state  # type: ignore[assignment] # as above
    for bound, count in draw(st.lists(st.tuples(_FLOATS, _NUMBERS), max_size=3)):
        response.resolutions.resolution_seconds.buckets.add(upper_bound=bound, cumulative_count=count)
    response.resolutions.resolution_seconds.count = draw(_NUMBERS)
    response.resolutions.resolution_seconds.sum = draw(_FLOATS)
    return response


@any_speed
@given(_any_response())
def test_every_valid_response_can_be_exposed(response: GetFlywheelStatsResponse) -> None:
    try:
        valid = validate_response(response)
    except InvalidResponseError:
        return
    reading = Reading("approval", valid, 0.0, 0.0, {})
    registry = Exposition("0", [HttpRefusals()]).registry([reading], with_process=False)
    read_text(encode(registry, DEFAULT)[0].decode())
    read_openmetrics(encode(registry, OPENMETRICS)[0].decode())


@any_speed
@given(st.binary(max_size=200))
def test_any_bytes_are_a_valid_or_an_invalid_response(raw: bytes) -> None:
    try:
        validate_response(GetFlywheelStatsResponse.FromString(raw))
    except (InvalidResponseError, DecodeError):
        return


def test_an_unspecified_state_is_valid() -> None:
    response = GetFlywheelStatsResponse(read_time=READ_TIME)
    response.approvals.approvals.add(state=Approval.STATE_UNSPECIFIED, count=1)
    assert validate_response(response) is response
