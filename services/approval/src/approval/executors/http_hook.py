"""The http executor: one signed POST to a hook that an operator configured. Nothing else can be called."""

import json
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from approval.actions.grammar import format_operation
from approval.executors.http_hooks_file import Hook, read_hooks
from approval.executors.protocol import OperationFailedError, PlanCheck, RunContext
from approval.model import Operation, OperationKind
from servicekit.webhooks.errors import ConnectFailedError, ConnectionFailedError, ResponseTimeoutError
from servicekit.webhooks.response import Response, Verdict
from servicekit.webhooks.sender import WebhookSender, load_trusted_roots
from servicekit.webhooks.signature import Secret

_HOOKS_FILE = "APPROVAL_HTTP_HOOKS_FILE"
_VERSION = 1
# The run ends this much before it would be cut off, so that its outcome can be reported.
_MARGIN = timedelta(seconds=1)


class HttpExecutor:
    """Posts to configured hooks. Keeps no idle connections: operations are seconds to hours apart."""

    def __init__(self, hooks: Mapping[str, Hook], *, clock: Callable[[], float] = time.time) -> None:
        """Raises ValueError, naming the hook, for a URL that cannot be used."""
        self._hooks = hooks
        # Loading the trusted roots takes longer than a request: once for all hooks.
        tls = load_trusted_roots()
        self._senders = {name: _sender(name, hook, tls, clock) for name, hook in hooks.items()}

    @property
    def kinds(self) -> Collection[OperationKind]:
        """HTTP only."""
        return [OperationKind.HTTP]

    async def plan(self, operation: Operation) -> Sequence[PlanCheck]:
        """Whether the hook is configured and its secret can be read; the hook itself is not called."""
        hook = self._hooks.get(operation.hook)
        if hook is None:
            return [PlanCheck("hook_configured", passed=False, message=_unknown(operation.hook))]
        seconds = hook.timeout.total_seconds()
        configured = PlanCheck(
            "hook_configured",
            passed=True,
            message=f"the hook {operation.hook} has {seconds:g} s to answer",
        )
        try:
            hook.read_secrets()
        except ValueError as exc:
            return [configured, PlanCheck("secret_readable", passed=False, message=str(exc))]
        return [configured, PlanCheck("secret_readable", passed=True, message="requests can be signed")]

    async def run(self, operation: Operation, context: RunContext) -> str:
        """POST once and return the status of the response. Raises OperationFailedError for every status but 2xx.

        Nothing is retried: without a response, the error says that it may have happened.
        """
        hook = self._hooks.get(operation.hook)
        if hook is None:
            raise OperationFailedError(_unknown(operation.hook))
        try:
            secrets = hook.read_secrets()
        except ValueError as exc:
            raise OperationFailedError(f"nothing was sent to the hook {operation.hook}: {exc}") from None
        response = await self._post(operation, context, hook, secrets)
        if response.verdict is not Verdict.ACCEPTED:
            raise OperationFailedError(f"the hook {operation.hook} {response}")
        return f"the hook {operation.hook} {response}"

    async def _post(
        self, operation: Operation, context: RunContext, hook: Hook, secrets: Sequence[Secret]
    ) -> Response:
        name = operation.hook
        try:
            return await self._senders[name].post(
                payload(operation, context),
                message_id=context.approval_id,
                secrets=secrets,
                within=min(hook.timeout, max(context.timeout - _MARGIN, context.timeout / 2)),
                headers=hook.headers,
            )
        except ConnectFailedError as exc:
            raise OperationFailedError(f"nothing was sent to the hook {name}: {exc}") from None
        except ResponseTimeoutError as exc:
            seconds = exc.timeout.total_seconds()
            raise OperationFailedError(
                f"the hook {name} did not answer within {seconds:g} s: it may have happened"
            ) from None
        except ConnectionFailedError as exc:
            raise OperationFailedError(
                f"the connection to the hook {name} failed, {exc.reason}: it may have happened"
            ) from None

    async def close(self) -> None:
        """Close the connections of runs that were cut off."""
        for sender in self._senders.values():
            await sender.close()


def payload(operation: Operation, context: RunContext) -> bytes:
    """Return the body, JSON in UTF-8."""
    content = {
        "version": _VERSION,
        "type": "approval.execute",
        "approval_id": context.approval_id,
        "incident_id": context.incident_id,
        "action": format_operation(operation),
        "hook": operation.hook,
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _sender(name: str, hook: Hook, tls: ssl.SSLContext, clock: Callable[[], float]) -> WebhookSender:
    try:
        return WebhookSender(
            hook.url, user_agent="awoooi-approval", reuse_connections=False, tls=tls, clock=clock
        )
    except ValueError as exc:
        raise ValueError(f"hooks.{name}.url: {exc}") from None


def _unknown(name: str) -> str:
    return f"no hook {name} is configured"


def make_executor(environment: Mapping[str, str]) -> HttpExecutor:
    """Return the executor for the hooks in the file that APPROVAL_HTTP_HOOKS_FILE names."""
    path = environment.get(_HOOKS_FILE, "")
    if not path:
        raise ValueError(f"{_HOOKS_FILE}: required by the executor http")
    try:
        return HttpExecutor(read_hooks(Path(path)))
    except ValueError as exc:
        raise ValueError(f"{_HOOKS_FILE}: {exc}") from None
