"""The canonical form of a name: what is compared, and what is stored.

Case, white space around it and the ways in which Unicode writes the same letter make no difference. What is left must be
ASCII, so that a look-alike in another script is an error and never a second person.
"""

import re
import unicodedata
from typing import Final

# Of a caller without credentials, on a server without authentication.
ANONYMOUS: Final = "anonymous"
# Names of the system itself: those of services are proven by a certificate, those of rules are given by this service alone.
SERVICE_PREFIX: Final = "service:"
_SYSTEM_PREFIXES = (SERVICE_PREFIX, "policy:", "system:")

RULE: Final = "must be 1 to 128 letters, digits or . _ @ : / + -, and begin with a letter or digit"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,127}")
# Normalization may make a text longer, never this much.
_MAX_CHARACTERS = 256


class InvalidNameError(ValueError):
    """A text is not the name of an identity; the message says what one must be, without the text."""

    def __init__(self) -> None:
        super().__init__(RULE)


def canonical(name: str) -> str:
    """Return the canonical form of a name. Raises InvalidNameError."""
    if len(name) <= _MAX_CHARACTERS:
        # Checked before the case is folded: ß would be ss.
        normalized = unicodedata.normalize("NFKC", name).strip()
        if _NAME.fullmatch(normalized) is not None:
            return normalized.lower()
    raise InvalidNameError


def folded(name: str) -> str:
    """Return the form by which stored names are compared: that of `canonical`, for any text.

    Rows of versions before this one, and of imports, hold names as they were written.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def is_same(stored: str, name: str) -> bool:
    """Tell whether a stored name, of any version, and another are one identity."""
    return stored == name or folded(stored) == folded(name)


def is_system(name: str) -> bool:
    """Tell whether a canonical name is the system's own, reserved."""
    return name == ANONYMOUS or name.startswith(_SYSTEM_PREFIXES)
