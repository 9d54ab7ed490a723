"""The stats of a service as the gateway reads them."""

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from tests.incident.incidents import stats_stub

BASIC = stats_pb.GetFlywheelStatsRequest.VIEW_BASIC
FULL = stats_pb.GetFlywheelStatsRequest.VIEW_FULL


async def read_stats(
    address: str, view: stats_pb.GetFlywheelStatsRequest.View.ValueType = BASIC
) -> stats_pb.GetFlywheelStatsResponse:
    """The stats of the service at an address."""
    async with stats_stub(address) as stub:
        return await stub.GetFlywheelStats(stats_pb.GetFlywheelStatsRequest(view=view))
