"""Dead letters of every topic: waited for, and their counts."""

from collections.abc import Mapping
from typing import Any

import grpc

from awoooi.approval.v1 import approval_pb2
from awoooi.flywheel.v1 import flywheel_stats_pb2 as stats_pb
from tests.approval.fronted import Fronted
from tests.approval.scripted_incidents import answer
from tests.callers import Approvals, DeliveryState
from tests.eventually import eventually

Topic = approval_pb2.Delivery.Topic


RESOLVE, TIMELINE, EXECUTION, NOTIFICATION, OTHER = (
    Topic.TOPIC_RESOLVE,
    Topic.TOPIC_TIMELINE,
    Topic.TOPIC_EXECUTION,
    Topic.TOPIC_NOTIFICATION,
    Topic.TOPIC_OTHER,
)


PARKED = DeliveryState.STATE_PARKED


REFUSE = answer(grpc.StatusCode.INVALID_ARGUMENT, "scripted")


async def executed_noop(service: Fronted, incident_id: str) -> approval_pb2.Approval:
    """A NO_ACTION whose resolve is refused."""
    approval = await service.approvals.approved(incident_id)
    service.front.behaviour = REFUSE
    return (await service.approvals.execute(approval.approval_id)).approval


async def listed_deliveries(approvals: Approvals, **criteria: Any) -> list[approval_pb2.Delivery]:
    return [each async for each in approvals.list_deliveries(**criteria)]


async def wait_for_parked(approvals: Approvals, count: int) -> list[approval_pb2.Delivery]:
    """The dead letters, newest first, once there are so many."""
    return await eventually(
        lambda: listed_deliveries(approvals, states=[PARKED]), lambda found: len(found) == count
    )


async def topic_stats(approvals: Approvals) -> Mapping[int, stats_pb.DeliveryTopicStats]:
    return {each.topic: each for each in (await approvals.stats()).deliveries.topics}


def count_in(topic: stats_pb.DeliveryTopicStats, state: DeliveryState.ValueType = PARKED) -> int:
    (count,) = [each.count for each in topic.deliveries if each.state == state]
    return count
