"""The http executor: one signed POST to a hook that an operator configured. Nothing else can be called."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import httpx2

from approval.actions.grammar import format_operation
from approval.executors.http_hooks_file import Hook, read_hooks
from approval.executors.protocol import OperationFailedError, PlanCheck, RunContext
from approval.model import Operation, OperationKind

_HOOKS_FILE = "APPROVAL_HTTP_HOOKS_FILE"
_VERSION = 1
# The run ends this much before it would be cut off, so that it can say what became of it.
_MARGIN = timedelta(seconds=1)


class HttpExecutor:
    """Posts to configured hooks. Holds no connections: operations are seconds to hours apart."""

    def __init__(self, hooks: Mapping[str, Hook], *, clock: Callable[[], float] = time.time) -> None:
        self._hooks = hooks
        self._clock = clock
        # Reading the trusted roots takes longer than a request; done once.
        self._tls = httpx2.create_ssl_context()

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
            hook.read_secret()
        except ValueError as exc:
            return [configured, PlanCheck("secret_readable", passed=False, message=str(exc))]
        return [configured, PlanCheck("secret_readable", passed=True, message="requests can be signed")]

    async def run(self, operation: Operation, context: RunContext) -> str:
        """POST once and return what status answered. Raises OperationFailedError for every status but 2xx.

        Nothing is repeated: where no answer came, the error says that it may have happened.
        """
        hook = self._hooks.get(operation.hook)
        if hook is None:
            raise OperationFailedError(_unknown(operation.hook))
        try:
            secret = hook.read_secret()
        except ValueError as exc:
            raise OperationFailedError(f"nothing was sent to the hook {operation.hook}: {exc}") from None
        body = payload(operation, context)
        now = int(self._clock())
        headers = {
            **hook.headers,
            "User-Agent": "awoooi-approval",
            "Content-Type": "application/json",
            "X-Awoooi-Signature": f"t={now},v1={sign(secret, now, body)}",
            "Idempotency-Key": context.approval_id,
        }
        seconds = min(hook.timeout, max(context.timeout - _MARGIN, context.timeout / 2)).total_seconds()
        status = await self._post(operation.hook, hook.url, body, headers, seconds)
        if httpx2.codes.is_success(status):
            return f"the hook {operation.hook} answered {status}"
        hint = "; redirects are not followed" if httpx2.codes.is_redirect(status) else ""
        raise OperationFailedError(f"the hook {operation.hook} answered {status}{hint}")

    async def _post(
        self, name: str, url: str, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> int:
        client = httpx2.AsyncClient(verify=self._tls, timeout=seconds, follow_redirects=False)
        try:
            async with (
                asyncio.timeout(seconds),
                client,
                client.stream("POST", url, content=body, headers=headers) as response,
            ):
                # The status is the answer; of the body, however long, nothing is read.
                return response.status_code
        except httpx2.ConnectError as exc:
            # Refused, unknown host, bad certificate: its text says which and quotes no URL.
            raise OperationFailedError(
                f"nothing was sent to the hook {name}: cannot connect: {exc}"
            ) from None
        except (TimeoutError, httpx2.TimeoutException):
            raise OperationFailedError(
                f"the hook {name} did not answer within {seconds:g} s: it may have happened"
            ) from None
        except httpx2.HTTPError as exc:
            # The texts of these may quote the URL or what the peer sent.
            raise OperationFailedError(
                f"the connection to the hook {name} failed, {type(exc).__name__}: it may have happened"
            ) from None

    async def close(self) -> None:
        """There is nothing to let go of."""


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


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """Return the hexadecimal HMAC-SHA256 over `<timestamp>.<body>`."""
    return hmac.new(secret, b"%d.%b" % (timestamp, body), hashlib.sha256).hexdigest()


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
