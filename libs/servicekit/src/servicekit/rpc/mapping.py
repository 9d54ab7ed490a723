"""Between messages and a service's model: enums of the same names, optional times."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from servicekit.rpc.interceptors.validation import invalid_argument
from servicekit.rpc.status_details import FieldViolation
from servicekit.rpc.timestamps import from_timestamp, to_timestamp

E = TypeVar("E", bound=StrEnum)


class WireEnum(Generic[E]):
    """A model's enum and a contract's enum whose values have the same names after a prefix."""

    def __init__(self, members: type[E], prefix: str, number_of: Callable[[str], int]) -> None:
        """`number_of` is the generated enum's `Value`. Raises ValueError when a member is not in the contract."""
        self._numbers = {member: number_of(f"{prefix}_{member}") for member in members}
        self._members = {number: member for member, number in self._numbers.items()}

    def to_wire(self, member: E) -> Any:
        """Return a member's number. Any: the generated types want a number type of each enum's own."""
        return self._numbers[member]

    def from_wire(self, number: int) -> E:
        """Return the member of a number that the request's validation has accepted."""
        return self._members[number]

    def get(self, number: int, default: E) -> E:
        """Return the member of a number, or `default` for UNSPECIFIED and what this version does not know."""
        return self._members.get(number, default)

    def all_from_wire(self, numbers: Iterable[int]) -> Sequence[E]:
        """Return the members of the numbers of a repeated field."""
        return [self._members[number] for number in numbers]


def optional_timestamp(time: datetime | None) -> Timestamp | None:
    """Return the Timestamp of a time that may be unset."""
    return None if time is None else to_timestamp(time)


def optional_time(request: Message, field: str, *, within: str = "") -> datetime | None:
    """Return the time in an optional field, None when it is unset. Raises the error that names the field.

    `within` is the path of a message in a request, such as `items[1].`.
    """
    if not request.HasField(field):
        return None
    try:
        return from_timestamp(getattr(request, field))
    except ValueError as exc:
        raise invalid_argument(FieldViolation(f"{within}{field}", str(exc))) from None
