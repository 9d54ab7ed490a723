"""Names: every spelling is one identity or an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.identity.canonical import InvalidNameError, canonical, folded, is_same, is_system

SPELLINGS = [
    "Alice",
    "ALICE",
    " alice ",
    "alice\u00a0",
    "\talice\n",
    "ａｌｉｃｅ",  # noqa: RUF001 - the point
    "𝐚𝐥𝐢𝐜𝐞",  # noqa: RUF001
    "ⓐⓛⓘⓒⓔ",
    "ALICE\u2003",
]
LOOK_ALIKES = [
    "\u0430lice",  # Cyrillic a
    "al\u0456ce",  # Cyrillic i
    "alic\u0435",
    "\u0251lice",  # Latin alpha
    "al\u0131ce",  # dotless i
    "AL\u0130CE",  # dotted capital I
    "\u13aalice",
    "alice\u200b",
    "al\u00adice",
    "\u202ealice",
    "alic\u0065\u0301",
    "álice",
    "stra\u00dfe",
    "al ice",
    "alice\x00",
    "",
    " ",
    "-alice",
    "a" * 129,
    "\ufdfa" * 200,
]


@pytest.mark.parametrize("name", SPELLINGS, ids=ascii)
def test_every_spelling_is_one_identity(name: str) -> None:
    assert canonical(name) == "alice"
    assert is_same(name, "alice")


@pytest.mark.parametrize("name", LOOK_ALIKES, ids=ascii)
def test_a_look_alike_is_an_error_and_the_error_does_not_quote_it(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        canonical(name)
    assert "lice" not in str(caught.value)


def test_the_long_s_and_the_kelvin_sign_are_the_letters_that_they_are_compatible_with() -> None:
    assert canonical("\u017feen") == "seen"
    assert canonical("\u212aate") == "kate"


@given(st.text(max_size=40))
def test_what_is_canonical_stays_so_and_is_ascii(name: str) -> None:
    try:
        found = canonical(name)
    except InvalidNameError:
        return
    assert found.isascii()
    assert canonical(found) == found == folded(name)
    assert is_same(name, found)


@given(st.text(max_size=40))
def test_stored_names_of_any_kind_compare_with_themselves(name: str) -> None:
    assert is_same(name, name)
    assert folded(folded(name)) == folded(name)


@pytest.mark.parametrize(
    "name", ["service:approval", "Service:Approval", "policy:restarts", "service\uff1aapproval", "Anonymous"]
)
def test_the_systems_names_are_known_in_every_spelling(name: str) -> None:
    assert is_system(canonical(name))


@pytest.mark.parametrize("name", ["alice", "services:x", "my-service:x", "policy", "spiffe://td/alice"])
def test_other_names_are_not_the_systems(name: str) -> None:
    assert not is_system(canonical(name))
