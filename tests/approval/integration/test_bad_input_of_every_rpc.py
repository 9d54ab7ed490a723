"""Invalid requests to every RPC, and page sizes and tokens of every list."""

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
import pytest

from awoooi.approval.v1 import approval_service_pb2 as pb
from tests.approval.schemas import contents, rows
from tests.callers import Approvals, Incidents
from tests.rpc_errors import refused
from tests.services import TIMEOUT_SECONDS, RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVICE = pb.DESCRIPTOR.services_by_name["ApprovalService"]
RPCS = [method.name for method in SERVICE.methods]
# Fields that no message has, so that only their shape can be wrong.
NOT_PROTOBUF = {
    "junk": b"\xff" * 20,
    "cut_off": b"\xfa\x7f\x10half",
    "no_end_of_a_number": b"\xf8\x7f\xff",
    "nested_without_end": b"\xfb\x7f" * 200,
    "nested_too_deeply": b"\xfb\x7f" * 5000 + b"\xfc\x7f" * 5000,
    "a_field_without_number": b"\x00\x00",
}

# A connection that brings many bytes that are no message is closed: a call here is not to be refused for others.
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


async def _send(service: RunningService, rpc: str, raw: bytes) -> grpc.aio.AioRpcError:
    """How bytes are refused that no generated code would send."""
    async with grpc.aio.insecure_channel(service.address, options=_OWN_CONNECTION) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE.full_name}/{rpc}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(raw, timeout=TIMEOUT_SECONDS)
    return caught.value


@pytest.mark.parametrize("rpc", RPCS)
async def test_invalid_protobuf_for_any_rpc_is_an_error_and_writes_nothing(
    approvals: Approvals, approval_service: RunningService, rpc: str
) -> None:
    before = await contents(approval_service.database_url)
    for raw in NOT_PROTOBUF.values():
        error = await _send(approval_service, rpc, raw)
        assert error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        for inside in ("DecodeError", "Traceback", "google.protobuf"):
            assert inside not in f"{error.details()}"
    assert (await approvals.list(page_size=1).page()) is not None
    assert await contents(approval_service.database_url) == before


@pytest.mark.parametrize("rpc", RPCS)
async def test_a_request_of_any_rpc_above_the_size_limit_is_refused(
    approval_service: RunningService, rpc: str
) -> None:
    error = await _send(approval_service, rpc, b"\x0a" + b"\x80\x80\x80\x01" + b"x" * (1 << 21))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "rpc",
    ["Get", "Approve", "Reject", "Cancel", "Execute", "RetryDelivery", "DismissDelivery", "Propose"],
)
async def test_an_empty_request_is_refused_with_the_fields_that_it_must_have(
    approvals: Approvals, rpc: str
) -> None:
    request = getattr(pb, f"{rpc}Request")()
    refusal = await refused(getattr(approvals.stub, rpc)(request, timeout=TIMEOUT_SECONDS))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.fields) <= {"approval_id", "delivery_id", "incident_id", "action", "risk", "reason"}
    assert refusal.fields


async def _logged(
    approvals: Approvals, incidents: Incidents, service: RunningService, number: int
) -> Sequence[str]:
    """The ids of an incident's repairs, newest first, as if so many had been made."""
    approval = await approvals.proposed(await incidents.opened_id())
    found = await rows(
        service.database_url,
        """
        INSERT INTO auto_repair_executions
            (approval_id, incident_id, target, operation, succeeded, output, error, executor, start_time)
        SELECT $1, $2, 'prod/pod/x', '{"kind": "DELETE", "resource_kind": "pod", "name": "x", "namespace": "prod"}',
            number % 2 = 0, '', '', 'tests', now()
        FROM generate_series(1, $3::int) AS number
        RETURNING execution_id::text
        """,
        approval.approval_id,
        approval.incident_id,
        number,
    )
    return [approval.incident_id, *sorted((each for (each,) in found), key=int, reverse=True)]


@pytest.mark.parametrize("page_size", [0, 1000, 10**9])
async def test_a_page_size_of_executions_out_of_bounds_is_clamped(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, page_size: int
) -> None:
    incident_id, *ids = await _logged(approvals, incidents, approval_service, 1001)
    page = await approvals.list_executions(incident_id=incident_id, page_size=page_size).page()
    assert [each.execution_id for each in page.executions] == ids[: min(page_size, 1000) or 50]
    assert page.next_page_token


@pytest.mark.parametrize("page_size", [0, 10**9])
async def test_a_page_size_of_deliveries_out_of_bounds_is_clamped(
    approvals: Approvals, page_size: int
) -> None:
    assert len((await approvals.list_deliveries(page_size=page_size).page()).deliveries) <= (
        1000 if page_size else 50
    )


OTHER_EXECUTIONS: dict[str, dict[str, Any]] = {
    "outcome": {"succeeded": True},
    "incident": {"incident_id": "INC-20200101-00000000DEAD"},
    "no_incident": {"incident_id": ""},
    "approval": {"approval_id": "APR-20200101-00000000DEAD"},
}


@pytest.mark.parametrize("other", OTHER_EXECUTIONS.values(), ids=OTHER_EXECUTIONS)
async def test_a_token_of_other_executions_is_refused(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService, other: dict[str, Any]
) -> None:
    incident_id, *_ = await _logged(approvals, incidents, approval_service, 2)
    query: dict[str, Any] = {"incident_id": incident_id, "page_size": 1}
    page = await approvals.list_executions(**query).page()
    others = approvals.list_executions(**{**query, **other}, page_token=page.next_page_token)
    refusal = await refused(others.page())
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))


async def test_a_page_token_of_executions_is_invalid_for_deliveries(
    approvals: Approvals, incidents: Incidents, approval_service: RunningService
) -> None:
    incident_id, *_ = await _logged(approvals, incidents, approval_service, 2)
    token = (await approvals.list_executions(incident_id=incident_id, page_size=1).page()).next_page_token
    refusal = await refused(approvals.list_deliveries(page_token=token).page())
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))
