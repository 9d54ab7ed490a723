"""This service's RPCs on the wire: each handler reads the request, calls one use case, builds the response."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

import grpc.aio

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from awoooi.flywheel.v1 import flywheel_stats_service_pb2_grpc
from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1 import incident_service_pb2_grpc
from incident.lifecycle import mapping
from incident.lifecycle.use_cases import IncidentUseCases
from incident.stats import mapping as stats_mapping
from incident.stats.repository import IncidentFigures
from incident.timeline_use_cases import TimelineUseCases
from incident.watch import mapping as watch_mapping
from incident.watch.use_cases import WatchUseCase
from servicekit.rpc.error_table import ErrorTable
from servicekit.rpc.identity import current_actor
from servicekit.rpc.page_tokens import PageTokens

# A string: gRPC's classes are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class IncidentServicer(incident_service_pb2_grpc.IncidentServiceServicer):
    """awoooi.incident.v1.IncidentService. What it does not define answers UNIMPLEMENTED."""

    def __init__(
        self,
        use_cases: IncidentUseCases,
        timelines: TimelineUseCases,
        watch: WatchUseCase,
        page_tokens: PageTokens,
        errors: ErrorTable,
    ) -> None:
        self._use_cases = use_cases
        self._timelines = timelines
        self._watch = watch
        self._page_tokens = page_tokens
        self._errors = errors

    async def Create(self, request: pb.CreateRequest, context: Context) -> pb.CreateResponse:
        incident, deduplicated = await self._use_cases.create(
            mapping.new_incident(request), actor=current_actor()
        )
        return pb.CreateResponse(incident=mapping.incident_to_proto(incident), deduplicated=deduplicated)

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        incident = await self._use_cases.get(request.incident_id)
        return pb.GetResponse(incident=mapping.incident_to_proto(incident))

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        after = mapping.list_position(request, self._page_tokens)
        page = await self._use_cases.list(
            mapping.incident_filter(request), after=after, page_size=mapping.page_size(request.page_size)
        )
        return pb.ListResponse(
            incidents=[mapping.incident_to_proto(incident) for incident in page.incidents],
            next_page_token=mapping.list_token(request, page.next_position, self._page_tokens),
        )

    async def StartInvestigation(
        self, request: pb.StartInvestigationRequest, context: Context
    ) -> pb.StartInvestigationResponse:
        incident = await self._use_cases.start_investigation(
            request.incident_id, etag=request.etag, actor=current_actor()
        )
        return pb.StartInvestigationResponse(incident=mapping.incident_to_proto(incident))

    async def Resolve(self, request: pb.ResolveRequest, context: Context) -> pb.ResolveResponse:
        resolution = await self._use_cases.resolve(mapping.resolve_command(request, actor=current_actor()))
        return pb.ResolveResponse(
            incident=mapping.incident_to_proto(resolution.incident),
            already_resolved=resolution.already_resolved,
        )

    async def BatchResolve(
        self, request: pb.BatchResolveRequest, context: Context
    ) -> pb.BatchResolveResponse:
        outcomes = await self._use_cases.batch_resolve(mapping.batch_commands(request, actor=current_actor()))
        return mapping.batch_response(request, outcomes, self._errors)

    async def Reopen(self, request: pb.ReopenRequest, context: Context) -> pb.ReopenResponse:
        incident = await self._use_cases.reopen(mapping.reopen_command(request, actor=current_actor()))
        return pb.ReopenResponse(incident=mapping.incident_to_proto(incident))

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        events, following = await self._timelines.list_events(
            request.incident_id,
            types=mapping.event_types(request),
            after=mapping.events_position(request, self._page_tokens),
            page_size=mapping.page_size(request.page_size),
        )
        return pb.ListEventsResponse(
            events=[mapping.event_to_proto(event) for event in events],
            next_page_token=mapping.events_token(request, following, self._page_tokens),
        )

    async def AddEvent(self, request: pb.AddEventRequest, context: Context) -> pb.AddEventResponse:
        event = await self._timelines.add_event(mapping.new_event(request, actor=current_actor()))
        return pb.AddEventResponse(event=mapping.event_to_proto(event))

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        steps = self._watch.watch(
            watch_mapping.watch_filter(request),
            resume=watch_mapping.resume_position(request, self._page_tokens),
            include_existing=request.include_existing,
            token=watch_mapping.make_token(request, self._page_tokens),
        )
        async for step in steps:
            yield watch_mapping.watch_response(step)

    async def ListSideEffects(
        self, request: pb.ListSideEffectsRequest, context: Context
    ) -> pb.ListSideEffectsResponse:
        found, following = await self._timelines.list_side_effects(
            incident_id=request.incident_id,
            states=mapping.side_effect_states(request),
            effects=mapping.effects(request),
            before=mapping.side_effects_position(request, self._page_tokens),
            page_size=mapping.page_size(request.page_size),
        )
        return pb.ListSideEffectsResponse(
            side_effects=[mapping.side_effect_to_proto(each) for each in found],
            next_page_token=mapping.side_effects_token(request, following, self._page_tokens),
        )

    async def RetrySideEffect(
        self, request: pb.RetrySideEffectRequest, context: Context
    ) -> pb.RetrySideEffectResponse:
        found = await self._timelines.retry_side_effect(
            request.incident_id, mapping.effect(request), request.resolution_number
        )
        return pb.RetrySideEffectResponse(side_effect=mapping.side_effect_to_proto(found))

    async def GetPostmortem(
        self, request: pb.GetPostmortemRequest, context: Context
    ) -> pb.GetPostmortemResponse:
        postmortem = await self._timelines.get_postmortem(request.incident_id, request.resolution_number)
        return pb.GetPostmortemResponse(postmortem=mapping.postmortem_to_proto(postmortem))

    async def SearchKnowledge(
        self, request: pb.SearchKnowledgeRequest, context: Context
    ) -> pb.SearchKnowledgeResponse:
        matches, following = await self._timelines.search_knowledge(
            request.query,
            types=mapping.resolution_types(request),
            after=mapping.knowledge_position(request, self._page_tokens),
            page_size=mapping.page_size(request.page_size),
        )
        return pb.SearchKnowledgeResponse(
            matches=[mapping.match_to_proto(match) for match in matches],
            next_page_token=mapping.knowledge_token(request, following, self._page_tokens),
        )


class StatsServicer(flywheel_stats_service_pb2_grpc.FlywheelStatsServiceServicer):
    """awoooi.flywheel.v1.FlywheelStatsService: the incident sections."""

    def __init__(
        self, read_figures: Callable[[bool], Awaitable[IncidentFigures]], *, stuck_after: timedelta
    ) -> None:
        self._read_figures = read_figures
        self._stuck_after = stuck_after

    async def GetFlywheelStats(
        self, request: stats_pb.GetFlywheelStatsRequest, context: Context
    ) -> stats_pb.GetFlywheelStatsResponse:
        figures = await self._read_figures(request.view == stats_pb.GetFlywheelStatsRequest.VIEW_FULL)
        return stats_mapping.figures_to_proto(figures, stuck_after=self._stuck_after)
