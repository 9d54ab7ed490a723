"""The RPC handlers: each reads the request, calls one use case and builds the response."""

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, TypeAlias

import grpc.aio

from awoooi.flywheel.v1 import flywheel_stats_service_pb2 as stats_pb
from awoooi.flywheel.v1 import flywheel_stats_service_pb2_grpc
from awoooi.incident.v1 import incident_service_pb2 as pb
from awoooi.incident.v1 import incident_service_pb2_grpc
from incident.effects import mapping as effects_mapping
from incident.effects.dead_letters import DeadLetterUseCases
from incident.effects.use_cases import SideEffectUseCases
from incident.knowledge import mapping as knowledge_mapping
from incident.knowledge.use_cases import KnowledgeUseCases
from incident.lifecycle import mapping
from incident.lifecycle.canary import CanaryUseCase
from incident.lifecycle.resolve import ResolveUseCase
from incident.lifecycle.use_cases import IncidentUseCases
from incident.model import Incident
from incident.stats import mapping as stats_mapping
from incident.stats.model import IncidentStats
from incident.watch import mapping as watch_mapping
from incident.watch.changes import Change, WatchFilter
from incident.wire_enums import EFFECTS, RESOLUTION_TYPES
from servicekit.process.build import Build
from servicekit.rpc.audited import current_call
from servicekit.rpc.cursors import (
    page_size,
    read_id_cursor,
    read_time_cursor,
    write_id_cursor,
    write_time_cursor,
)
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.serialized import with_items
from servicekit.rpc.status_codes import ErrorTable
from servicekit.stats import StatsUseCase
from servicekit.watch.tokens import make_token, resume_point
from servicekit.watch.use_cases import WatchUseCase

# A string: gRPC's classes are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# The methods whose cost grows with what is stored.
HEAVY_READS = frozenset({"List", "ListEvents", "ListSideEffects", "SearchKnowledge"})


