"""Refuses calls for which the caller has no role: by one table, and what is not in it is refused to everybody."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from servicekit.rpc.access_log import AccessLog
from servicekit.rpc.context import Context
from servicekit.rpc.identity import current_identity
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.role_table import RoleTable
from servicekit.rpc.status_details import RpcError, RpcStatus


class AuthorizationLayer:
    """Checks each call against the role table of the service."""

    def __init__(self, table: RoleTable, log: AccessLog) -> None:
        self._table = table
        self._log = log

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Check the caller's roles first."""
        check = self._check(method)

        async def behavior(request: Any, context: Context) -> Any:
            check()
            return await inner(request, context)

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Check the caller's roles first."""
        check = self._check(method)

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            check()
            async for response in inner(request, context):
                yield response

        return behavior

    def _check(self, method: str) -> Callable[[], None]:
        needed = self._table.get(method, frozenset())
        refusal = role_missing(needed)

        def check() -> None:
            identity = current_identity()
            if needed.isdisjoint(identity.roles):
                self._log.denied("role_missing", method, identity)
                raise RpcError(refusal)

        return check


def role_missing(needed: frozenset[str]) -> RpcStatus:
    """Return the status of a call for which the caller has none of the roles needed."""
    names = ", ".join(sorted(needed))
    if not needed:
        return RpcStatus(grpc.StatusCode.PERMISSION_DENIED, "this call is open to no role", "ROLE_MISSING")
    return RpcStatus(
        grpc.StatusCode.PERMISSION_DENIED,
        f"this call needs one of the roles: {names}",
        "ROLE_MISSING",
        metadata={"roles": names},
    )
