"""Invalid requests: INVALID_ARGUMENT that names the field, nothing written, nothing internal disclosed."""

from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from tests.approval.schemas import contents, rows
from tests.callers import Approvals, caller
from tests.rpc_errors import refused
from tests.services import TIMEOUT_SECONDS, RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

INCIDENT = "INC-20260507-99ADF2"
APPROVAL = "APR-20260507-99ADF2"
# Stands in the caller's values: what must not come back in a text.
MARK = "f00dcafe"

BAD_IDS = {
    "missing": "",
    "blank": "   ",
    "another_kind": "XYZ-20260507-99ADF2",
    "lower_case": "{}-20260507-99adf2",
    "too_few_digits": "{}-20260507-99ADF",
    "too_many_digits": "{}-20260507-99ADF299ADF29",
    "no_day": "{}-99ADF2",
    "line_break_behind": "{}-20260507-99ADF2\n",
    "nul": "{}-20260507-99ADF2\0",
    "other_digits": "{}-٢٠٢٦٠٥٠٧-99ADF2",
    "very_long": "{}-20260507-" + "A" * 5000,
}
PROPOSE: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"incident_id_{name}": ({"incident_id": text.format("INC")}, "incident_id")
        for name, text in BAD_IDS.items()
    },
    "action_missing": ({"action": ""}, "action"),
    "action_blank": ({"action": " \t\n"}, "action"),
    "action_nul": ({"action": f"NO_ACTION: {MARK}\0"}, "action"),
    "action_invisible": ({"action": "\u200b\u2060 \u3164"}, "action"),
    "action_with_an_escape_character": ({"action": "NO_ACTION: \x1b[2J"}, "action"),
    "action_with_a_carriage_control": ({"action": "NO_ACTION:\vRESTART deployment/api -n prod"}, "action"),
    "action_with_an_override": ({"action": "NO_ACTION: \u202edorp n- ipa"}, "action"),
    "action_with_an_isolate": ({"action": "NO_ACTION: \u2067dorp n- ipa"}, "action"),
    "action_too_long": ({"action": "NO_ACTION:" + "x" * 1015}, "action"),
    "risk_missing": ({"risk": 0}, "risk"),
    "risk_unknown": ({"risk": 99}, "risk"),
    "risk_negative": ({"risk": -1}, "risk"),
    "rationale_nul": ({"rationale": "\0"}, "rationale"),
    "rationale_too_long": ({"rationale": "x" * 8193}, "rationale"),
    "rationale_too_long_in_bytes": ({"rationale": "ü" * 4097}, "rationale"),
    "confidence_nan": ({"confidence": float("nan")}, "confidence"),
    "confidence_infinite": ({"confidence": float("inf")}, "confidence"),
    "confidence_negative": ({"confidence": -1.0}, "confidence"),
    "confidence_above_one": ({"confidence": 1.1}, "confidence"),
    "ttl_zero": ({"ttl": Duration()}, "ttl"),
    "ttl_negative": ({"ttl": Duration(seconds=-1)}, "ttl"),
    "ttl_above_30_days": ({"ttl": Duration(seconds=2_592_000, nanos=1)}, "ttl"),
    "ttl_beyond_all_bounds": ({"ttl": Duration(seconds=2**62)}, "ttl"),
    "ttl_with_impossible_nanos": ({"ttl": Duration(seconds=1, nanos=1_999_999_999)}, "ttl"),
    "ttl_with_mixed_signs": ({"ttl": Duration(seconds=1, nanos=-1)}, "ttl"),
    "required_approvals_zero": ({"required_approvals": 0}, "required_approvals"),
    "required_approvals_negative": ({"required_approvals": -1}, "required_approvals"),
    "required_approvals_above_ten": ({"required_approvals": 11}, "required_approvals"),
    "request_id_blank": ({"request_id": " "}, "request_id"),
    "request_id_with_space": ({"request_id": f"a {MARK}"}, "request_id"),
    "request_id_not_ascii": ({"request_id": "ü"}, "request_id"),
    "request_id_too_long": ({"request_id": "x" * 129}, "request_id"),
    "supersedes_malformed": ({"supersedes": MARK}, "supersedes"),
    "supersedes_of_an_incident": ({"supersedes": INCIDENT}, "supersedes"),
}
LIST: dict[str, tuple[dict[str, Any], str]] = {
    "state_unspecified": ({"states": [0]}, "states[0]"),
    "state_unknown": ({"states": [1, 99]}, "states[1]"),
    "states_too_many": ({"states": [1] * 17}, "states"),
    "risk_unspecified": ({"risks": [0]}, "risks[0]"),
    "risk_unknown": ({"risks": [99]}, "risks[0]"),
    "kind_unspecified": ({"operation_kinds": [0]}, "operation_kinds[0]"),
    "kind_unknown": ({"operation_kinds": [99]}, "operation_kinds[0]"),
    "order_unknown": ({"order": 99}, "order"),
    "incident_id_malformed": ({"incident_id": MARK}, "incident_id"),
    "page_size_negative": ({"page_size": -1}, "page_size"),
    "page_token_too_long": ({"page_token": "x" * 4097}, "page_token"),
    "page_token_forged": ({"page_token": MARK}, "page_token"),
    "start_before_1970": ({"create_time_start": Timestamp(seconds=-1)}, "create_time_start"),
    "start_beyond_all_bounds": ({"create_time_start": Timestamp(seconds=2**62)}, "create_time_start"),
    "start_with_impossible_nanos": ({"create_time_start": Timestamp(nanos=2 * 10**9)}, "create_time_start"),
    "end_with_negative_nanos": ({"create_time_end": Timestamp(seconds=1, nanos=-1)}, "create_time_end"),
    "start_after_end": (
        {"create_time_start": Timestamp(seconds=2), "create_time_end": Timestamp(seconds=1)},
        "create_time_start",
    ),
}
DELIVERIES: dict[str, tuple[dict[str, Any], str]] = {
    "state_unspecified": ({"states": [0]}, "states[0]"),
    "state_unknown": ({"states": [99]}, "states[0]"),
    "topic_unspecified": ({"topics": [0]}, "topics[0]"),
    "topic_unknown": ({"topics": [99]}, "topics[0]"),
    "topics_too_many": ({"topics": [1] * 17}, "topics"),
    "approval_id_malformed": ({"approval_id": MARK}, "approval_id"),
    "page_size_negative": ({"page_size": -1}, "page_size"),
    "page_token_forged": ({"page_token": MARK}, "page_token"),
}
EXECUTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "approval_id_malformed": ({"approval_id": MARK}, "approval_id"),
    "incident_id_malformed": ({"incident_id": MARK}, "incident_id"),
    "page_size_negative": ({"page_size": -1}, "page_size"),
    "page_token_forged": ({"page_token": MARK}, "page_token"),
    "start_with_impossible_nanos": ({"start_time_start": Timestamp(nanos=2 * 10**9)}, "start_time_start"),
    "start_after_end": (
        {"start_time_start": Timestamp(seconds=2), "start_time_end": Timestamp(seconds=1)},
        "start_time_start",
    ),
}
WATCH: dict[str, tuple[dict[str, Any], str]] = {
    "state_unspecified": ({"states": [0]}, "states[0]"),
    "state_unknown": ({"states": [1, 99]}, "states[1]"),
    "states_too_many": ({"states": [1] * 17}, "states"),
    "incident_id_malformed": ({"incident_id": MARK}, "incident_id"),
    "approval_id_malformed": ({"approval_id": MARK}, "approval_id"),
    "resume_token_too_long": ({"resume_token": "x" * 4097}, "resume_token"),
    "resume_token_forged": ({"resume_token": MARK}, "resume_token"),
}
DECISION: dict[str, tuple[dict[str, Any], str]] = {
    "reason_nul": ({"reason": "\0"}, "reason"),
    "reason_too_long": ({"reason": "x" * 8193}, "reason"),
    "etag_too_long": ({"etag": "x" * 129}, "etag"),
    "etag_with_space": ({"etag": "a b"}, "etag"),
}
_BAD_APPROVAL_IDS = {
    f"approval_id_{name}": ({"approval_id": text.format("APR")}, "approval_id")
    for name, text in BAD_IDS.items()
}
_ETAGS = {name: case for name, case in DECISION.items() if name.startswith("etag")}

