"""Sets the actor of each RPC."""

import re
from collections.abc import AsyncIterator
from typing import Any

from servicekit.rpc.context import Context
from servicekit.rpc.identity import ANONYMOUS, set_actor
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.interceptors.validation import invalid_argument
from servicekit.rpc.status import FieldViolation

ACTOR_METADATA_KEY = "awoooi-actor"
_ACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,127}")


class MetadataIdentityLayer:
    """Takes the name that the caller claims in the metadata key `awoooi-actor`.

    Only for a server without authentication: a caller may claim any name.
    """

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Set the actor for the call."""

        async def behavior(request: Any, context: Context) -> Any:
            set_actor(_claimed_actor(context))
            return await inner(request, context)

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Set the actor for the stream."""

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            set_actor(_claimed_actor(context))
            async for response in inner(request, context):
                yield response

        return behavior


def _claimed_actor(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR_METADATA_KEY:
            if not isinstance(value, str) or _ACTOR.fullmatch(value) is None:
                raise invalid_argument(
                    FieldViolation(
                        f"metadata {ACTOR_METADATA_KEY}", "must be 1 to 128 letters, digits or . _ @ : / + -"
                    )
                )
            return value
    return ANONYMOUS
