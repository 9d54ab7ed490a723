"""Approvals and the rules they follow. Knows no database and no wire."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

# Of approval ids, such as APR-20260507-99ADF2.
ID_PREFIX = "APR"
# The name under which this service acts.
OWN_ACTOR = "service:approval"


class State(StrEnum):
    """The state of an approval."""

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
    """A decision of one actor."""

    APPROVE = "APPROVE"
    REJECT = "REJECT"


class ExecutionOutcome(StrEnum):
    """How an execution is counted. NOOP keeps observations apart from repairs."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    NOOP = "NOOP"
    INDETERMINATE = "INDETERMINATE"


class Recovery(StrEnum):
    """Whether an operation that worked has helped: the incident's alert is gone after it."""

    # The verifier looks for the alert.
    PENDING = "PENDING"
    VERIFIED = "VERIFIED"
    # It was not gone within the window, or that could not be verified.
    NOT_RECOVERED = "NOT_RECOVERED"
    # There is no verifier.
    UNVERIFIED = "UNVERIFIED"


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
    """The decision of one actor about an approval."""

    actor: str
    kind: DecisionKind
    reason: str
    decide_time: datetime
    policy_rule: str


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    # The opening of the incident that it was proposed for; 0 when that is not known.
    incident_opening: int
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
    # Since when the incident service does not know the incident; None as far as is known it does.
    incident_unknown_time: datetime | None
    # Who accepted it as lost; empty: not accepted.
    incident_unknown_accepted_by: str
    # The approval that it replaces, and the one that replaces it; empty when there is none.
    supersedes: str
    superseded_by: str
    # Who proposed those that it replaces, directly or through others.
    superseded_proposers: Sequence[str]
    # None when there is nothing to verify.
    recovery: Recovery | None
    # When that last changed.
    recovery_time: datetime | None
    # The end of the verifier's window; None where nothing was verified.
    recovery_deadline: datetime | None
    recovery_message: str
    version: int
    decisions: Sequence[Decision]
    # Whether `expire_time` has passed, by the database's clock at the time of reading.
    is_past_expiry: bool
    # Of a canary incident: in no figure, no message to people, removed once it has ended.
    canary: bool = False

    @property
    def etag(self) -> str:
        """The entity tag for optimistic concurrency: a caller that sends it acts only on the version that it read.

        With its time: an approval whose database was set back to a backup may come to the same version again.
        """
        return f"{self.version}-{(self.update_time - _EPOCH) // timedelta(microseconds=1):x}"

    @property
    def effective_state(self) -> State:
        """The state that counts: a PENDING or APPROVED one past its expiry is EXPIRED, stored as such yet or not."""
        if self.is_past_expiry and self.state in (State.PENDING, State.APPROVED):
            return State.EXPIRED
        return self.state

    @property
    def proposers(self) -> Sequence[str]:
        """Who has a part in the proposal, and so none in the decision: its proposer and those of what it supersedes."""
        return (self.proposed_by, *self.superseded_proposers)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed action."""

    incident_id: str
    action: str
    risk: Risk
    rationale: str
    confidence: float | None
    ttl: timedelta
    required_approvals: int
    auto_execute: bool
    request_id: str = ""
    # The approval that it replaces; empty when there is none.
    supersedes: str = ""

    def content_hash(self) -> str:
        """A digest of the content, without the request id: equal for a retry of the same call."""
        content: list[object] = [
            self.incident_id,
            self.action,
            self.risk,
            self.rationale,
            self.confidence,
            self.ttl.total_seconds(),
            self.required_approvals,
            self.auto_execute,
        ]
        # Otherwise as versions before it made it, for retries across a deployment.
        if self.supersedes:
            content.append(self.supersedes)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    """The criteria and order of a list of approvals; a criterion that is empty or None is not applied."""

    states: tuple[State, ...] = ()
    incident_id: str = ""
    risks: tuple[Risk, ...] = ()
    operation_kinds: tuple[OperationKind, ...] = ()
    create_time_start: datetime | None = None
    create_time_end: datetime | None = None
    # Only those whose incident is unknown and was not accepted as lost.
    incident_unknown: bool = False
    recoveries: tuple[Recovery, ...] = ()
    order: Order = Order.CREATE_TIME_DESC


class NotificationEvent(StrEnum):
    """What people are notified of."""

    # Waits for a decision; and once more when it has waited long.
    PENDING = "PENDING"
    REMINDER = "REMINDER"
    APPROVED = "APPROVED"
    # By a rule, at its proposal.
    AUTO_APPROVED = "AUTO_APPROVED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    SUPERSEDED = "SUPERSEDED"
    EXPIRED = "EXPIRED"
    # The operation worked, and the alert of its incident was not gone after it.
    NOT_RECOVERED = "NOT_RECOVERED"


class Severity(StrEnum):
    """How bad an incident is."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"
    INFO = "INFO"


def can_be_executed(operation: Operation | None, executable: Collection[OperationKind]) -> bool:
    """Return whether this process can execute the operation; None, an unparsable action, needs no executor."""
    return operation is None or operation.kind is OperationKind.NO_ACTION or operation.kind in executable