DELIVERY_ID: dict[str, tuple[dict[str, Any], str]] = {
    "delivery_id_missing": ({"delivery_id": ""}, "delivery_id"),
    "delivery_id_with_space": ({"delivery_id": "1 2"}, "delivery_id"),
    "delivery_id_nul": ({"delivery_id": "1\0"}, "delivery_id"),
    "delivery_id_in_other_digits": ({"delivery_id": "٣"}, "delivery_id"),
    "delivery_id_too_long": ({"delivery_id": "1" * 129}, "delivery_id"),
}

# For each RPC a valid request and the ways to spoil it: changed fields, and the field that is named.
SPOILED: dict[str, tuple[Message, dict[str, tuple[dict[str, Any], str]]]] = {
    "Propose": (
        pb.ProposeRequest(incident_id=INCIDENT, action="NO_ACTION", risk=approval_pb2.RISK_LOW),
        PROPOSE,
    ),
    "Get": (pb.GetRequest(approval_id=APPROVAL), _BAD_APPROVAL_IDS),
    "List": (pb.ListRequest(), LIST),
    "Watch": (pb.WatchRequest(), WATCH),
    "Approve": (pb.ApproveRequest(approval_id=APPROVAL), _BAD_APPROVAL_IDS | DECISION),
    "Reject": (pb.RejectRequest(approval_id=APPROVAL), _BAD_APPROVAL_IDS | DECISION),
    "Cancel": (pb.CancelRequest(approval_id=APPROVAL), _BAD_APPROVAL_IDS | DECISION),
    "Execute": (pb.ExecuteRequest(approval_id=APPROVAL), _BAD_APPROVAL_IDS | _ETAGS),
    "ListExecutions": (pb.ListExecutionsRequest(), EXECUTIONS),
    "ListDeliveries": (pb.ListDeliveriesRequest(), DELIVERIES),
    "RetryDelivery": (pb.RetryDeliveryRequest(delivery_id="1"), DELIVERY_ID),
    "RetryDeliveries": (
        pb.RetryDeliveriesRequest(),
        {
            "topic_unspecified": ({"topics": [0]}, "topics[0]"),
            "topic_unknown": ({"topics": [99]}, "topics[0]"),
            "topics_too_many": ({"topics": [1] * 17}, "topics"),
            "limit_negative": ({"limit": -1}, "limit"),
            "limit_too_large": ({"limit": 1001}, "limit"),
        },
    ),
    "DismissDelivery": (
        pb.DismissDeliveryRequest(delivery_id="1", reason="it is over"),
        {
            **DELIVERY_ID,
            "reason_missing": ({"reason": ""}, "reason"),
            "reason_blank": ({"reason": " \t"}, "reason"),
            "reason_nul": ({"reason": "a\0b"}, "reason"),
            "reason_too_long": ({"reason": "ż" * 513}, "reason"),
        },
    ),
}
CASES = {
    f"{rpc}-{name}": (rpc, request, changes, field)
    for rpc, (request, ways) in SPOILED.items()
    for name, (changes, field) in ways.items()
}


