"""Parses the mapping file: what incidents get from the alerts of each receiver. docs/alert-intake.md shows one."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from alert_intake.mapping.model import AlertMapping, Grouping, ReceiverMapping, Severity, Source
from servicekit.process.files import why_unreadable
from servicekit.process.toml import NotTomlError, parse_toml

_SOURCE = re.compile(r"(label|annotation):(.+)")
# Severities that rules commonly have, and our own names.
_USUAL_SEVERITIES = {
    "critical": Severity.CRITICAL,
    "page": Severity.CRITICAL,
    "error": Severity.HIGH,
    "high": Severity.HIGH,
    "warning": Severity.MEDIUM,
    "medium": Severity.MEDIUM,
    "low": Severity.LOW,
    "notice": Severity.LOW,
    "info": Severity.INFO,
    "none": Severity.INFO,
}
_EXPECTED = {
    "missing": "is required",
    "extra_forbidden": "is no key of a receiver",
    "list_type": 'expected a list, such as ["annotation:summary"]',
    "tuple_type": 'expected a list, such as ["annotation:summary"]',
    "frozen_set_type": 'expected a list, such as ["namespace"]',
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "string_type": 'expected a text in quotes, such as "…"',
    "enum": "expected {expected}",
}


class MappingFileError(Exception):
    """A mapping file cannot be used; `problems` has one sentence for each place where something is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _parse_source(value: object) -> Source:
    match = _SOURCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('expected "label:<name>" or "annotation:<name>"')
    return Source(match[1] == "annotation", match[2])


_Sources = tuple[Annotated[Source, BeforeValidator(_parse_source)], ...]


class _ReceiverTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Grouping = Grouping.ALERT
    title: _Sources = (Source(True, "summary"), Source(False, "alertname"))
    description: _Sources = (Source(True, "description"), Source(True, "message"))
    severity: _Sources = (Source(False, "severity"),)
    severities: dict[str, Severity] = Field(default_factory=dict)
    default_severity: Severity = Severity.MEDIUM
    labels: frozenset[str] | None = None

    def over(self, default: "_ReceiverTable") -> "_ReceiverTable":
        """Return this table with what it leaves out taken from another one."""
        own = {name: getattr(self, name) for name in self.model_fields_set}
        return default.model_copy(update=own | {"severities": default.severities | self.severities})

    def mapping(self) -> ReceiverMapping:
        own = {name.lower(): severity for name, severity in self.severities.items()}
        return ReceiverMapping(
            grouping=self.group,
            title=self.title,
            description=self.description,
            severity=self.severity,
            severities=_USUAL_SEVERITIES | own,
            default_severity=self.default_severity,
            labels=self.labels,
        )


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    default: _ReceiverTable = _ReceiverTable()
    receivers: dict[str, _ReceiverTable] = Field(default_factory=dict)


DEFAULT_MAPPING = AlertMapping(_ReceiverTable().mapping(), {})


def parse_mapping(content: bytes) -> AlertMapping:
    """Return the mapping in a file's content.

    Raises MappingFileError, which names line and column of what is not TOML, and the key of anything else.
    """
    try:
        table = parse_toml(content)
    except NotTomlError as exc:
        raise MappingFileError([str(exc)]) from None
    try:
        file = _File.model_validate(table)
    except ValidationError as exc:
        raise MappingFileError([_problem(error) for error in exc.errors(include_url=False)]) from None
    receivers = {name: receiver.over(file.default) for name, receiver in file.receivers.items()}
    return AlertMapping(file.default.mapping(), {name: each.mapping() for name, each in receivers.items()})


def load_mapping(path: Path | None) -> AlertMapping:
    """Return the mapping in a file; the default without one. Raises MappingFileError."""
    if path is None:
        return DEFAULT_MAPPING
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise MappingFileError([why_unreadable(exc)]) from None
    return parse_mapping(content)


def _problem(error: Any) -> str:
    path = ".".join(map(str, error["loc"])) or "the file"
    context = error.get("ctx", {})
    text = (
        str(context["error"])
        if error["type"] == "value_error"
        else _EXPECTED.get(error["type"], error["msg"])
    )
    return f"{path}: {text.format(**context) if error['type'] != 'value_error' else text}"
