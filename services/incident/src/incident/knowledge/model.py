"""Lessons learnt from resolutions, and search results over them. Knows no database and no wire."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from incident.model import ResolutionType

# Parts that differ between reports of the same problem: numbers, hexadecimal ids, random suffixes of pod names.
_VOLATILE = re.compile(r"\b(?=[a-z0-9]*[0-9])[a-z0-9]+\b|[0-9]+")


def symptom_key(title: str, labels: Mapping[str, str], fingerprint: str) -> str:
    """Return the identity of a problem: the fingerprint when there is one, else title and labels, normalised."""
    content = (
        [fingerprint] if fingerprint else [_normal(title), sorted((k, _normal(v)) for k, v in labels.items())]
    )
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _normal(text: str) -> str:
    return " ".join(_VOLATILE.sub("#", text.lower()).split())


@dataclass(frozen=True, slots=True)
class Lesson:
    """The lesson of one RESOLVED transition; `held` is False when the incident has been reopened since."""

    incident_id: str
    resolution_number: int
    symptom_key: str
    symptoms: str
    resolution: str
    resolution_type: ResolutionType
    action: str
    held: bool
    seconds: float

    @property
    def knowledge_id(self) -> str:
        """The id of the entry that the lesson is merged into: one for each symptom and resolution."""
        key = f"{self.symptom_key}\n{self.resolution_type}\n{self.action}"
        return hashlib.sha256(key.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class KnowledgeEntry:
    """One kind of problem and one way to resolve it: the symptoms, how often that held, the mean time it took."""

    knowledge_id: str
    incident_id: str
    symptoms: str
    resolution: str
    resolution_type: ResolutionType
    action: str
    use_count: int
    success_count: int
    create_time: datetime
    update_time: datetime
    mean_resolution_time: timedelta


class KnowledgePosition(NamedTuple):
    """The sort key of a match; a page starts after that of the last match before it."""

    rank: float
    success_count: int
    knowledge_id: str


@dataclass(frozen=True, slots=True)
class KnowledgeMatch:
    """An entry and its rank; ranks are comparable within one search only, greater is better."""

    entry: KnowledgeEntry
    rank: float

    @property
    def position(self) -> KnowledgePosition:
        """The position of this match in the order of the search."""
        return KnowledgePosition(self.rank, self.entry.success_count, self.entry.knowledge_id)


@dataclass(frozen=True, slots=True)
class KnowledgePage:
    """A page of matches, best first; `next_position` is None on the last."""

    matches: Sequence[KnowledgeMatch]
    next_position: KnowledgePosition | None
