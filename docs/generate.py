"""Generates the tables of docs/configuration.md from the classes of the settings: `make docs`; `--check` changes nothing.

A table has a row for each setting, with its default. The meaning is written by people: a row keeps it, and that of a new
setting begins as the comment of its field. In place of a default that is nothing, a row may say in words what counts then.
"""

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from alert_intake.settings import IntakeSettings
from approval.settings import ApprovalSettings
from incident.settings import IncidentSettings
from metrics_gateway.settings import GatewaySettings

DOCUMENT = Path(__file__).with_name("configuration.md")
SETTINGS: Mapping[str, type[BaseModel]] = {
    "INCIDENT": IncidentSettings,
    "APPROVAL": ApprovalSettings,
    "INTAKE": IntakeSettings,
    "GATEWAY": GatewaySettings,
}
# Read by the factories of executors and verifiers, not by the service's settings: their rows are left as they are.
PLUG_INS = re.compile(
    r"APPROVAL_(KUBERNETES|HTTP)_\w+"
    r"|APPROVAL_VERIFIER_(URL|INSECURE|TOKEN_FILE|USERNAME|PASSWORD_FILE|TLS_\w+|SETTLE|EXPRESSIONS_FILE)"
)
_ROW = re.compile(r"^\| `([A-Z]+)_([A-Z0-9_]+)` \| (.*?) \| (.*) \|$")
_LITERAL = re.compile(r"`([^`]*)`")
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
_NOTHING: tuple[object, ...] = (None, "", (), frozenset(), SecretStr(""))


def generate(text: str) -> str:
    """Return the document with its tables as the settings are."""
    lines: list[str] = []
    table: list[str] = []
    for line in [*text.split("\n"), ""]:
        if _ROW.match(line):
            table.append(line)
            continue
        if table:
            lines += _generated(table)
            table = []
        lines.append(line)
    return "\n".join(lines[:-1])


def _generated(table: Sequence[str]) -> Iterator[str]:
    rows = [found.groups() for line in table if (found := _ROW.match(line))]
    prefix = rows[0][0]
    fields = SETTINGS[prefix].model_fields
    for _, name, default, meaning in rows:
        if PLUG_INS.fullmatch(f"{prefix}_{name}"):
            yield _row(prefix, name, default, meaning)
        elif (field := fields.get(name.lower())) is not None:
            yield _row(prefix, name, _default(field, default), meaning)
    written = {name for _, name, _, _ in rows}
    for key, field in fields.items():
        if key.upper() not in written:
            yield _row(prefix, key.upper(), _default(field, ""), _comment(SETTINGS[prefix], key))


def _row(prefix: str, name: str, default: str, meaning: str) -> str:
    return f"| `{prefix}_{name}` | {default} | {meaning} |"


def _default(field: FieldInfo, written: str) -> str:
    """Return how a field's default is written: as it is now, if that means the same."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    literal = _LITERAL.fullmatch(written)
    if default in _NOTHING:
        # A variable whose value counts in its place, or a few words.
        in_words = written and (literal is None or re.fullmatch(r"[A-Z_]+", literal[1]))
        return written if in_words else "unset"
    if literal is not None and _means(field, literal[1], default):
        return written
    return f"`{_shown(default)}`"


def _means(field: FieldInfo, text: str, default: Any) -> bool:
    kind: Any = field.annotation
    annotated: Any = Annotated[(kind, *field.metadata)] if field.metadata else kind
    try:
        return bool(TypeAdapter(annotated).validate_python(text) == default)
    except ValidationError:
        return False


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        milliseconds = round(value / timedelta(milliseconds=1))
        unit, size = next((unit, size) for unit, size in _UNITS if milliseconds % size == 0)
        return f"{milliseconds // size}{unit}"
    return str(value)


def _comment(settings: type[BaseModel], name: str) -> str:
    """Return the comment before a field in the class that has it."""
    for cls in settings.__mro__:
        if name in vars(cls).get("__annotations__", {}):
            found = re.search(rf"((?:^    #[^\n]*\n)+)^    {name}: ", inspect.getsource(cls), re.MULTILINE)
            return "" if found is None else " ".join(re.findall(r"# ?(.*)", found[1])).replace("|", r"\|")
    return ""


def main() -> int:
    """Write the document, or with `--check` print how it differs; the exit code is then 1."""
    text = DOCUMENT.read_text(encoding="utf-8")
    new = generate(text)
    if sys.argv[1:] != ["--check"]:
        DOCUMENT.write_text(new, encoding="utf-8")
        return 0
    names = ("docs/configuration.md", "generated: make docs")
    print(
        "\n".join(difflib.unified_diff(text.split("\n"), new.split("\n"), *names, lineterm="", n=0)), end=""
    )
    return int(new != text)


if __name__ == "__main__":
    sys.exit(main())
