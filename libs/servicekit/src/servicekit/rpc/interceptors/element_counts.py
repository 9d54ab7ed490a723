"""Bounds the number of elements in a request before anything is built for each of them.

The rules of a contract are checked element by element, and each violation is an object: a message of 1 MiB holds half a
million enum values. So the containers are counted first, by the `max_items` and `max_pairs` of the same rules.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from buf.validate import validate_pb2
from servicekit.rpc.status_details import FieldViolation

# The generated module has no type stub.
_FIELD_RULES: Any = cast(Any, validate_pb2).field
# For a container whose contract sets no limit.
DEFAULT_MAX_ELEMENTS = 1_000


@dataclass(frozen=True, slots=True)
class Container:
    """A repeated field or a map of a message, and how many elements it may have."""

    name: str
    limit: int
    is_map: bool
    # The message type of its elements, None for scalars.
    element: Descriptor | None


def excess_elements(message: Message) -> Sequence[FieldViolation]:
    """Return the containers with too many elements. A container is not looked into when it has too many itself."""
    descriptor = message.DESCRIPTOR
    if not _holds_containers(descriptor):
        return ()
    repeated, singular = _plan(descriptor)
    # Most requests have none of them set: then nothing is looked into.
    if not any(getattr(message, each.name) for each in repeated) and not any(map(message.HasField, singular)):
        return ()
    return list(_excess(message, ""))


def containers(descriptor: Descriptor) -> Sequence[Container]:
    """Return the repeated fields and maps of a message type itself."""
    return _plan(descriptor)[0]


def _excess(message: Message, path: str) -> Iterator[FieldViolation]:
    repeated, singular = _plan(message.DESCRIPTOR)
    for container in repeated:
        elements = getattr(message, container.name)
        name = f"{path}{container.name}"
        if len(elements) > container.limit:
            yield FieldViolation(name, f"must have at most {container.limit} elements")
        elif container.element is not None and _holds_containers(container.element):
            for index, element in enumerate(elements.values() if container.is_map else elements):
                yield from _excess(element, f"{name}." if container.is_map else f"{name}[{index}].")
    for field_name in singular:
        if message.HasField(field_name):
            yield from _excess(getattr(message, field_name), f"{path}{field_name}.")


@cache
def _plan(descriptor: Descriptor) -> tuple[Sequence[Container], Sequence[str]]:
    """Return the containers of a message type, and its message fields that hold some further down."""
    repeated = [_container(field) for field in descriptor.fields if field.is_repeated]
    singular = [
        field.name
        for field in descriptor.fields
        if not field.is_repeated and field.message_type is not None and _holds_containers(field.message_type)
    ]
    return repeated, singular


@cache
def _holds_containers(descriptor: Descriptor) -> bool:
    seen: dict[str, Descriptor] = {}
    waiting = [descriptor]
    while waiting:
        each = waiting.pop()
        if each.full_name in seen:
            continue
        seen[each.full_name] = each
        for field in each.fields:
            if field.is_repeated:
                return True
            if field.message_type is not None:
                waiting.append(field.message_type)
    return False


def _container(field: FieldDescriptor) -> Container:
    rules = field.GetOptions().Extensions[_FIELD_RULES]
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        limit = rules.map.max_pairs if rules.map.HasField("max_pairs") else DEFAULT_MAX_ELEMENTS
        return Container(field.name, limit, True, kind.fields_by_name["value"].message_type)
    limit = rules.repeated.max_items if rules.repeated.HasField("max_items") else DEFAULT_MAX_ELEMENTS
    return Container(field.name, limit, False, kind)
