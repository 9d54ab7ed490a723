"""The lines of an export: each in the one form that it may have, and the hash of a record."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

FORMAT: Final = 1
CHAINS: Final = 32
# Before the first record of a chain.
BEGINNING: Final = "0" * 64

_HASH = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_TARGET = re.compile(r"[^ ]+")
# The fields of each kind of line, in order.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "header": ("kind", "format", "service"),
    "record": (
        *(
            "kind",
            "service",
            "chain",
            "sequence",
            "time",
            "actor",
            "method",
            "operation",
            "targets",
            "outcome",
        ),
        *("code", "reason", "digest", "calls", "previous", "hash"),
    ),
    "head": ("kind", "service", "chain", "sequence", "hash"),
    "end": ("kind", "service", "records", "sha256"),
}
_NUMBERS = ("format", "chain", "sequence", "calls", "records")
_HASHES = ("previous", "hash", "sha256")


class BadLineError(Exception):
    """A line is not one of an export; the message is the reason."""


def parse(data: bytes) -> Mapping[str, Any]:
    """Return the fields of a line, with its line feed. Raises BadLineError.

    There is one way to write each line, so that no byte of it can change unnoticed.
    """
    try:
        fields = json.loads(data)
    except ValueError:
        raise BadLineError("is not JSON") from None
    except RecursionError:
        raise BadLineError("is nested too deeply") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise BadLineError("has no kind")
    if tuple(fields) != _FIELDS.get(fields["kind"]):
        raise BadLineError("has not the fields of its kind, in their order")
    for name, value in fields.items():
        if not _is_valid(name, value):
            raise BadLineError(f"has a value that {name} cannot have")
    if serialized(fields) != data:
        raise BadLineError("is not written as an export writes it")
    return fields


def serialized(fields: Mapping[str, Any]) -> bytes:
    """Return a line, with its line feed."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def record_hash(fields: Mapping[str, Any]) -> str:
    """Return the hash that a record with these fields has."""
    values = (
        str(FORMAT),
        fields["service"],
        str(fields["chain"]),
        str(fields["sequence"]),
        fields["time"],
        fields["actor"],
        fields["method"],
        fields["operation"],
        " ".join(fields["targets"]),
        fields["outcome"],
        fields["code"],
        fields["reason"],
        fields["digest"],
        str(fields["calls"]),
        fields["previous"],
    )
    return hashlib.sha256(b"".join(map(_netstring, values))).hexdigest()


def _netstring(value: str) -> bytes:
    data = value.encode("utf-8")
    return b"%d:%b," % (len(data), data)


def _is_valid(name: str, value: object) -> bool:
    if name in _NUMBERS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if name == "targets":
        return isinstance(value, list) and all(
            isinstance(each, str) and _TARGET.fullmatch(each) and _is_text(each) for each in value
        )
    if not isinstance(value, str) or not _is_text(value):
        return False
    if name in _HASHES:
        return _HASH.fullmatch(value) is not None
    return name != "time" or _TIME.fullmatch(value) is not None


def _is_text(value: str) -> bool:
    # A lone half of a surrogate pair has no bytes in UTF-8.
    return not any("\ud800" <= character <= "\udfff" for character in value)
