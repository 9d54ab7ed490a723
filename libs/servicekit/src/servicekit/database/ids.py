"""Record ids that an operator can read out: a prefix, the day and random hexadecimal digits, such as INC-20260507-99ADF2B41C."""

import re
import secrets
from datetime import UTC, datetime

_MIN_DIGITS = 6
_MAX_DIGITS = 12
# Ids that a restore from a backup has lost are still in logs, in the other service and in heads, and no constraint keeps
# them from a second life. With so many digits a thousand lost ids of a day and a thousand new ones meet once in a million
# restores.
_NEW_DIGITS = 10
_SHAPE = rf"[0-9]{{8}}-[0-9A-F]{{{_MIN_DIGITS},{_MAX_DIGITS}}}"
# The pattern as the contracts write it, its prefix apart.
_CONTRACT_PATTERN = re.compile(rf"\^([A-Z]+)-{re.escape(_SHAPE)}\$")


def new_id(prefix: str, *, attempt: int, now: datetime | None = None) -> str:
    """Return a random id, two digits wider with each `attempt` (from 0), up to twelve: collisions end by themselves."""
    digits = min(_NEW_DIGITS + 2 * attempt, _MAX_DIGITS)
    day = (now or datetime.now(UTC)).strftime("%Y%m%d")
    return f"{prefix}-{day}-{secrets.token_hex(digits // 2).upper()}"


def id_pattern(prefix: str) -> re.Pattern[str]:
    """Return the pattern that ids with this prefix match from end to end."""
    return re.compile(rf"{prefix}-{_SHAPE}", re.ASCII)


def id_rule(prefix: str) -> str:
    """Return in words which ids have this prefix."""
    return f"{prefix}-YYYYMMDD- and 6 to 12 upper-case hexadecimal digits"


def prefix_of_pattern(pattern: str) -> str | None:
    """Return the prefix of an id's regular expression as the contracts write it; None for any other expression."""
    match = _CONTRACT_PATTERN.fullmatch(pattern)
    return None if match is None else match[1]
