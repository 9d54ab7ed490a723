"""The lines of an import: an approval, its decisions, and the rules for its fields."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from approval.actions.parsed import parse
from approval.model import ID_PREFIX, DecisionKind, OperationKind, Risk, State
from servicekit.identity.canonical import folded
from servicekit.importing.fields import Actor, Line, LongText, TextForm, Time, identifier, out_of_order, text

_DEFAULT_TTL = timedelta(hours=24)
_MAX_TTL = timedelta(days=30)
_MAX_APPROVALS = 10
_MAX_DECISIONS = 100

# The states of an approval that was executed.
FINISHED = (State.SUCCEEDED, State.FAILED, State.INDETERMINATE)
_APPROVED = (State.APPROVED, *FINISHED)
# An import runs nothing: an operation that was running has to be imported with its outcome.
_RUNNING = "EXECUTING cannot be imported: how it ended, or INDETERMINATE, can"


class DecisionLine(Line):
    """A decision, in the line of its approval."""

    actor: Actor
    kind: DecisionKind
    reason: LongText | None = None
    # Default: the decide_time of the approval.
    decide_time: Time | None = None
    policy_rule: Annotated[str, text(TextForm.KEY, characters=63, empty=True)] | None = None


class ApprovalLine(Line):
    """An approval of the previous system."""

    kind: Literal["approval"]
    approval_id: Annotated[str, identifier(ID_PREFIX)]
    incident_id: Annotated[str, identifier("INC")]
    action: Annotated[str, text(TextForm.LINE, characters=1024, blank=False)]
    risk: Risk
    state: State
    rationale: LongText | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    required_approvals: Annotated[int, Field(ge=1, le=_MAX_APPROVALS)] | None = None
    auto_execute: bool | None = None
    proposed_by: Actor
    decisions: Annotated[list[DecisionLine], Field(max_length=_MAX_DECISIONS)] | None = None
    create_time: Time
    # Default: 24 hours after create_time.
    expire_time: Time | None = None
    decide_time: Time | None = None
    # Default: finish_time.
    execute_time: Time | None = None
    finish_time: Time | None = None
    outcome_message: LongText | None = None
    cancelled_by: Actor | None = None
    executor: Annotated[str, text(TextForm.KEY, characters=128, blank=False)] | None = None
    # When the incident service acknowledged the resolve; unset: it is unacknowledged.
    incident_resolve_time: Time | None = None

    @property
    def quorum(self) -> int:
        """How many distinct approvers had to agree."""
        return self.required_approvals or 1

    @property
    def expires(self) -> datetime:
        """When it expires unless it is executed before."""
        return self.expire_time or self.create_time + _DEFAULT_TTL

    def decisions_in_order(self) -> Sequence[DecisionLine]:
        """Return the decisions in the order in which they were made."""
        return sorted(self.decisions or (), key=self.time_of)

    def time_of(self, decision: DecisionLine) -> datetime:
        """Return when a decision was made."""
        return decision.decide_time or self.decide_time or self.create_time

    def contradictions(self, now: datetime) -> Iterator[tuple[str, str]]:
        """Yield each field that contradicts the others, and why."""
        if self.state is State.EXECUTING:
            yield "state", _RUNNING
            return
        yield from self._wrong_fields()
        yield from self._wrong_outcome()
        yield from self._wrong_decisions()
        yield from self._wrong_times(now)

    def _wrong_fields(self) -> Iterator[tuple[str, str]]:
        required = {
            "decide_time": self.state is not State.PENDING,
            "finish_time": self.state in FINISHED,
            "cancelled_by": self.state is State.CANCELLED,
        }
        for field, is_required in required.items():
            is_there = getattr(self, field) is not None
            if is_required and not is_there:
                yield field, f"is required when the state is {self.state}"
            if is_there and not is_required:
                yield field, f"does not go with the state {self.state}"
        allowed = {
            "execute_time": self.state in FINISHED,
            "executor": self.state in FINISHED,
            "incident_resolve_time": self.state is State.SUCCEEDED,
            "outcome_message": self.state not in (State.PENDING, State.APPROVED, State.EXPIRED),
        }
        for field, is_allowed in allowed.items():
            if getattr(self, field) and not is_allowed:
                yield field, f"does not go with the state {self.state}"
        if self.auto_execute and self.state is State.APPROVED:
            yield "auto_execute", "an import executes nothing: leave this out, and Execute it"

    def _wrong_outcome(self) -> Iterator[tuple[str, str]]:
        parsed = parse(self.action)
        operation = parsed.operation
        if operation is None:
            if self.state in (State.SUCCEEDED, State.INDETERMINATE):
                yield "action", f"cannot be parsed and so cannot be {self.state}: {parsed.error}"
        elif operation.kind is OperationKind.NO_ACTION:
            if self.state in (State.FAILED, State.INDETERMINATE):
                yield "state", f"a NO_ACTION is never {self.state}"
            if self.executor is not None:
                yield "executor", "nothing ran a NO_ACTION"

    def _wrong_decisions(self) -> Iterator[tuple[str, str]]:
        decisions = self.decisions or []
        actors: set[str] = set()
        for number, decision in enumerate(decisions):
            field = f"decisions[{number}]"
            # However a name is written, it is one person.
            actor = folded(decision.actor)
            if actor == folded(self.proposed_by):
                yield f"{field}.actor", "a proposer never decides about its own proposal"
            if actor in actors:
                yield f"{field}.actor", "has decided before"
            actors.add(actor)
            if decision.kind is DecisionKind.REJECT and self.state is not State.REJECTED:
                yield f"{field}.kind", f"REJECT does not go with the state {self.state}"
        agreed = sum(decision.kind is DecisionKind.APPROVE for decision in decisions)
        if self.state in _APPROVED and agreed < self.quorum:
            yield (
                "decisions",
                f"the state {self.state} needs {self.quorum} that APPROVE, and there are {agreed}",
            )
        if self.state in (State.PENDING, State.REJECTED) and agreed >= self.quorum:
            yield "decisions", f"with {self.quorum} that APPROVE the state is not {self.state}"
        if self.state is State.REJECTED and agreed == len(decisions):
            yield "decisions", "the state REJECTED needs one that REJECTs"

    def _wrong_times(self, now: datetime) -> Iterator[tuple[str, str]]:
        names = ("create_time", "decide_time", "execute_time", "finish_time", "incident_resolve_time")
        yield from out_of_order({name: getattr(self, name) for name in names}, now=now)
        if not timedelta(0) < self.expires - self.create_time <= _MAX_TTL:
            yield "expire_time", "must be after create_time, by 30 days at most"
        elif self.state is State.EXPIRED and self.expires > now:
            yield "expire_time", "lies in the future, so the state is not EXPIRED"
        for number, decision in enumerate(self.decisions or ()):
            if decision.decide_time is None:
                continue
            field = f"decisions[{number}].decide_time"
            if decision.decide_time > now:
                yield field, "lies in the future"
            if decision.decide_time < self.create_time:
                yield field, "is before create_time"
            if self.decide_time is not None and decision.decide_time > self.decide_time:
                yield field, "is after decide_time"
