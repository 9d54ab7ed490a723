"""Texts as knowledge is searched: normalised, cut into n-grams, and the terms of a query. Standard library only.

Every position of a word has a gram: the next three characters, fewer at its end. So a part of a word of three characters or
more has the grams of its own positions, and a shorter one is the prefix of a gram, in any script.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_GRAM = 3
# So much of the symptoms, and of the resolution, can be found by parts: 8000 grams at most.
MAX_TEXT_CHARACTERS = 4000
# So many terms of a query are searched, and so many grams of each are compared.
MAX_TERMS = 24
MAX_GRAMS_PER_TERM = 12
# Of those, words: the others are left to scripts without spaces.
_MAX_WORDS = 18
# A single letter is in most entries: costly, and it says little.
_MAX_LETTERS = 2
# Scripts without spaces between words, and how many characters a piece has: about the shortest word that means something.
_PIECES = {
    2: r"\u2e80-\u312f\u3190-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    3: r"\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff",
}
_RUNS = re.compile("|".join(f"(?P<_{size}>[{characters}]+)" for size, characters in _PIECES.items()))

_LATIN = re.compile("[a-z0-9]")


def normal(text: str) -> str:
    """Return a text without differences that a reader does not mean: width, case, white space within lines."""
    lines = unicodedata.normalize("NFKC", text).casefold().splitlines()
    return "\n".join(line for line in (" ".join(line.split()) for line in lines) if line)


def searchable(symptoms: str, resolution: str) -> str:
    """Return the text of an entry that is searched for parts: the symptoms, then the resolution, both cut."""
    parts = (normal(each)[:MAX_TEXT_CHARACTERS] for each in (symptoms, resolution))
    return "\n".join(part for part in parts if part)


def grams(text: str) -> Sequence[str]:
    """Return the distinct grams of a normalised text."""
    return sorted({word[at : at + _GRAM] for word in text.split() for at in range(len(word))})


@dataclass(frozen=True, slots=True)
class Term:
    """What one word of a query asks for: entries with the word, or with its grams as a tsquery.

    `word` is empty for a piece of a text without spaces.
    """

    word: str
    part: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query as it is searched: its words on one line, the terms, and a tsquery of the grams of all of them."""

    phrase: str
    terms: Sequence[Term]
    all_parts: str

    @property
    def pattern(self) -> str:
        """A PostgreSQL regular expression of the phrase that does not begin or end within a word of Latin letters."""
        escaped = "".join(each if each.isalnum() else f"\\{each}" for each in self.phrase)
        before = "(?<![a-z0-9])" if _LATIN.match(self.phrase) else ""
        after = "(?![a-z0-9])" if _LATIN.match(self.phrase[-1:]) else ""
        return f"{before}{escaped}{after}"


def read_query(text: str) -> Query:
    """Return what a query asks for. Of a long one the longest words count: they are the rarest."""
    phrase = " ".join(normal(text).split())
    words = list(dict.fromkeys(_words(phrase)))
    pieces = list(dict.fromkeys(_pieces(phrase)))
    long = [word for word in words if len(word) > 1] or ([] if pieces else words[:_MAX_LETTERS])
    chosen = sorted(long, key=len, reverse=True)[: _MAX_WORDS if pieces else MAX_TERMS]
    terms = [Term(word, _part(word)) for word in chosen]
    terms += [Term("", _part(piece)) for piece in _spread(pieces, MAX_TERMS - len(terms))]
    return Query(phrase, terms, " & ".join(f"({term.part})" for term in terms))


def _words(phrase: str) -> Iterator[str]:
    """Yield the words of a query as they are, and those within paths, host names and the like."""
    for word in phrase.split():
        parts = list(_parts(word))
        if not parts:
            continue
        start, end = word.index(parts[0]), word.rindex(parts[-1]) + len(parts[-1])
        yield word[start:end]
        for part in parts:
            yield from filter(None, _RUNS.sub(" ", part).split())


def _pieces(phrase: str) -> Iterator[str]:
    for run in _RUNS.finditer(phrase):
        size = int(str(run.lastgroup)[1:])
        text = run.group()
        yield from (text[at : at + size] for at in range(max(len(text) - size, 0) + 1))


def _parts(word: str) -> Iterator[str]:
    """Yield the longest runs of letters, marks and digits."""
    letters = "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in word)
    yield from letters.split()


def _part(term: str) -> str:
    if len(term) < _GRAM:
        return f"{_quoted(term)}:*"
    # Every other gram, and the last: each character and all but a few neighbours are compared, at half the cost.
    last = len(term) - _GRAM
    own = [term[at : at + _GRAM] for at in range(0, last, 2)]
    return " & ".join(map(_quoted, [*_spread(own, MAX_GRAMS_PER_TERM - 1), term[last:]]))


def _quoted(lexeme: str) -> str:
    doubled = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"


def _spread(items: Sequence[str], limit: int) -> Sequence[str]:
    """Return at most so many of the items, evenly spread, in their order."""
    if limit <= 0:
        return ()
    step = max(-(-len(items) // limit), 1)
    return items[::step]
