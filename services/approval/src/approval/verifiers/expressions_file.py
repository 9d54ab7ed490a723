"""The file with expressions for repairs whose incident has none. docs/recovery.md shows one."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from approval.model import OperationKind
from approval.verifiers.protocol import Repair
from servicekit.process.files import why_unreadable
from servicekit.process.toml import parse_toml
from servicekit.text import shown

_RULE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_Expression = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_096)]


class ExpressionRule(BaseModel):
    """An expression, and the repairs that it is for: those that match every criterion that is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    expression: _Expression
    actions: frozenset[OperationKind] | None = Field(None, min_length=1)
    namespaces: frozenset[str] | None = Field(None, min_length=1)
    hooks: frozenset[str] | None = Field(None, min_length=1)
    # Of the incident.
    labels: Mapping[str, str] = {}

    def fits(self, repair: Repair) -> bool:
        """Return whether the expression is for this repair."""
        operation = repair.operation
        return (
            (self.actions is None or operation.kind in self.actions)
            and (self.namespaces is None or operation.namespace in self.namespaces)
            and (self.hooks is None or operation.hook in self.hooks)
            and all(repair.labels.get(name) == value for name, value in self.labels.items())
        )


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: Mapping[str, ExpressionRule]


def read_rules(path: Path) -> Sequence[ExpressionRule]:
    """Return the rules in the order of their file. Raises ValueError with the place and the reason."""
    try:
        content = parse_toml(path.read_bytes())
    except OSError as exc:
        raise ValueError(f"{path}: {why_unreadable(exc)}") from None
    try:
        rules = _File.model_validate(content).rules
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(shown(str(part)) for part in error["loc"])
        raise ValueError(f"{where}: {error['msg'].removeprefix('Value error, ')}") from None
    for name in rules:
        if not _RULE_NAME.fullmatch(name):
            raise ValueError(f"rules.{shown(name)}: expected a name of a-z, 0-9 and -, at most 63 characters")
    return [rule.model_copy(update={"name": name}) for name, rule in rules.items()]
