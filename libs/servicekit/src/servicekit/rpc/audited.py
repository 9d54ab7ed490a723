"""The call that is being served, for the audit record of what it changes."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from servicekit.audit.model import Call
from servicekit.audit.unchanged import UnchangedCalls
from servicekit.rpc.identity import established_identity

_call: ContextVar[Call] = ContextVar("call")


@dataclass(frozen=True, slots=True)
class AuditedMethods:
    """The methods of a server that leave audit records: all but those that only read."""

    # `package.Service/Method`.
    reading: frozenset[str]
    # Of each other method, the ids of what a request is about. They are recorded when the call changed nothing.
    targets: Mapping[str, Callable[[Any], Sequence[str]]]
    # Takes the calls that changed nothing.
    unchanged: UnchangedCalls


def begin_call(operation: str) -> Call:
    """Begin the call of a method, in the task that serves it."""
    call = Call(operation, actor="", method="")
    _call.set(call)
    return call


def current_call() -> Call:
    """Return the call of the mutating method that this task serves, by its caller.

    For handlers alone, which hand it on: a task that a call has started inherits it, and may work for others.
    """
    call = pending_call()
    identify(call)
    return call


def pending_call() -> Call:
    """Return the call that this task serves, its caller not established yet."""
    return _call.get()


def identify(call: Call) -> None:
    """Set who calls, as far as it is established by now."""
    if (identity := established_identity()) is not None:
        call.actor, call.method = identity.name, identity.method
