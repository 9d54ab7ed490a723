"""Approvals and the rules they follow. Knows no database and no wire."""

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum


class State(StrEnum):
    """Where an approval is on its way."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    EXECUTING = "EXECUTING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    INDETERMINATE = "INDETERMINATE"


class Transition(StrEnum):
    """What changes an approval's state."""

    APPROVE = "APPROVE"
    REJECT = "REJECT"
    CANCEL = "CANCEL"
    EXECUTE = "EXECUTE"


# The whole state machine: from which states a transition may start.
ALLOWED_FROM: Mapping[Transition, tuple[State, ...]] = {
    Transition.APPROVE: (State.PENDING,),
    Transition.REJECT: (State.PENDING,),
    Transition.CANCEL: (State.PENDING, State.APPROVED, State.INDETERMINATE),
    Transition.EXECUTE: (State.APPROVED,),
}

# What an execution ends in; asked to execute again, the stored outcome is the answer.
EXECUTED = (State.SUCCEEDED, State.FAILED)


class Risk(StrEnum):
    """How much harm an action may do."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class OperationKind(StrEnum):
    """What an operation does."""

    NO_ACTION = "NO_ACTION"
    RESTART = "RESTART"
    SCALE = "SCALE"
    DELETE = "DELETE"
    ROLLBACK = "ROLLBACK"
    HTTP = "HTTP"


class DecisionKind(StrEnum):
    """Yes or no."""

    APPROVE = "APPROVE"
    REJECT = "REJECT"


class ResolutionType(StrEnum):
    """How the incident service is told that an incident was resolved."""

    NO_ACTION = "NO_ACTION"
    AUTO_REPAIRED = "AUTO_REPAIRED"


class ExecutionOutcome(StrEnum):
    """How an execution is counted. Observing is kept apart, so that it does not look like repairing."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    NOOP = "NOOP"
    INDETERMINATE = "INDETERMINATE"


class TimelineEvent(StrEnum):
    """What the incident's timeline is told of an approval."""

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    EXECUTED = "EXECUTED"
    EXECUTION_FAILED = "EXECUTION_FAILED"


class Order(StrEnum):
    """The order of a list of approvals; equal times are ordered by approval id."""

    CREATE_TIME_DESC = "CREATE_TIME_DESC"
    CREATE_TIME_ASC = "CREATE_TIME_ASC"
    UPDATE_TIME_DESC = "UPDATE_TIME_DESC"


