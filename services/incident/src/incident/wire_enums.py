"""The enums of more than one concept, between the contract and the model."""

from awoooi.incident.v1 import incident_pb2
from incident.model import Effect, ResolutionType, Severity, State
from servicekit.rpc.mapping import WireEnum

STATES = WireEnum(State, "STATE", incident_pb2.Incident.State.Value)
SEVERITIES = WireEnum(Severity, "SEVERITY", incident_pb2.Severity.Value)
RESOLUTION_TYPES = WireEnum(ResolutionType, "RESOLUTION_TYPE", incident_pb2.ResolutionType.Value)
EFFECTS = WireEnum(Effect, "EFFECT", incident_pb2.SideEffect.Effect.Value)
