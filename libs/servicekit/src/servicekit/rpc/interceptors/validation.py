"""Checks every request against the protovalidate rules of its message."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import protovalidate

from servicekit.database.ids import id_rule, prefix_of_pattern
from servicekit.rpc.context import Context
from servicekit.rpc.interceptors.chain import StreamBehavior, UnaryBehavior
from servicekit.rpc.interceptors.element_counts import excess_elements
from servicekit.rpc.interceptors.text_fields import normalize
from servicekit.rpc.status_details import (
    MAX_VIOLATIONS,
    FieldViolation,
    RpcError,
    RpcStatus,
    invalid_argument_message,
)

# What the patterns of our contracts require, in words.
_PATTERN_RULES = {
    "^[!-~]*$": "must be printable ASCII characters without spaces",
    "^[!-~]+$": "must be printable ASCII characters without spaces",
    "^[^\\x00]*$": "must not contain U+0000",
}
_PATTERN = re.compile(r"`([^`]+)`")


class ValidationLayer:
    """Refuses a request that breaks its rules with INVALID_ARGUMENT, naming each field."""

    def unary(self, method: str, inner: UnaryBehavior) -> UnaryBehavior:
        """Check the request first."""

        async def behavior(request: Any, context: Context) -> Any:
            check(request)
            return await inner(request, context)

        return behavior

    def stream(self, method: str, inner: StreamBehavior) -> StreamBehavior:
        """Check the request first."""

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            check(request)
            async for response in inner(request, context):
                yield response

        return behavior


def check(message: Any) -> None:
    """Normalize the texts of a message, and check it against its rules.

    Raises the error that answers INVALID_ARGUMENT.
    """
    if excess := excess_elements(message):
        raise invalid_argument(*excess)
    if same_keys := normalize(message):
        raise invalid_argument(*same_keys)
    try:
        protovalidate.validate(message)
    except protovalidate.ValidationError as exc:
        raise invalid_argument(*field_violations(exc)) from None


def field_violations(error: protovalidate.ValidationError) -> Sequence[FieldViolation]:
    """Return the first fields that broke a rule, as many as a status shows, each with the rule's message."""
    return [
        FieldViolation(_field(violation.proto), _in_words(violation.proto.message) or "is not valid")
        for violation in error.violations[:MAX_VIOLATIONS]
    ]


def pattern_rule(pattern: str) -> str | None:
    """Return in words what a pattern of a contract requires; None for one that is not known here."""
    prefix = prefix_of_pattern(pattern)
    return _PATTERN_RULES.get(pattern) if prefix is None else f"must be {id_rule(prefix)}"


def _in_words(message: str) -> str:
    match = _PATTERN.search(message)
    return (match and pattern_rule(match[1])) or message


def invalid_argument(*violations: FieldViolation) -> RpcError:
    """Return the error that answers INVALID_ARGUMENT for these fields."""
    return RpcError(
        RpcStatus(
            grpc.StatusCode.INVALID_ARGUMENT,
            invalid_argument_message(violations),
            "INVALID_ARGUMENT",
            field_violations=violations,
        )
    )


def _field(violation: protovalidate.ViolationPb) -> str:
    """Return the path of the field, such as `items[3].note` or `labels`.

    A map's key is left out: it is the caller's text. A rule over several fields has no path; its id then starts with
    the field's name, by the convention of our contracts.
    """
    if violation.field is None:
        return violation.rule_id.partition(".")[0]
    parts: list[str] = []
    for element in violation.field.elements:
        subscript = element.subscript
        index = f"[{subscript.value}]" if subscript is not None and subscript.field == "index" else ""
        parts.append(f"{element.field_name}{index}")
    return ".".join(parts)