@dataclass(frozen=True, slots=True)
class Operation:
    """What an action was parsed as."""

    kind: OperationKind
    resource_kind: str = ""
    name: str = ""
    namespace: str = ""
    replicas: int | None = None
    hook: str = ""

    @property
    def target(self) -> str:
        """What the operation works on, for limits: the same for every kind of operation on the same object."""
        return f"hook/{self.hook}" if self.hook else f"{self.namespace}/{self.resource_kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What one actor said about an approval."""

    actor: str
    kind: DecisionKind
    reason: str
    decide_time: datetime
    policy_rule: str


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval as stored. Times are UTC; `version` grows with every change."""

    approval_id: str
    incident_id: str
    action: str
    operation: Operation | None
    parse_error: str
    action_hash: str
    risk: Risk
    rationale: str
    confidence: float | None
    required_approvals: int
    auto_execute: bool
    state: State
    proposed_by: str
    incident_verified: bool
    create_time: datetime
    update_time: datetime
    expire_time: datetime
    decide_time: datetime | None
    execute_time: datetime | None
    finish_time: datetime | None
    outcome_message: str
    # Who withdrew it; empty unless CANCELLED.
    cancelled_by: str
    incident_resolve_time: datetime | None
    version: int
    decisions: Sequence[Decision]
    # Whether `expire_time` has passed, by the database's clock at the time of reading.
    is_past_expiry: bool

    @property
    def etag(self) -> str:
        """What a caller sends back to act only on what it has read."""
        return str(self.version)

    @property
    def effective_state(self) -> State:
        """The state that counts: one that waits past its expiry is EXPIRED, marked as such yet or not."""
        if self.is_past_expiry and self.state in (State.PENDING, State.APPROVED):
            return State.EXPIRED
        return self.state


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a caller says when it proposes an action."""

    incident_id: str
    action: str
    risk: Risk
    rationale: str
    confidence: float | None
    ttl: timedelta
    required_approvals: int
    auto_execute: bool
    request_id: str = ""

    def content_hash(self) -> str:
        """A digest of the content, without the request id: equal for a retry of the same call."""
        content = [
            self.incident_id,
            self.action,
            self.risk,
            self.rationale,
            self.confidence,
            self.ttl.total_seconds(),
            self.required_approvals,
            self.auto_execute,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an execution comes to, and how the incident is resolved by it; None leaves the incident open."""

    state: State
    message: str
    counted_as: ExecutionOutcome
    resolution_type: ResolutionType | None


@dataclass(frozen=True, slots=True)
class ResolveIntent:
    """The intent to tell the incident service that an approval's execution resolved its incident."""

    approval_id: str
    incident_id: str
    resolution_type: ResolutionType
    action: str


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """An event for an incident's timeline; delivered twice, it is one."""

    event_id: str
    incident_id: str
    event: TimelineEvent
    summary: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Execute:
    """A wish to execute an approval; with an `etag` only as it was read.

    With `resume_indeterminate` an INDETERMINATE one is run again: the caller answers for that.
    """

    approval_id: str
    etag: str = ""
    resume_indeterminate: bool = False

    @property
    def allowed(self) -> Sequence[State]:
        """The states it may start from."""
        resumed = (State.INDETERMINATE,) if self.resume_indeterminate else ()
        return (*ALLOWED_FROM[Transition.EXECUTE], *resumed)


@dataclass(frozen=True, slots=True)
class Execution:
    """What an Execute found: the approval with its outcome, and whether it had been executed before."""

    approval: Approval
    already_executed: bool


@dataclass(frozen=True, slots=True)
class LoggedExecution:
    """One row of the log of repairs: an operation that was run."""

    execution_id: int
    approval_id: str
    incident_id: str
    operation: Operation
    succeeded: bool
    output: str
    error: str
    executor: str
    start_time: datetime
    finish_time: datetime


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """What the log of repairs is narrowed to; what is empty or None does not narrow."""

    approval_id: str = ""
    incident_id: str = ""
    succeeded: bool | None = None
    start_time_start: datetime | None = None
    start_time_end: datetime | None = None


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """One condition of an execution and whether it holds."""

    name: str
    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    """What a list of approvals is narrowed to; what is empty or None does not narrow."""

    states: tuple[State, ...] = ()
    incident_id: str = ""
    risks: tuple[Risk, ...] = ()
    operation_kinds: tuple[OperationKind, ...] = ()
    create_time_start: datetime | None = None
    create_time_end: datetime | None = None
    order: Order = Order.CREATE_TIME_DESC


class DeliveryState(StrEnum):
    """How far a delivery to the incident service is."""

    PENDING = "PENDING"
    DONE = "DONE"
    PARKED = "PARKED"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The intent to tell the incident service that an incident is resolved."""

    delivery_id: int
    approval_id: str
    incident_id: str
    state: DeliveryState
    attempts: int
    last_error: str
    create_time: datetime
    next_attempt_time: datetime
    done_time: datetime | None


class IncidentCheck(StrEnum):
    """What the incident service says about an incident that an action is proposed for."""

    UNRESOLVED = "UNRESOLVED"
    RESOLVED = "RESOLVED"
    UNKNOWN = "UNKNOWN"
    UNREACHABLE = "UNREACHABLE"


class Severity(StrEnum):
    """How bad an incident is."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"
    INFO = "INFO"


@dataclass(frozen=True, slots=True)
class FoundIncident:
    """What the incident service says about an incident; no severity where it cannot be told."""

    check: IncidentCheck
    severity: Severity | None = None


def outcome_without_executor(approval: Approval) -> Outcome | None:
    """Return what executing comes to when nothing has to be run; None when an executor has to run the operation.

    A NO_ACTION always succeeds: only observing cannot fail. An action that could not be parsed always fails.
    """
    if approval.operation is None:
        return Outcome(
            State.FAILED, f"cannot parse action: {approval.parse_error}", ExecutionOutcome.FAILED, None
        )
    if approval.operation.kind is OperationKind.NO_ACTION:
        return Outcome(State.SUCCEEDED, "observed only", ExecutionOutcome.NOOP, ResolutionType.NO_ACTION)
    return None


def can_be_executed(operation: Operation | None, executable: Collection[OperationKind]) -> bool:
    """Tell whether this process can execute the operation; failing for want of one (None) needs no executor."""
    return operation is None or operation.kind is OperationKind.NO_ACTION or operation.kind in executable


def action_hash(action: str, operation: Operation | None) -> str:
    """Return the digest of an action and what it was parsed as: what approvers agree to."""
    target = None
    if operation is not None:
        target = [
            operation.kind,
            operation.resource_kind,
            operation.name,
            operation.namespace,
            operation.replicas,
            operation.hook,
        ]
    return hashlib.sha256(json.dumps([action, target]).encode()).hexdigest()


# Digits of an id: six are what operators know; a collision widens.
_FEWEST_DIGITS = 6
_MOST_DIGITS = 12


def new_approval_id(*, attempt: int, now: datetime | None = None) -> str:
    """Return a random id such as APR-20260507-99ADF2, two digits wider with each `attempt` (from 0), up to twelve."""
    digits = min(_FEWEST_DIGITS + 2 * attempt, _MOST_DIGITS)
    day = (now or datetime.now(UTC)).strftime("%Y%m%d")
    return f"APR-{day}-{secrets.token_hex(digits // 2).upper()}"
