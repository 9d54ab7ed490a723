"""The colours of words that say how something is."""

from typing import Final

from rich.text import Text

_BAD: Final = "red"
_WAITING: Final = "yellow"
_GOOD: Final = "green"
_STYLES: Final = {
    "CRITICAL": "bold red",
    "HIGH": _BAD,
    "MEDIUM": _WAITING,
    "OPEN": _BAD,
    "INVESTIGATING": "cyan",
    "EXECUTING": "cyan",
    "PENDING": _WAITING,
    "APPROVED": _WAITING,
    "NOT_RECOVERED": _BAD,
    "PARKED": _BAD,
    "FAILED": _BAD,
    "INDETERMINATE": _BAD,
    "RESOLVED": _GOOD,
    "SUCCEEDED": _GOOD,
    "VERIFIED": _GOOD,
    "DONE": _GOOD,
}


def styled(text: str) -> Text:
    """Return a cell in its colour. A text of somebody else is never markup."""
    return Text(text, _STYLES.get(text, ""))
