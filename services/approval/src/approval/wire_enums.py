"""The contract's enums that several concepts map."""

from approval.model import OperationKind, Recovery, Risk, State
from awoooi.approval.v1 import approval_pb2
from servicekit.rpc.mapping import WireEnum

STATES = WireEnum(State, "STATE", approval_pb2.Approval.State.Value)
RISKS = WireEnum(Risk, "RISK", approval_pb2.Risk.Value)
RECOVERIES = WireEnum(Recovery, "RECOVERY", approval_pb2.Recovery.Value)
OPERATION_KINDS = WireEnum(OperationKind, "KIND", approval_pb2.Operation.Kind.Value)
