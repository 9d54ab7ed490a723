"""A failed call as a person reads it: what failed, at which field, and what to do."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from awoooi.client import (
    AbortedError,
    AlreadyExistsError,
    CallError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from flywheel.errors import FlywheelError
from flywheel.operator.contexts.model import LOCAL, Context
from flywheel.operator.exits import ExitStatus
from flywheel.operator.output.cells import line

# What a flag is called in the command, by its name in the contract.
FlagOf = Callable[[str], str]

_STATUSES: Final[Mapping[type[CallError], ExitStatus]] = {
    InvalidArgumentError: ExitStatus.USAGE,
    UnavailableError: ExitStatus.UNAVAILABLE,
    DeadlineExceededError: ExitStatus.UNAVAILABLE,
    ResourceExhaustedError: ExitStatus.UNAVAILABLE,
    UnauthenticatedError: ExitStatus.DENIED,
    PermissionDeniedError: ExitStatus.DENIED,
    NotFoundError: ExitStatus.NOT_FOUND,
    FailedPreconditionError: ExitStatus.CONFLICT,
    AbortedError: ExitStatus.CONFLICT,
    AlreadyExistsError: ExitStatus.CONFLICT,
}


class FailedCallError(FlywheelError):
    """A call failed."""

    def __init__(
        self, error: CallError, context: Context, flag_of: FlagOf, *, subject: str = "", service: str = ""
    ) -> None:
        """`subject` is the id that the call was about, `service` the one that was called, where its name does not say."""
        fields = _fields(error, flag_of)
        super().__init__(
            "; ".join(f"{flag}: {problem}" for flag, problem in fields)
            or _message(error, _service_of(error, context, service), subject),
            advice=_advice(error, context),
            exit_status=_STATUSES.get(type(error), ExitStatus.FAILED),
        )
        self.code = error.code.name
        self.reason = error.reason
        self.metadata = dict(error.metadata)
        self.fields = fields


def _service_of(error: CallError, context: Context, service: str) -> str:
    is_approval = service == "approval" or error.method.startswith("awoooi.approval.")
    return (
        f"the approval service at {context.approval}"
        if is_approval
        else f"the incident service at {context.incident}"
    )


def _message(error: CallError, service: str, subject: str) -> str:
    match error:
        case UnavailableError() if not error.reason:
            return f"{service} cannot be reached: {line(error.message)}"
        case DeadlineExceededError():
            return f"{service} did not answer in time: {line(error.message)}"
        case UnauthenticatedError():
            return f"{service} does not know who is calling: {line(error.message)}"
        case _:
            about = subject or (error.resource.name if error.resource else "")
            text = line(error.message) or error.code.name
            return text if about in text else f"{about}: {text}"


def error_object(error: FlywheelError) -> dict[str, Any]:
    """Return an error as a program reads it. What is no call's has neither a code nor a reason."""
    call = error if isinstance(error, FailedCallError) else None
    return {
        "error": {
            "code": call.code if call else "",
            "reason": call.reason if call else "",
            "message": error.message,
            "fields": [
                {"field": flag, "problem": problem} for flag, problem in (call.fields if call else ())
            ],
            "metadata": call.metadata if call else {},
            "advice": error.advice,
            "exit_status": int(error.exit_status),
        }
    }


def _fields(error: CallError, flag_of: FlagOf) -> Sequence[tuple[str, str]]:
    if not isinstance(error, InvalidArgumentError):
        return ()
    return [(flag_of(each.field), line(each.description)) for each in error.field_violations]


def _advice(error: CallError, context: Context) -> str:
    if isinstance(error, UnavailableError) and not error.reason:
        if context.name == LOCAL:
            return "start it with flywheel up, or name a deployment: flywheel context add NAME, then --context NAME"
        return f"flywheel context show {context.name} has the addresses; --context names another deployment"
    if isinstance(error, UnauthenticatedError) and not context.is_authenticated:
        return f"the context {context.name} has no credentials: flywheel context add, with --token-file"
    if error.reason == "OWN_PROPOSAL" and not context.is_authenticated:
        return f"{_BY_REASON[error.reason]}. Without a token, --actor NAME says who decides"
    return _BY_REASON.get(error.reason) or _BY_CLASS.get(type(error), "")


_BY_REASON: Final = {
    "INCIDENT_NOT_FOUND": "flywheel incident list shows what there is",
    "APPROVAL_NOT_FOUND": "flywheel approval list shows what there is",
    "DELIVERY_NOT_FOUND": "flywheel delivery list shows what there is",
    "SIDE_EFFECT_NOT_FOUND": "flywheel effect list shows what there is",
    "POSTMORTEM_NOT_WRITTEN": "flywheel effect list --incident INCIDENT --effect postmortem shows how far it is",
    "EXECUTOR_MISSING": "none is configured by default: set APPROVAL_EXECUTORS of the approval service (docs/executors.md)",
    "OWN_PROPOSAL": "somebody else has to decide; its proposer may cancel it",
    "NOT_PROPOSER": "its proposer or an operator may cancel it",
    "ROLE_MISSING": "use a token that has the role: flywheel token create NAME --role ROLE",
    "FINGERPRINT_TAKEN": "resolve the other incident first: flywheel incident list --fingerprint FINGERPRINT",
    "RESUME_TOKEN_AHEAD": "the database was restored: watch without --resume, with --existing",
    "RESUME_TOKEN_OF_OTHER_DATABASE": "the database was restored or moved: watch without --resume, with --existing",
    "WATCHER_TOO_SLOW": "watch again with --resume and the latest resume_token",
}
_BY_CLASS: Final[Mapping[type[CallError], str]] = {
    UnavailableError: "try again in a moment",
    ResourceExhaustedError: "try again in a moment",
    DeadlineExceededError: "it may have taken effect: look before you repeat it; --timeout allows more time",
    UnauthenticatedError: "flywheel token list shows whether the token is revoked or expired, token create makes one",
    AbortedError: "it was changed meanwhile: look at it again, and decide again",
    UnimplementedError: "the service is older than this command",
}
