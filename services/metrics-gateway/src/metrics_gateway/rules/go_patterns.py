"""Go's regular expressions, which Prometheus uses, as Python's."""

import re
import warnings

# Classes within brackets, as in `[[:alpha:]_]+`.
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": r"\w",
    "xdigit": "0-9A-Fa-f",
}
_CLASS = re.compile(r"\[:(\w+):\]")


def go_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return the pattern; None for one that Python does not have or reads otherwise. Prometheus itself validates it."""
    translated = _CLASS.sub(lambda found: _CLASSES.get(found[1], found[0]), pattern)
    with warnings.catch_warnings():
        # Python warns of brackets within brackets.
        warnings.simplefilter("error", FutureWarning)
        try:
            return re.compile(translated, re.ASCII)
        except (re.error, FutureWarning):
            return None