class IncidentServicer(incident_service_pb2_grpc.IncidentServiceServicer):
    """awoooi.incident.v1.IncidentService. A method that is missing here returns UNIMPLEMENTED."""

    def __init__(
        self,
        *,
        incidents: IncidentUseCases,
        resolve: ResolveUseCase,
        canaries: CanaryUseCase,
        side_effects: SideEffectUseCases,
        dead_letters: DeadLetterUseCases,
        knowledge: KnowledgeUseCases,
        watch: WatchUseCase[WatchFilter, Change, Incident],
        page_tokens: PageTokens,
        errors: ErrorTable,
    ) -> None:
        self._incidents = incidents
        self._resolve = resolve
        self._canaries = canaries
        self._side_effects = side_effects
        self._dead_letters = dead_letters
        self._knowledge = knowledge
        self._watch = watch
        self._page_tokens = page_tokens
        self._errors = errors

    async def Create(self, request: pb.CreateRequest, context: Context) -> pb.CreateResponse:
        created = await self._incidents.create(mapping.new_incident(request), call=current_call())
        return pb.CreateResponse(
            incident=mapping.incident_to_proto(created.incident), deduplicated=created.deduplicated
        )

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        incident = await self._incidents.get(request.incident_id)
        return pb.GetResponse(incident=mapping.incident_to_proto(incident))

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        after = read_time_cursor(request, self._page_tokens)
        page = await self._incidents.list(
            mapping.incident_filter(request), after=after, page_size=page_size(request.page_size)
        )
        return await with_items(
            pb.ListResponse(
                next_page_token=write_time_cursor(request, page.next_position, self._page_tokens)
            ),
            "incidents",
            page.incidents,
            mapping.incident_to_proto,
        )

    async def StartInvestigation(
        self, request: pb.StartInvestigationRequest, context: Context
    ) -> pb.StartInvestigationResponse:
        incident = await self._incidents.start_investigation(
            request.incident_id, etag=request.etag, call=current_call()
        )
        return pb.StartInvestigationResponse(incident=mapping.incident_to_proto(incident))

    async def Resolve(self, request: pb.ResolveRequest, context: Context) -> pb.ResolveResponse:
        call = current_call()
        result = await self._resolve.resolve(mapping.resolve_command(request, actor=call.actor), call=call)
        return mapping.resolve_response(result)

    async def BatchResolve(
        self, request: pb.BatchResolveRequest, context: Context
    ) -> pb.BatchResolveResponse:
        call = current_call()
        items = mapping.batch_items(request, actor=call.actor)
        outcomes = await self._resolve.batch_resolve(items.commands, call=call)
        return mapping.batch_response(request, items, outcomes, self._errors)

    async def LookupIncidents(
        self, request: pb.LookupIncidentsRequest, context: Context
    ) -> pb.LookupIncidentsResponse:
        return mapping.lookup_response(await self._incidents.look_up(mapping.lookups(request)))

    async def Reopen(self, request: pb.ReopenRequest, context: Context) -> pb.ReopenResponse:
        call = current_call()
        command = mapping.reopen_command(request, actor=call.actor)
        incident = await self._incidents.reopen(command, call=call)
        return pb.ReopenResponse(incident=mapping.incident_to_proto(incident))

    async def RemoveCanary(
        self, request: pb.RemoveCanaryRequest, context: Context
    ) -> pb.RemoveCanaryResponse:
        removed = await self._canaries.remove(request.incident_id, call=current_call())
        return pb.RemoveCanaryResponse(removed=removed)

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        page = await self._incidents.list_events(
            request.incident_id,
            types=mapping.EVENT_TYPES.all_from_wire(request.types),
            after=read_id_cursor(request, self._page_tokens),
            page_size=page_size(request.page_size),
        )
        return await with_items(
            pb.ListEventsResponse(
                next_page_token=write_id_cursor(request, page.next_position, self._page_tokens)
            ),
            "events",
            page.events,
            mapping.event_to_proto,
        )

    async def AddEvent(self, request: pb.AddEventRequest, context: Context) -> pb.AddEventResponse:
        call = current_call()
        event = await self._incidents.add_event(mapping.new_event(request, actor=call.actor), call=call)
        return pb.AddEventResponse(event=mapping.event_to_proto(event))

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        steps = self._watch.watch(
            watch_mapping.watch_filter(request),
            resume=resume_point(request, self._page_tokens),
            include_existing=request.include_existing,
            token=make_token(request, self._page_tokens),
        )
        async for step in steps:
            yield watch_mapping.watch_response(step)

    async def ListSideEffects(
        self, request: pb.ListSideEffectsRequest, context: Context
    ) -> pb.ListSideEffectsResponse:
        page = await self._side_effects.list(
            incident_id=request.incident_id,
            states=effects_mapping.SIDE_EFFECT_STATES.all_from_wire(request.states),
            effects=EFFECTS.all_from_wire(request.effects),
            before=read_id_cursor(request, self._page_tokens),
            page_size=page_size(request.page_size),
        )
        return await with_items(
            pb.ListSideEffectsResponse(
                next_page_token=write_id_cursor(request, page.next_position, self._page_tokens)
            ),
            "side_effects",
            page.side_effects,
            effects_mapping.side_effect_to_proto,
        )

    async def RetrySideEffect(
        self, request: pb.RetrySideEffectRequest, context: Context
    ) -> pb.RetrySideEffectResponse:
        found = await self._dead_letters.retry(effects_mapping.side_effect_name(request), call=current_call())
        return pb.RetrySideEffectResponse(side_effect=effects_mapping.side_effect_to_proto(found))

    async def RetrySideEffects(
        self, request: pb.RetrySideEffectsRequest, context: Context
    ) -> pb.RetrySideEffectsResponse:
        limit = effects_mapping.retry_limit(request)
        requeued = await self._dead_letters.retry_parked(
            EFFECTS.all_from_wire(request.effects), limit=limit, call=current_call()
        )
        return effects_mapping.retry_response(requeued, limit=limit)

    async def DismissSideEffect(
        self, request: pb.DismissSideEffectRequest, context: Context
    ) -> pb.DismissSideEffectResponse:
        found = await self._dead_letters.dismiss(
            effects_mapping.side_effect_name(request), call=current_call(), reason=request.reason
        )
        return pb.DismissSideEffectResponse(side_effect=effects_mapping.side_effect_to_proto(found))

    async def GetPostmortem(
        self, request: pb.GetPostmortemRequest, context: Context
    ) -> pb.GetPostmortemResponse:
        postmortem = await self._side_effects.get_postmortem(request.incident_id, request.resolution_number)
        return pb.GetPostmortemResponse(postmortem=effects_mapping.postmortem_to_proto(postmortem))

    async def SearchKnowledge(
        self, request: pb.SearchKnowledgeRequest, context: Context
    ) -> pb.SearchKnowledgeResponse:
        page = await self._knowledge.search(
            request.query,
            types=RESOLUTION_TYPES.all_from_wire(request.resolution_types),
            after=knowledge_mapping.read_position(request, self._page_tokens),
            page_size=page_size(request.page_size),
        )
        return await with_items(
            pb.SearchKnowledgeResponse(
                next_page_token=knowledge_mapping.write_position(
                    request, page.next_position, self._page_tokens
                )
            ),
            "matches",
            page.matches,
            knowledge_mapping.match_to_proto,
        )


class StatsServicer(flywheel_stats_service_pb2_grpc.FlywheelStatsServiceServicer):
    """awoooi.flywheel.v1.FlywheelStatsService: the server, and the incident sections."""

    def __init__(
        self,
        stats: StatsUseCase[IncidentStats],
        *,
        refused: Mapping[str, int],
        unusable: Collection[str],
        build: Build,
    ) -> None:
        self._stats = stats
        self._refused = refused
        self._unusable = unusable
        self._build = build

    async def GetFlywheelStats(
        self, request: stats_pb.GetFlywheelStatsRequest, context: Context
    ) -> stats_pb.GetFlywheelStatsResponse:
        stats = await self._stats.read(
            with_details=request.view == stats_pb.GetFlywheelStatsRequest.VIEW_FULL
        )
        response = stats_mapping.stats_to_proto(stats)
        response.server.CopyFrom(
            stats_mapping.server_to_proto(
                self._refused, self._unusable, self._build, database_revision=stats.database_revision
            )
        )
        return response
