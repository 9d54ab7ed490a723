"""Between the messages of deliveries and their model."""

from collections.abc import Sequence

from approval.delivery.errors import DeliveryNotFoundError
from approval.delivery.model import Delivery, DeliveryDismissal, DeliveryState, DeliveryTopic
from approval.delivery.reconcile import Reconciliation
from approval.delivery.use_cases import DeliveryPage
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from servicekit.rpc.cursors import write_id_cursor
from servicekit.rpc.mapping import WireEnum, optional_timestamp
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.serialized import with_items
from servicekit.rpc.timestamps import to_timestamp

DELIVERY_STATES = WireEnum(DeliveryState, "STATE", approval_pb2.Delivery.State.Value)
DELIVERY_TOPICS = WireEnum(DeliveryTopic, "TOPIC", approval_pb2.Delivery.Topic.Value)
_MAX_ID_DIGITS = 18
_DEFAULT_RETRY_LIMIT = 100


def delivery_to_proto(delivery: Delivery) -> approval_pb2.Delivery:
    """Return the message of a delivery."""
    return approval_pb2.Delivery(
        delivery_id=str(delivery.delivery_id),
        approval_id=delivery.approval_id,
        incident_id=delivery.incident_id,
        state=DELIVERY_STATES.to_wire(delivery.state),
        attempts=delivery.attempts,
        last_error=delivery.last_error,
        create_time=to_timestamp(delivery.create_time),
        next_attempt_time=(
            to_timestamp(delivery.next_attempt_time) if delivery.state is DeliveryState.PENDING else None
        ),
        done_time=optional_timestamp(delivery.done_time),
        topic=DELIVERY_TOPICS.to_wire(delivery.topic),
        idempotency_key=delivery.idempotency_key,
        requeued_by=delivery.requeued_by,
        dismissal=None if delivery.dismissal is None else _dismissal(delivery.dismissal),
    )


def _dismissal(dismissal: DeliveryDismissal) -> approval_pb2.Delivery.Dismissal:
    return approval_pb2.Delivery.Dismissal(
        actor=dismissal.actor, reason=dismissal.reason, dismiss_time=to_timestamp(dismissal.dismiss_time)
    )


def delivery_states(request: pb.ListDeliveriesRequest) -> Sequence[DeliveryState]:
    """Read the states of a ListDeliveries."""
    return DELIVERY_STATES.all_from_wire(request.states)


def delivery_topics(request: pb.ListDeliveriesRequest | pb.RetryDeliveriesRequest) -> Sequence[DeliveryTopic]:
    """Read the topics of a request."""
    return DELIVERY_TOPICS.all_from_wire(request.topics)


async def list_response(
    request: pb.ListDeliveriesRequest, page: DeliveryPage, tokens: PageTokens
) -> pb.ListDeliveriesResponse:
    """Return the response of a ListDeliveries."""
    return await with_items(
        pb.ListDeliveriesResponse(next_page_token=write_id_cursor(request, page.next_before, tokens)),
        "deliveries",
        page.deliveries,
        delivery_to_proto,
    )


def delivery_id(request: pb.RetryDeliveryRequest | pb.DismissDeliveryRequest) -> int:
    """Read a delivery's id. Raises DeliveryNotFoundError for a text that is not an id of this service."""
    text = request.delivery_id
    if not (text.isascii() and text.isdecimal()) or len(text) > _MAX_ID_DIGITS:
        raise DeliveryNotFoundError
    return int(text)


def retry_limit(request: pb.RetryDeliveriesRequest) -> int:
    """Read the limit of a RetryDeliveries."""
    return request.limit or _DEFAULT_RETRY_LIMIT


def retry_response(deliveries: Sequence[Delivery], *, limit: int) -> pb.RetryDeliveriesResponse:
    """Return the response of a RetryDeliveries."""
    return pb.RetryDeliveriesResponse(
        deliveries=[delivery_to_proto(delivery) for delivery in deliveries],
        has_more=len(deliveries) == limit,
    )


def reconcile_response(found: Reconciliation) -> pb.ReconcileResponse:
    """Return the response of a Reconcile."""
    return pb.ReconcileResponse(
        queued_count=found.queued.count,
        approval_ids=found.queued.approval_ids,
        unknown_incident_count=found.unknown.count,
        unknown_incident_approval_ids=found.unknown.approval_ids,
        compared_count=found.compared,
        comparison_complete=found.is_compared,
    )