def _spoil(request: Message, changes: dict[str, Any]) -> Message:
    spoiled = type(request)()
    spoiled.CopyFrom(request)
    for field in changes:
        spoiled.ClearField(field)
    spoiled.MergeFrom(type(request)(**changes))
    return spoiled


async def _call(approvals: Approvals, rpc: str, request: Message, **options: Any) -> Any:
    call = getattr(approvals.stub, rpc)(request, timeout=TIMEOUT_SECONDS, **options)
    return await (call.read() if rpc == "Watch" else call)


@pytest.mark.parametrize(("rpc", "request_", "changes", "field"), CASES.values(), ids=CASES)
async def test_a_malformed_field_is_refused_by_name(
    approvals: Approvals, rpc: str, request_: Message, changes: dict[str, Any], field: str
) -> None:
    refusal = await refused(_call(approvals, rpc, _spoil(request_, changes)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.fields) == {field}
    assert refusal.message.startswith(f"invalid argument: {field}: ")
    assert MARK not in refusal.wire


async def test_every_bad_field_of_a_request_is_named(approvals: Approvals) -> None:
    refusal = await refused(_call(approvals, "Propose", pb.ProposeRequest(confidence=2)))
    assert set(refusal.fields) == {"incident_id", "action", "risk", "confidence"}


async def test_an_invalid_request_writes_nothing(
    approvals: Approvals, approval_service: RunningService
) -> None:
    before = await contents(approval_service.database_url)
    for rpc in ("Propose", "Approve", "Reject", "Cancel", "Execute", "RetryDelivery", "DismissDelivery"):
        request, ways = SPOILED[rpc]
        for changes, _ in list(ways.values())[:3]:
            await refused(_call(approvals, rpc, _spoil(request, changes)))
    assert await contents(approval_service.database_url) == before


BAD_ACTORS = {
    "empty": "",
    "blank": " ",
    "with_space": "a b",
    "too_long": "a" * 129,
    "strange_start": "-a",
    "quotes": 'a"b',
    "markup": "<b>",
}


@pytest.mark.parametrize("actor", BAD_ACTORS.values(), ids=BAD_ACTORS)
async def test_an_invalid_actor_is_refused(approvals: Approvals, actor: str) -> None:
    refusal = await refused(
        _call(approvals, "Get", pb.GetRequest(approval_id=APPROVAL), metadata=caller(actor))
    )
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == ("metadata awoooi-actor",)


NOT_PROTOBUF = {
    "junk": b"\xff\xff\xff\xff",
    "truncated": pb.ProposeRequest(incident_id=INCIDENT, action="NO_ACTION").SerializeToString()[:-3],
    "not_utf8": b"\x0a\x02\xff\xfe",
    "group_without_end": b"\x0b" * 200,
}


@pytest.mark.parametrize("raw", NOT_PROTOBUF.values(), ids=NOT_PROTOBUF)
async def test_invalid_protobuf_is_an_error_and_affects_no_other_call(
    approvals: Approvals, approval_service: RunningService, raw: bytes
) -> None:
    async with grpc.aio.insecure_channel(approval_service.address) as channel:
        call: Any = channel.unary_unary("/awoooi.approval.v1.ApprovalService/Propose")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(raw, timeout=TIMEOUT_SECONDS)
    assert "DecodeError" not in f"{caught.value.details()}"
    assert (await approvals.list(page_size=1).page()) is not None


async def test_a_request_above_the_size_limit_is_refused(approvals: Approvals) -> None:
    request = pb.ProposeRequest(
        incident_id=INCIDENT, action="NO_ACTION", risk=approval_pb2.RISK_LOW, rationale="x" * (1 << 20)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _call(approvals, "Propose", request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("page_size", [0, 10**9])
async def test_a_page_size_out_of_bounds_is_clamped(approvals: Approvals, page_size: int) -> None:
    assert len((await approvals.list(page_size=page_size).page()).approvals) <= 1000


async def test_an_internal_error_discloses_only_its_correlation_id(
    approvals: Approvals, approval_service: RunningService
) -> None:
    # A row that no version of the service has written: reading it is an internal error.
    approval_id = "APR-20200101-00000000DEAD"
    await rows(
        approval_service.database_url,
        """
        INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook,
            parse_error, action_hash, risk, rationale, required_approvals, auto_execute, proposed_by,
            incident_verified, expire_time, content_hash)
        VALUES ($1, 'INC-20200101-00000000DEAD', $2, 'NO_ACTION', '', '', '', '', '', '', $2, '', 1, false, 'x', true,
            now() + interval '1 day', '')
        """,
        approval_id,
        MARK,
    )
    try:
        refusal = await refused(approvals.get(approval_id))
    finally:
        await rows(approval_service.database_url, "DELETE FROM approvals WHERE approval_id = $1", approval_id)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert refusal.message == "internal error"
    for secret in (MARK, "ValueError", "Risk", "postgresql", approval_service.database_url):
        assert secret not in refusal.wire
    line = await approval_service.logged(
        "rpc_internal_error", correlation_id=refusal.metadata["correlation_id"]
    )
    assert "ValueError" in line["exception"]
