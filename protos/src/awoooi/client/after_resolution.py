"""The RPCs of the incident service on what follows a resolution: side effects, postmortems, knowledge."""

from collections.abc import Iterable
from typing import TypeAlias, Unpack

from awoooi.client.call import Call, Listing
from awoooi.client.methods import ListMethod, UnaryMethod
from awoooi.client.options import CallOptions
from awoooi.client.values import (
    Effect,
    ResolutionType,
    SideEffectState,
    enum_value,
    enum_values,
)
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["IncidentService"].full_name

Match: TypeAlias = pb.SearchKnowledgeResponse.Match


class AfterResolutionMethods:
    """The methods; the clients inherit them."""

    @ListMethod
    def list_side_effects(
        self,
        *,
        incident_id: str = "",
        states: Iterable[SideEffectState] = (),
        effects: Iterable[Effect] = (),
        page_size: int = 0,
        page_token: str = "",
        **options: Unpack[CallOptions],
    ) -> Listing[pb.ListSideEffectsResponse, incident_pb2.SideEffect]:
        """Return the side effects that match every given filter, newest first."""
        request = pb.ListSideEffectsRequest(
            incident_id=incident_id,
            states=enum_values(incident_pb2.SideEffect.State, "STATE_", states),
            effects=enum_values(incident_pb2.SideEffect.Effect, "EFFECT_", effects),
            page_size=page_size,
            page_token=page_token,
        )
        return Listing(
            f"{SERVICE}/ListSideEffects",
            request,
            pb.ListSideEffectsResponse.FromString,
            lambda page: page.side_effects,
            options,
        )

    @UnaryMethod
    def retry_side_effect(
        self,
        incident_id: str = "",
        *,
        effect: Effect = incident_pb2.SideEffect.EFFECT_UNSPECIFIED,
        resolution_number: int = 0,
        delivery_id: str = "",
        **options: Unpack[CallOptions],
    ) -> Call[incident_pb2.SideEffect]:
        """Re-queue a PARKED (dead-lettered) side effect, by its incident and effect or by its `delivery_id` alone.

        Idempotent while it is PENDING; a retry that comes after it took effect raises FailedPreconditionError.
        """
        request = pb.RetrySideEffectRequest(
            incident_id=incident_id,
            effect=enum_value(incident_pb2.SideEffect.Effect, "EFFECT_", effect),
            resolution_number=resolution_number,
            delivery_id=delivery_id,
        )
        return Call(
            f"{SERVICE}/RetrySideEffect",
            request,
            lambda response: pb.RetrySideEffectResponse.FromString(response).side_effect,
            options,
        )

    @UnaryMethod
    def retry_side_effects(
        self, *, effects: Iterable[Effect] = (), limit: int = 0, **options: Unpack[CallOptions]
    ) -> Call[pb.RetrySideEffectsResponse]:
        """Re-queue PARKED (dead-lettered) side effects of these kinds, or of every kind: at most `limit`, 100 by default.

        While the response says `has_more`, call again. Idempotent: what is PENDING is left alone. A retry does not return
        what the first attempt re-queued.
        """
        request = pb.RetrySideEffectsRequest(
            effects=enum_values(incident_pb2.SideEffect.Effect, "EFFECT_", effects), limit=limit
        )
        return Call(f"{SERVICE}/RetrySideEffects", request, pb.RetrySideEffectsResponse.FromString, options)

    @UnaryMethod
    def dismiss_side_effect(
        self,
        incident_id: str = "",
        *,
        effect: Effect = incident_pb2.SideEffect.EFFECT_UNSPECIFIED,
        reason: str,
        resolution_number: int = 0,
        delivery_id: str = "",
        **options: Unpack[CallOptions],
    ) -> Call[incident_pb2.SideEffect]:
        """Give a PARKED (dead-lettered) side effect up for good, on record with the caller and the reason.

        It is named by its incident and effect, or by its `delivery_id` alone.

        Idempotent: a DISMISSED one is returned as it is.
        """
        request = pb.DismissSideEffectRequest(
            incident_id=incident_id,
            effect=enum_value(incident_pb2.SideEffect.Effect, "EFFECT_", effect),
            resolution_number=resolution_number,
            delivery_id=delivery_id,
            reason=reason,
        )
        return Call(
            f"{SERVICE}/DismissSideEffect",
            request,
            lambda response: pb.DismissSideEffectResponse.FromString(response).side_effect,
            options,
        )

    @UnaryMethod
    def get_postmortem(
        self, incident_id: str, *, resolution_number: int = 0, **options: Unpack[CallOptions]
    ) -> Call[incident_pb2.Postmortem]:
        """Return the postmortem of one resolution, the latest by default."""
        request = pb.GetPostmortemRequest(incident_id=incident_id, resolution_number=resolution_number)
        return Call(
            f"{SERVICE}/GetPostmortem",
            request,
            lambda response: pb.GetPostmortemResponse.FromString(response).postmortem,
            options,
        )

    @ListMethod
    def search_knowledge(
        self,
        query: str,
        *,
        resolution_types: Iterable[ResolutionType] = (),
        page_size: int = 0,
        page_token: str = "",
        **options: Unpack[CallOptions],
    ) -> Listing[pb.SearchKnowledgeResponse, Match]:
        """Return what resolved similar incidents before, best match first."""
        request = pb.SearchKnowledgeRequest(
            query=query,
            resolution_types=enum_values(incident_pb2.ResolutionType, "RESOLUTION_TYPE_", resolution_types),
            page_size=page_size,
            page_token=page_token,
        )
        return Listing(
            f"{SERVICE}/SearchKnowledge",
            request,
            pb.SearchKnowledgeResponse.FromString,
            lambda page: page.matches,
            options,
        )
