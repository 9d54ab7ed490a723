"""The fingerprint by which Prometheus and Alertmanager know an alert: a hash of all its labels."""

import re
from collections.abc import Mapping

# 64-bit FNV-1a.
_OFFSET, _PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, 0xFFFFFFFFFFFFFFFF
_SEPARATOR = b"\xff"
_FORM = re.compile(r"[0-9a-f]{16}")


def is_fingerprint(value: str) -> bool:
    """Tell whether a text has the form of one."""
    return _FORM.fullmatch(value) is not None


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return the fingerprint of an alert that has these labels and no others."""
    hashed = _OFFSET
    for name, value in sorted((name.encode(), value.encode()) for name, value in labels.items()):
        for byte in name + _SEPARATOR + value + _SEPARATOR:
            hashed = ((hashed ^ byte) * _PRIME) & _MASK
    return f"{hashed:016x}"
