"""The rules of text: what is normalized, what is refused, and that the contracts refuse the same."""

import unicodedata

import protovalidate
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from servicekit import text

OVERRIDES = "\u202a\u202b\u202c\u202d\u202e"
ISOLATES = "\u2066\u2067\u2068\u2069"
FILLERS = "\u115f\u1160\u3164\uffa0\u2800"
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\ufe0f\U000e0061"
SPACES = "\u00a0\u1680\u2003\u202f\u205f\u3000"
CONTROLS = "\0\a\b\v\f\x1b\x1c\x7f\x85\x9b"
# Characters of every rule, among any others.
TEXTS = st.text(
    st.sampled_from(
        f"ab\n\r\t e\u0301\u2028\u2029{OVERRIDES}{ISOLATES}{FILLERS}{ZERO_WIDTH}{SPACES}{CONTROLS}"
    )
    | st.characters(codec="utf-8"),
    max_size=40,
)


@pytest.mark.parametrize(
    ("given_", "line"),
    [
        pytest.param("disk full", "disk full", id="usual"),
        pytest.param("  disk\n\tfull \r\n", "disk full", id="line breaks and tabs"),
        pytest.param("NO_ACTION:\n\nRESTART deployment/web -n shop", "NO_ACTION: RESTART deployment/web -n shop", id="one line that parses as another"),
        pytest.param("disk\u2028full\u2029", "disk full", id="separators"),
        pytest.param("RESTART\u00a0deployment/web\u3000-n\u2003shop", "RESTART deployment/web -n shop", id="Unicode spaces"),
        pytest.param("👩\u200d💻 \u05e9\u200f", "👩\u200d💻 \u05e9\u200f", id="joiners and marks of direction"),
        pytest.param("a\x1b[31mb\vc", "a\x1b[31mb\vc", id="control characters, to be refused"),
    ],
)  # fmt: skip
def test_a_line_has_single_spaces_in_place_of_white_space(given_: str, line: str) -> None:
    assert text.line(given_) == line


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([" team", "team ", "\u00a0team\u3000"], id="spaces at the ends"),
        pytest.param(["a b", "a  b", "a\u00a0b", "a \u2003 b"], id="spaces within"),
        pytest.param(["caf\u00e9", "cafe\u0301"], id="NFC and NFD"),
        pytest.param(["\u212bngstr\u00f6m", "A\u030angstro\u0308m"], id="singletons"),
    ],
)
def test_keys_that_look_the_same_are_the_same(others: list[str]) -> None:
    assert len({text.key(each) for each in others}) == 1


@pytest.mark.parametrize(
    ("given_", "block"),
    [
        pytest.param("a\n\tb\n\n  c  ", "a\n\tb\n\n  c  ", id="lines and tabs"),
        pytest.param("a\r\nb\rc\u2028d\u2029e", "a\nb\nc\nd\ne", id="line breaks of other systems"),
        pytest.param("\x1b[31mERROR\x1b[0m\b", " [31mERROR [0m ", id="escape sequences"),
        pytest.param("a\u202eb", "a b", id="an override"),
        pytest.param("a \u2068b\u2069 \u200d", "a \u2068b\u2069 \u200d", id="isolates and joiners"),
        pytest.param("a\0b", "a\0b", id="NUL, to be refused"),
    ],
)
def test_a_block_keeps_its_lines_without_other_control_characters(given_: str, block: str) -> None:
    assert text.block(given_) == block


@pytest.mark.parametrize("normalize", [text.line, text.key, text.block])
@given(given_=TEXTS)
def test_normalizing_is_idempotent(normalize: object, given_: str) -> None:
    assert callable(normalize)
    assert normalize(normalize(given_)) == normalize(given_)


@given(TEXTS)
def test_a_line_is_one_line_and_never_longer(given_: str) -> None:
    line = text.line(given_)
    assert len(line) <= len(given_)
    assert line.split(" ") == line.split() or not text.is_line(line) or not line
    if text.is_line(line):
        assert len(line.splitlines()) <= 1
        assert not any(unicodedata.category(each) in ("Cc", "Zl", "Zp") for each in line)
        assert not set(line) & set(OVERRIDES + ISOLATES)


@given(TEXTS)
def test_a_block_is_never_longer_and_has_no_control_characters_but_line_breaks_and_tabs(given_: str) -> None:
    block = text.block(given_)
    assert len(block.encode()) <= len(given_.encode())
    controls = {each for each in block if unicodedata.category(each) in ("Cc", "Zl", "Zp")}
    assert controls <= set("\n\t\0")
    assert not set(block) & set(OVERRIDES)


@given(TEXTS)
def test_keys_in_any_normalization_form_and_with_any_spaces_are_one(given_: str) -> None:
    spaced = f"\u3000{given_.replace(' ', '  ')} "
    forms = {text.key(unicodedata.normalize(form, spaced)) for form in ("NFC", "NFD")}
    assert len(forms) == 1
    [key] = forms
    assert unicodedata.is_normalized("NFC", key)
    if text.is_key(key):
        assert key == text.key(given_)
        assert all(
            each == " " or each.isprintable() or unicodedata.category(each) in ("Co", "Cn") for each in key
        )


def _broken_rules(field: str, value: str) -> set[str]:
    valid = pb.CreateRequest(title="x", severity=incident_pb2.SEVERITY_LOW)
    message = pb.CreateRequest()
    message.CopyFrom(valid)
    setattr(message, field, value)
    try:
        protovalidate.validate(message)
    except protovalidate.ValidationError as exc:
        return {violation.proto.rule_id for violation in exc.violations}
    return set()


@given(TEXTS)
@example(ZERO_WIDTH + FILLERS)
@example("\u2800\u200b")
def test_the_contract_refuses_the_same_lines(given_: str) -> None:
    broken = _broken_rules("title", text.line(given_))
    assert ("string.not_blank" in broken) == text.is_blank(text.line(given_))
    assert ("string.line" in broken) == (not text.is_line(text.line(given_)))


@given(TEXTS.filter(bool))
@example(ZERO_WIDTH)
@example("\u3000")
def test_the_contract_refuses_the_same_keys(given_: str) -> None:
    key = text.key(given_)
    assert ("string.key" in _broken_rules("fingerprint", key)) == (not text.is_key(key))


@given(TEXTS)
def test_the_contract_refuses_nul_alone_in_blocks(given_: str) -> None:
    block = text.block(given_)
    assert ("string.no_nul" in _broken_rules("description", block)) == ("\0" in block)


@given(TEXTS)
def test_a_name_that_is_shown_is_one_line_of_ascii(given_: str) -> None:
    shown = text.shown(given_)
    assert shown.isascii()
    assert shown.isprintable()
