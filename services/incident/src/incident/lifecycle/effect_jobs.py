"""The side-effect jobs of a RESOLVED transition: their deduplication key and their payload, in Python and in SQL."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Self

from incident.model import MAX_RESOLUTION_NUMBER, ResolutionKey, ResolutionType


@dataclass(frozen=True, slots=True)
class EffectPayload:
    """The payload of a side effect's job; the JSON object has the attributes' names as its keys."""

    incident_id: str
    resolution_number: int
    resolution_type: ResolutionType
    # From opened, or reopened, to resolved.
    resolution_seconds: float

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        """Read a job's payload. Other keys are ignored: a handler keeps the progress of its attempts there."""
        return cls(
            payload["incident_id"],
            payload["resolution_number"],
            ResolutionType(payload["resolution_type"]),
            payload["resolution_seconds"],
        )

    def to_json(self) -> Mapping[str, Any]:
        """Return the payload as it is stored."""
        return {
            "incident_id": self.incident_id,
            "resolution_number": self.resolution_number,
            "resolution_type": self.resolution_type,
            "resolution_seconds": self.resolution_seconds,
        }

    @property
    def key(self) -> ResolutionKey:
        """The RESOLVED transition that the side effect belongs to."""
        return ResolutionKey(self.incident_id, self.resolution_number)

    @property
    def time_to_resolve(self) -> timedelta:
        """The time from opened, or reopened, to resolved."""
        return timedelta(seconds=self.resolution_seconds)


def dedup_key(key: ResolutionKey) -> str:
    """Return the deduplication key of a transition's jobs: one job for each topic."""
    return f"{key.incident_id}/{key.resolution_number}"


_DEDUP_KEY = re.compile(r"(INC-[^/]+)/([1-9][0-9]{0,9})")


def resolution_of(key: str) -> ResolutionKey | None:
    """Return the transition in a job's deduplication key; None for a key that another version made in another way."""
    parts = _DEDUP_KEY.fullmatch(key)
    if parts is None or int(parts[2]) > MAX_RESOLUTION_NUMBER:
        return None
    return ResolutionKey(parts[1], int(parts[2]))


def dedup_key_sql(*, incident_id: str = "incident_id", resolution_number: str = "resolution_number") -> str:
    """Return the deduplication key as an SQL expression over these."""
    return f"{incident_id} || '/' || {resolution_number}"


# What goes through an incident's resolutions goes through the latest ones: so many were never seen, and a number that is
# wrong must not take a statement, or this process, for ever.
_LATEST = 1000


def latest_resolutions(incident_id: str, resolution_number: int) -> Sequence[ResolutionKey]:
    """Return the keys of an incident's latest resolutions; `resolution_number` is its last."""
    numbers = range(max(1, resolution_number - _LATEST + 1), resolution_number + 1)
    return [ResolutionKey(incident_id, number) for number in numbers]


def latest_numbers_sql(resolution_number: str) -> str:
    """Return the numbers of an incident's latest resolutions as an SQL table expression."""
    return f"generate_series(greatest(1, {resolution_number} - {_LATEST - 1}), {resolution_number})"


# The payload as an SQL expression over columns with the attributes' names.
_NAMES_AND_COLUMNS = ", ".join(f"'{field.name}', {field.name}" for field in fields(EffectPayload))
PAYLOAD_SQL = f"jsonb_build_object({_NAMES_AND_COLUMNS})"
