"""Content negotiation by RFC 9110: which exposition format, and whether it is compressed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from prometheus_client.openmetrics.exposition import ALLOWUTF8, DOTS, UNDERSCORES, VALUES

_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)
_ESCAPINGS = (UNDERSCORES, ALLOWUTF8, DOTS, VALUES)
_GZIP = ("gzip", "x-gzip")


@dataclass(frozen=True, slots=True)
class Format:
    """A format of the exposition. Its values are closed sets: nothing else that a client sends is in a response."""

    media_type: str
    version: str
    # How names with other characters are written; empty: the format has no such parameter.
    escaping: str = ""

    def __str__(self) -> str:
        escaping = f"; escaping={self.escaping}" if self.escaping else ""
        return f"{self.media_type}; version={self.version}{escaping}"


# The format for a client that accepts none by name, or none that is known.
DEFAULT = Format("text/plain", "0.0.4")
OPENMETRICS = Format("application/openmetrics-text", "1.0.0", UNDERSCORES)
_FORMATS = (DEFAULT, OPENMETRICS, Format("text/plain", "1.0.0", UNDERSCORES))


@dataclass(frozen=True, slots=True)
class _Element:
    """An element of a header such as Accept."""

    name: str
    parameters: Mapping[str, str]
    weight: float


def choose_format(accept: str) -> Format | None:
    """Return the format of the greatest weight in an Accept header; of equal ones the more exact, then the first.

    A header without a known format selects DEFAULT, or another one when it refuses that (`q=0`). None when it refuses all.
    """
    elements = list(_elements(accept))
    named = {each: match for each in _FORMATS if (match := _match(each, elements))}
    weight = {each: elements[-match[1]].weight for each, match in named.items()}
    accepted = [each for each in named if weight[each] > 0]
    if not accepted:
        return next((each for each in _FORMATS if each not in named), None)
    chosen = max(accepted, key=lambda each: (weight[each], named[each]))
    escaping = elements[-named[chosen][1]].parameters.get("escaping")
    return replace(chosen, escaping=escaping) if chosen.escaping and escaping in _ESCAPINGS else chosen


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip, and does not prefer an uncompressed response."""
    weights = {each.name: each.weight for each in _elements(accept_encoding)}
    gzip = max((weights[name] for name in _GZIP if name in weights), default=weights.get("*", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _match(candidate: Format, elements: Sequence[_Element]) -> tuple[int, int] | None:
    """Return the exactness and the negative index of the most exact element that covers a format."""
    kind = candidate.media_type.partition("/")[0]
    ranges = ("*/*", f"{kind}/*", candidate.media_type)
    matches = [
        (ranges.index(each.name) + ("version" in each.parameters), -index)
        for index, each in enumerate(elements)
        if each.name in ranges and each.parameters.get("version", candidate.version) == candidate.version
    ]
    return max(matches, default=None)


def _elements(header: str) -> Iterator[_Element]:
    """Yield the elements of a header; those with a malformed weight are ignored."""
    for element in header.split(","):
        name, *others = (part.strip() for part in element.split(";"))
        pairs = (each.partition("=") for each in others)
        parameters = {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
        weight = parameters.pop("q", "1")
        if name and _WEIGHT.fullmatch(weight):
            yield _Element(name.lower(), parameters, float(weight))
