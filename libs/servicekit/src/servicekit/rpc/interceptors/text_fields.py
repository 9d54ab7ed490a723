"""Normalizes the texts of a request, by the rules that its contract gives to each field, before they are validated."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from buf.validate import validate_pb2
from servicekit import text
from servicekit.rpc.status_details import FieldViolation

_Normalize = Callable[[str], str]

# The generated module has no type stub.
_FIELD_RULES: Any = cast(Any, validate_pb2).field
# By the names of the rules in awoooi/validation/v1/rules.proto.
_NORMALIZED: Mapping[str, _Normalize] = {"line": text.line, "key": text.key, "no_nul": text.block}


@dataclass(frozen=True, slots=True)
class _TextField:
    """A field of texts: how its value is normalized, or its keys and values if it is a map."""

    name: str
    value: _Normalize | None
    key: _Normalize | None = None


def normalize(message: Message) -> Sequence[FieldViolation]:
    """Normalize the texts of a message in place. Return its maps of which two keys are the same then.

    Messages within it are left alone: the items of a batch are validated one by one.
    """
    return list(_normalize(message))


def _normalize(message: Message) -> Iterator[FieldViolation]:
    for field in _text_fields(message.DESCRIPTOR):
        value = getattr(message, field.name)
        if isinstance(value, str):
            if field.value is not None and (normalized := field.value(value)) != value:
                setattr(message, field.name, normalized)
        elif value and not _normalize_map(value, field):
            yield FieldViolation(field.name, text.SAME_KEYS)


def _normalize_map(pairs: MutableMapping[str, str], field: _TextField) -> bool:
    """Normalize a map; False when two of its keys are the same."""
    normalized = {
        _applied(field.key, name): _applied(field.value, value) for name, value in sorted(pairs.items())
    }
    if len(normalized) < len(pairs):
        return False
    if normalized != pairs:
        pairs.clear()
        pairs.update(normalized)
    return True


def _applied(normalized: _Normalize | None, value: str) -> str:
    return value if normalized is None else normalized(value)


@cache
def _text_fields(descriptor: Descriptor) -> Sequence[_TextField]:
    return list(_found(descriptor))


def _found(descriptor: Descriptor) -> Iterator[_TextField]:
    for field in descriptor.fields:
        rules = field.GetOptions().Extensions[_FIELD_RULES]
        if _is_text_map(field):
            keys, values = _rule(rules.map.keys.string), _rule(rules.map.values.string)
            if keys or values:
                yield _TextField(field.name, values, keys)
        elif field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            rule = _rule(rules.string)
            if rule is not None:
                yield _TextField(field.name, rule)


def _is_text_map(field: FieldDescriptor) -> bool:
    entry = field.message_type
    return (
        entry is not None
        and entry.GetOptions().map_entry
        and all(each.type == FieldDescriptor.TYPE_STRING for each in entry.fields)
    )


def _rule(string_rules: Message) -> _Normalize | None:
    for option, is_set in string_rules.ListFields():
        if option.is_extension and is_set and option.name in _NORMALIZED:
            return _NORMALIZED[option.name]
    return None
