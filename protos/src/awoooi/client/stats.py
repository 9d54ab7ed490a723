"""The statistics that every service keeps."""

from typing import Unpack

from awoooi.client.aio import AsyncClient
from awoooi.client.call import Call
from awoooi.client.methods import UnaryMethod
from awoooi.client.options import CallOptions
from awoooi.client.sync import SyncClient
from awoooi.client.values import View, enum_value
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["FlywheelStatsService"].full_name


class StatsMethods:
    """What both clients can do."""

    @UnaryMethod
    def get_flywheel_stats(
        self,
        *,
        view: View = pb.GetFlywheelStatsRequest.VIEW_UNSPECIFIED,
        **options: Unpack[CallOptions],
    ) -> Call[pb.GetFlywheelStatsResponse]:
        """Return the statistics of the service that is called: counts and ages, with the view FULL the lists, too."""
        request = pb.GetFlywheelStatsRequest(view=enum_value(pb.GetFlywheelStatsRequest.View, "VIEW_", view))
        return Call(f"{SERVICE}/GetFlywheelStats", request, pb.GetFlywheelStatsResponse.FromString, options)


class StatsClient(StatsMethods, AsyncClient):
    """The statistics of one service, async."""


class SyncStatsClient(StatsMethods, SyncClient):
    """The statistics of one service, sync."""
