"""What the type checker knows about the clients: `make lint` is the test, since wrong lines have to be marked here."""

from typing import assert_type

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as approval_service
from awoooi.client import (
    ApprovalClient,
    AsyncPager,
    AsyncWatch,
    IncidentClient,
    StatsClient,
    SyncIncidentClient,
    SyncPager,
    SyncWatch,
)
from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_service
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb


async def async_methods(incidents: IncidentClient, approvals: ApprovalClient, stats: StatsClient) -> None:
    """Never run."""
    assert_type(await incidents.get("INC", timeout=3, actor="alice"), incident_pb2.Incident)
    assert_type(await incidents.resolve("INC", resolution_type="NO_ACTION"), pb.ResolveResponse)
    by_number = incidents.resolve("INC", resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN)
    assert_type(await by_number, pb.ResolveResponse)
    assert_type(await approvals.approve("APR"), approval_pb2.Approval)
    assert_type(await approvals.execute("APR"), approval_service.ExecuteResponse)
    assert_type(await stats.get_flywheel_stats(view="FULL"), stats_service.GetFlywheelStatsResponse)
    assert_type(incidents.list(), AsyncPager[pb.ListResponse, incident_pb2.Incident])
    async for event in incidents.list_events("INC", types=["NOTE"]):
        assert_type(event, incident_pb2.IncidentEvent)
    async for page in incidents.list_events("INC").pages():
        assert_type(page, pb.ListEventsResponse)
    assert_type(await incidents.list_events("INC").page(), pb.ListEventsResponse)
    assert_type(incidents.watch(states=["OPEN"]), AsyncWatch[pb.WatchResponse])
    async with incidents as entered:
        assert_type(entered, IncidentClient)


def sync_methods(incidents: SyncIncidentClient) -> None:
    """Never run."""
    assert_type(incidents.get("INC", timeout=3, actor="alice"), incident_pb2.Incident)
    assert_type(incidents.list(), SyncPager[pb.ListResponse, incident_pb2.Incident])
    for event in incidents.list_events("INC"):
        assert_type(event, incident_pb2.IncidentEvent)
    assert_type(incidents.watch(), SyncWatch[pb.WatchResponse])
    with incidents as entered:
        assert_type(entered, SyncIncidentClient)


def mistakes(incidents: SyncIncidentClient) -> None:
    """Never run. A line without an error would make its `type: ignore` an error."""
    incidents.resolve("INC", resolution_type="NO_ACTIONN")  # type: ignore[arg-type]  # a word that is no value
    incidents.resolve("INC", resolution_type=incident_pb2.SEVERITY_HIGH)  # type: ignore[arg-type]  # another enum's
    incidents.resolve("INC")  # type: ignore[call-arg]  # what is required
    incidents.get("INC", tmeout=3)  # type: ignore[call-arg]  # an option that does not exist
    incidents.get("INC", timeout="3s")  # type: ignore[arg-type]  # an option of another type
    incidents.get(7)  # type: ignore[arg-type]  # a field of another type


def test_the_description_of_a_method_is_what_help_shows() -> None:
    assert IncidentClient.resolve is SyncIncidentClient.resolve
    assert "already_resolved" in (IncidentClient.resolve.__doc__ or "")
