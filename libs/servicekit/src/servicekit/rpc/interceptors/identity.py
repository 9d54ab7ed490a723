"""Sets the identity of each RPC's caller, before its request is read."""

from collections.abc import AsyncIterator
from typing import Any

from servicekit.rpc.caller import Callers
from servicekit.rpc.context import Context
from servicekit.rpc.identity import set_identity
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior


class IdentityLayer:
    """Refuses a call whose caller is not known."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Set the identity for the call."""
        identify = self._callers.identify

        async def behavior(request: Any, context: Context) -> Any:
            set_identity(await identify(context, method))
            return await inner(request, context)

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Set the identity for the stream."""
        identify = self._callers.identify

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            set_identity(await identify(context, method))
            async for response in inner(request, context):
                yield response

        return behavior
