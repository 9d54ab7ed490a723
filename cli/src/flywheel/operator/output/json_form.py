"""Messages as JSON: the contract's fields by their names, all of them, on one line."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def as_json(message: Message) -> dict[str, Any]:
    """Return the JSON object of a message. Fields without a value are there, except times and messages that are unset."""
    found = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _in_order(found, message.DESCRIPTOR)


def _in_order(found: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    """Return the fields in the order of the contract, and maps in that of their keys: the same message is the same text."""
    return {
        field.name: _value(found[field.name], field) for field in descriptor.fields if field.name in found
    }


def _value(value: Any, field: Any) -> Any:
    kind = field.message_type
    if kind is None:
        return value
    if kind.GetOptions().map_entry:
        return dict(sorted(value.items()))
    if isinstance(value, list):
        return [_in_order(each, kind) if isinstance(each, dict) else each for each in value]
    # A time is a text.
    return _in_order(value, kind) if isinstance(value, dict) else value


def json_line(value: Message | dict[str, Any]) -> str:
    """Return an object on one line, in ASCII: no terminal obeys it, no encoding lacks it."""
    return json.dumps(as_json(value) if isinstance(value, Message) else value)
