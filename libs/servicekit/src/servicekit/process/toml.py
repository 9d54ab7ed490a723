"""TOML that people write."""

import tomllib
from typing import Any


class NotTomlError(ValueError):
    """A file's content is not TOML; the message says why, with the place, and may quote the content."""


def parse_toml(content: bytes) -> dict[str, Any]:
    """Return the table in a file's content. Raises NotTomlError."""
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise NotTomlError(f"is not UTF-8 (at line {line})") from None
    except tomllib.TOMLDecodeError as exc:
        raise NotTomlError(f"is not TOML: {exc}") from None
