"""Records the calls of mutating methods. What a call changes is recorded by the transaction that changes it."""

import asyncio
import re
from typing import Any, Final

import grpc.aio

from servicekit.audit.model import Call, Entry, Outcome, digest_of
from servicekit.rpc.audited import AuditedMethods, begin_call, identify, pending_call
from servicekit.rpc.context import Context
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.status_codes import ErrorTable

# What a refused request has as an id is its caller's text. Of a request about more, its digest says what it was.
_ID: Final = re.compile(r"[!-~]{1,128}")
_MAX_TARGETS: Final = 16
# The call may have changed something before it ended.
_WITHOUT_ANSWER: Final = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNKNOWN"})


class AuditLayer:
    """Begins the call, and adds it to what is to be written when it ended without a change. Next to the errors: it sees every refusal."""

    def __init__(self, methods: AuditedMethods, errors: ErrorTable) -> None:
        self._methods = methods
        self._unchanged = methods.unchanged
        self._errors = errors

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Record the call."""
        operation = method.removeprefix("/")
        if operation in self._methods.reading:
            return inner

        async def behavior(request: Any, context: Context) -> Any:
            call = begin_call(operation)
            try:
                response = await inner(request, context)
            except Exception as exc:
                self._add_failed(call, context, exc)
                raise
            except asyncio.CancelledError:
                remaining: float | None = context.time_remaining()
                is_late = remaining is not None and remaining <= 0
                self._add(call, "DEADLINE_EXCEEDED" if is_late else "CANCELLED", "")
                raise
            if not call.recorded:
                self._add(call, "OK", "")
            return response

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Leave the stream as it is: no stream changes anything."""
        if method.removeprefix("/") not in self._methods.reading:
            raise ValueError(f"{method} is a stream that is not known to read only")
        return inner

    def _add_failed(self, call: Call, context: Context, exc: Exception) -> None:
        if isinstance(exc, grpc.aio.AbortError):
            # None when none was set, although the stubs exclude it.
            code: object = context.code()
            self._add(call, code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN", "")
            return
        status = self._errors.known_status(exc)
        if status is None:
            self._add(call, "INTERNAL", "INTERNAL")
        else:
            self._add(call, status.code.name, status.reason)

    def _add(self, call: Call, code: str, reason: str) -> None:
        identify(call)
        if code == "OK":
            outcome = Outcome.UNCHANGED
        else:
            outcome = Outcome.FAILED if code in _WITHOUT_ANSWER else Outcome.REFUSED
        self._unchanged.add(
            Entry(call.actor, call.method, call.operation, call.targets, outcome, code, reason, call.digest)
        )


class AuditedRequestLayer:
    """Adds to the call what it requests. First of those that see the request: it is as the caller has sent it."""

    def __init__(self, methods: AuditedMethods) -> None:
        self._methods = methods

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Note the request's digest and ids."""
        operation = method.removeprefix("/")
        if operation in self._methods.reading:
            return inner
        targets_of = self._methods.targets[operation]

        async def behavior(request: Any, context: Context) -> Any:
            call = pending_call()
            call.digest = digest_of(request.SerializeToString(deterministic=True))
            targets = targets_of(request)
            if len(targets) <= _MAX_TARGETS:
                call.targets = tuple(filter(_ID.fullmatch, targets))
            return await inner(request, context)

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Leave the stream as it is."""
        return inner
