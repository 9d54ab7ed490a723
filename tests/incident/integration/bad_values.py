"""Invalid values of fields, named by their defect, and test cases made of them."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

ID = "INC-20260507-99ADF2"
BAD_IDS = {
    "missing": "",
    "blank": " ",
    "NUL": "INC-20260507-99ADF\0",
    "lower case": "inc-20260507-99adf2",
    "too short": "INC-20260507-99ADF",
    "too long": "INC-20260507-99ADF299ADF29",
    "line break behind": f"{ID}\n",
    "line break before": f"\n{ID}",
    "not hexadecimal": "INC-20260507-99ADFG",
    "other digits": "INC-" + chr(0x0662) * 8 + "-99ADF2",
    "of an approval": "APR-20260507-99ADF2",
    "very long": "INC-20260507-" + "A" * 100_000,
}
CONTROL = {
    "NUL": "a\0b",
    "line break": "a\nb",
    "tab": "a\tb",
    "escape": "a\x1bb",
    "delete": "a\x7fb",
    "C1": "a\x85b",
}
# What a title is normalized by (line breaks, tabs) apart.
NOT_IN_LINES = {
    "NUL": "a\0b",
    "escape": "\x1b[31ma",
    "bell": "a\ab",
    "C1": "a\x9bb",
    "override": "a\u202eb",
    "embedding": "a\u202ab",
    "isolate": "a\u2067b",
}
NOT_IN_KEYS = {
    **CONTROL,
    "line separator": "a\u2028b",
    "override": "a\u202eb",
    "isolate": "a\u2068b",
    "zero-width space": "a\u200bb",
    "soft hyphen": "a\u00adb",
    "filler": "a\u3164b",
    "tag": "a\U000e0061b",
}
BLANK = {"blank": "   ", "white space": "\t\n", "ideographic space": "\u3000", "no-break space": "\u00a0"}
INVISIBLE = {"zero-width": "\u200b\u200d\ufeff", "fillers": "\u3164 \u2800", "marks": "\u200e\u200f"}


def cases(rpc: str, field: str, build: Any, values: dict[str, Any], *, named: str | None = None) -> list[Any]:
    """A case for each value of a field."""
    return [
        pytest.param(rpc, build(**{field: value}), named or field, id=f"{rpc} {field} {name}")
        for name, value in values.items()
    ]


def at(seconds: int, nanos: int = 0) -> Timestamp:
    """A time, as wrong as it may be."""
    return Timestamp(seconds=seconds, nanos=nanos)


LONG_LABELS = {
    "too many": {f"k{number}": "v" for number in range(65)},
    "thousands": {f"k{number}": "v" for number in range(5000)},
    "empty key": {"": "v"},
    "long key": {"k" * 257: "v"},
    "long value": {"k": "v" * 257},
    "NUL in a value": {"k": "a\0b"},
    **{f"{name} in a key": {key: "v"} for name, key in NOT_IN_KEYS.items()},
    "blank key": {" ": "v"},
    "keys that differ in spaces": {"a b": "v", "a  b": "v", "c": "v"},
    "keys that differ in normalization": {"caf\u00e9": "v", "cafe\u0301": "v"},
}
BAD_ETAGS = {"too long": "x" * 129, "space": "a b", "NUL": "\0", "not ASCII": "ż", "line break behind": "1\n"}
BAD_TIMES = {
    "before 1970": at(-1),
    "after 9999": at(253402300800),
    "no year at all": at(2**62),
    "negative nanos": at(1, -1),
    "too many nanos": at(1, 1_000_000_000),
}
