"""YAML and JSON as plain dicts and lists, with the line numbers of their strings."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml


class UnreadableError(Exception):
    """The file cannot be used; the message has the reason, in one line."""


class Located(str):
    """A string with its first and last line in the file, counted from 1; `last` is inclusive."""

    __slots__ = ("first", "last")

    first: int
    last: int

    @classmethod
    def at(cls, text: str, first: int, last: int) -> "Located":
        """Return the text with its lines."""
        located = cls(text)
        located.first, located.last = first, last
        return located


_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"(?P<key>\s*:)?', re.DOTALL)


def read_yaml(text: str) -> list[Any]:
    """Return the documents of a YAML text: dicts, lists, and every scalar as a Located string.

    Merge keys (`<<`) are applied. Raises UnreadableError when it is not YAML, or when a key comes twice.
    """
    try:
        return [_Reader().value(node) for node in yaml.compose_all(text, yaml.SafeLoader)]
    except yaml.YAMLError as exc:
        raise UnreadableError(f"not YAML: {' '.join(str(exc).split())}") from exc
    except RecursionError as exc:
        raise UnreadableError("not YAML that ends: it contains itself") from exc


class _Reader:
    """Turns the nodes of one document into values. What an alias refers to is read once."""

    def __init__(self) -> None:
        self._values: dict[yaml.Node, Any] = {}

    def value(self, node: yaml.Node) -> Any:
        if node not in self._values:
            self._values[node] = self._read(node)
        return self._values[node]

    def _read(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(each) for each in node.value]
        # A block scalar begins with its indicator, alone on a line, and ends where the next thing begins.
        block = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
        first = node.start_mark.line + (2 if block else 1)
        last = node.end_mark.line + (0 if block else 1)
        return Located.at("" if node.tag == _NULL else node.value, first, max(first, last))

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                # The first source that has a key decides.
                for source in sources:
                    merged = {**self.value(source), **merged}
            elif key.value in own:
                raise UnreadableError(f"line {key.start_mark.line + 1}: the key {key.value} comes twice")
            else:
                own[key.value] = self.value(value)
        return {**merged, **own}


def read_json(text: str) -> Any:
    """Return the value of a JSON text: dicts, lists, numbers, and every string as a Located one.

    Raises UnreadableError when it is not JSON, or when a key comes twice.
    """
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as exc:
        raise UnreadableError(f"not JSON: {exc}") from exc
    return _numbered(value, _lines_of_strings(text))


def _lines_of_strings(text: str) -> Iterator[int]:
    """Yield the line of each string that is a value, in the order of the text."""
    line, position = 1, 0
    for found in _JSON_STRING.finditer(text):
        line += text.count("\n", position, found.start())
        position = found.start()
        if not found["key"]:
            yield line


def _numbered(value: Any, lines: Iterator[int]) -> Any:
    if isinstance(value, dict):
        return {key: _numbered(each, lines) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbered(each, lines) for each in value]
    if isinstance(value, str):
        line = next(lines)
        return Located.at(value, line, line)
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return found
