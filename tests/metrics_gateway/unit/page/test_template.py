"""The HTML of the page: escaping, and that every valid response can be rendered."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from metrics_gateway.page.handler import PageTemplate
from metrics_gateway.page.view import view
from metrics_gateway.sources.validation import InvalidResponseError, validate_response
from tests.metrics_gateway.page_responses import NOW, ago, approvals_stuck, incidents_stuck
from tests.metrics_gateway.unit.page.readings import up

TEMPLATE = PageTemplate(version="1.2.3")


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
        if field.message_type is None and field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(_STRATEGIES[field.cpp_type], max_size=3)))
        elif field.message_type is None:
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
