"""Texts as knowledge is searched: what of them is compared, and how much at most."""

import pytest

from incident.knowledge.text import (
    MAX_GRAMS_PER_TERM,
    MAX_TERMS,
    MAX_TEXT_CHARACTERS,
    grams,
    normal,
    read_query,
    searchable,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Disk  FULL\t on\r\n\r\n db-1 ", "disk full on\ndb-1"),
        ("ＤＩＳＫ　満杯", "disk 満杯"),  # noqa: RUF001 - full width
        ("Straße ŻÓŁW", "strasse żółw"),
    ],
)
def test_a_text_is_normalized(text: str, expected: str) -> None:
    assert normal(text) == expected


def test_every_position_of_a_word_has_a_gram() -> None:
    assert grams("db-1 逾時") == sorted(["db-", "b-1", "-1", "1", "逾時", "時"])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("Disk full", ["disk", "full"]),
        ("/var/lib/pg (full)", ["var/lib/pg", "full", "var", "lib", "pg"]),
        ("db-1.example.com:5432", ["db-1.example.com:5432", "example", "5432", "com", "db"]),
        ("x", ["x"]),
        ("a disk", ["disk"]),
        ("?? -- ''", []),
    ],
)
def test_the_words_of_a_query_longest_first(query: str, words: list[str]) -> None:
    assert [term.word for term in read_query(query).terms] == words


def test_a_text_without_spaces_is_asked_for_in_pieces() -> None:
    query = read_query("資料庫逾時")
    assert [term.part for term in query.terms[1:]] == [
        f"'{piece}':*" for piece in ("資料", "料庫", "庫逾", "逾時")
    ]
    assert query.terms[0].word == "資料庫逾時"
    assert [term.part for term in read_query("ดิสก์เต็ม").terms][1] == "'ดิส'"


def test_operators_of_a_tsquery_are_quoted() -> None:
    (term,) = read_query("o'b\\|:*c").terms[:1]
    assert term.part == "'o''b' & 'b\\\\|' & '|:*' & ':*c'"


@pytest.mark.parametrize(
    "query",
    [
        " ".join(f"w{number}x" for number in range(250)),
        "觀" * 1024,
        " ".join("觀測" * 3 + f"w{number}" for number in range(120)),
        "abcdefghij" * 102,
        "?" * 1024,
    ],
    ids=["words", "one character", "both", "one word", "none"],
)
def test_a_query_has_a_bounded_number_of_terms_and_grams(query: str) -> None:
    read = read_query(query[:1024])
    assert len(read.terms) <= MAX_TERMS
    assert all(term.part.count(" & ") < MAX_GRAMS_PER_TERM for term in read.terms)


def test_an_entry_has_a_bounded_number_of_grams() -> None:
    text = searchable("a1b2" * 5000, "ﷺ" * 8192)
    assert len(text) <= 2 * MAX_TEXT_CHARACTERS + 1
    assert len(grams(text)) <= len(text)
