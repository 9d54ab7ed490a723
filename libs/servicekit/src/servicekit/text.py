"""The rules of text from outside: what is normalized before it is validated, stored, hashed and shown, and what is refused.

    line    one line for people and parsers, such as a title or an action
    key     a line that identifies something, such as the key of a label
    block   text of several lines, such as a description

The contracts refuse the same characters: awoooi/validation/v1/rules.proto. A test compares the two.
"""

import json
import re
import unicodedata

_GAP = " \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
# White space that is normalized in lines. Other white space, such as U+000B, is a control character.
_SPACE = f"{_GAP}\t\n\r\u2028\u2029"
_CONTROL = "\0-\x1f\x7f-\x9f"
_SEPARATORS = "\u2028\u2029"
# Embeddings and overrides, and isolates: they show text in another order than it is parsed in.
_OVERRIDES = "\u202a-\u202e"
_ISOLATES = "\u2066-\u2069"
# Characters without a glyph of their own (Default_Ignorable_Code_Point), and annotations between lines.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# A glyph without a dot.
_BRAILLE_BLANK = "\u2800"

_SPACES = re.compile(f"[{_SPACE}]+")
_GAPS = re.compile(f"[{_GAP}]+")
_VISIBLE = re.compile(f"[^{_SPACE}{_CONTROL}{_INVISIBLE}{_BRAILLE_BLANK}]")
_NOT_IN_LINES = re.compile(f"[{_CONTROL}{_SEPARATORS}{_OVERRIDES}{_ISOLATES}]")
_NOT_IN_KEYS = re.compile(f"[{_CONTROL}{_SEPARATORS}{_INVISIBLE}{_BRAILLE_BLANK}]")
# U+0000 stays, to be refused: no version has accepted it.
_REPLACED_IN_BLOCKS = {
    **dict.fromkeys((*range(0x01, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F)), " "),
    **dict.fromkeys(map(ord, f"\r{_SEPARATORS}"), "\n"),
    ord("\n"): "\n",
    ord("\t"): "\t",
}

_PLAIN = re.compile(r"[A-Za-z0-9_.\[\]-]{1,128}", re.ASCII)
_MAX_SHOWN = 64

NUL = "must not contain the character U+0000"
BLANK = "must not be blank"
NOT_A_LINE = "must not contain control characters, line separators or bidirectional controls"
NOT_A_KEY = "must not contain control characters, line separators or invisible characters, nor be blank"
SAME_KEYS = "must not have keys that differ only in spaces or in Unicode normalization"


def line(text: str) -> str:
    """Return a text on one line: white space, line breaks included, at its ends is removed, elsewhere it is one space."""
    if _is_plain(text) and "  " not in text:
        return text.strip(" ")
    return _SPACES.sub(" ", text).strip(" ")


def key(text: str) -> str:
    """Return a line in Unicode normalization form C, so that what looks the same is the same.

    Spaces at its ends are removed, and elsewhere they are one; line breaks and tabs stay, to be refused. A blank text is
    returned unchanged, and not as the empty text, which some fields allow.
    """
    if _is_plain(text) and "  " not in text:
        return text.strip(" ") or text
    return _GAPS.sub(" ", unicodedata.normalize("NFC", text)).strip(" ") or text


def block(text: str) -> str:
    """Return a text with the line break U+000A only, without bidirectional overrides and other control characters.

    Each is replaced by a space, so that a text never gets longer: logs with escape sequences are usual texts, and
    those that were stored by an older version have to be delivered.
    """
    # Most texts need no change, and this is ten times as fast as to make one.
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return text.replace("\r\n", "\n").translate(_REPLACED_IN_BLOCKS)


def is_blank(text: str) -> bool:
    """Tell whether nothing of a text can be seen."""
    return _VISIBLE.search(text) is None


def is_line(text: str) -> bool:
    """Tell whether a text can be shown on one line, in the order of its characters."""
    return _NOT_IN_LINES.search(text) is None


def is_key(text: str) -> bool:
    """Tell whether a text is a line in which every character can be seen, and is not blank."""
    return _NOT_IN_KEYS.search(text) is None and not is_blank(text)


def _is_plain(text: str) -> bool:
    """Tell whether it has ASCII letters, digits, punctuation and spaces alone: most texts do, and need no more look."""
    return text.isascii() and text.isprintable()


def shown(name: str) -> str:
    """Return a name of foreign origin, safe to show: on one line, without control characters, not too long."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name[:_MAX_SHOWN])
