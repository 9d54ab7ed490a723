"""The fields of a line: types, limits (those of the RPCs' fields) and the formatting of their errors."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from servicekit import text as rules
from servicekit.database.ids import id_pattern, id_rule
from servicekit.text import shown

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt](?:[01]\d|2[0-3]):[0-5]\d:)([0-5]\d|60)((?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d))",
    re.ASCII,
)
_FIRST_YEAR = 1970
_MAX_PAIRS = 64
_MAX_LABEL_CHARACTERS = 256


class TextForm(Enum):
    """The forms of texts in servicekit.text."""

    BLOCK = auto()
    LINE = auto()
    KEY = auto()


_FORMS: Mapping[TextForm, tuple[Callable[[str], str], Callable[[str], bool], str]] = {
    TextForm.BLOCK: (rules.block, lambda _text: True, ""),
    TextForm.LINE: (rules.line, rules.is_line, rules.NOT_A_LINE),
    TextForm.KEY: (rules.key, rules.is_key, rules.NOT_A_KEY),
}


class Line(BaseModel):
    """Base of a line's model: strict types, and a name that is not a field is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def text(
    form: TextForm = TextForm.BLOCK,
    *,
    characters: int | None = None,
    octets: int | None = None,
    blank: bool = True,
    empty: bool = False,
) -> AfterValidator:
    """Return the check of a text, which is normalized by its form: at most so many characters or bytes of UTF-8.

    Without `blank` it must hold something that can be seen, or, with `empty`, nothing at all.
    """
    normalize, is_valid, refusal = _FORMS[form]

    def check(value: str) -> str:
        value = normalize(value)
        if "\0" in value:
            raise ValueError(rules.NUL)
        if empty and not value:
            return value
        if not blank and rules.is_blank(value):
            raise ValueError(rules.BLANK)
        if not is_valid(value):
            raise ValueError(refusal)
        if characters is not None and len(value) > characters:
            raise ValueError(f"is longer than {characters} characters")
        if octets is not None and len(value.encode()) > octets:
            raise ValueError(f"is longer than {octets} bytes of UTF-8")
        return value

    return AfterValidator(check)


def identifier(prefix: str) -> AfterValidator:
    """Return the check of an id with this prefix."""
    shape = id_pattern(prefix)

    def check(value: str) -> str:
        if not shape.fullmatch(value):
            raise ValueError(f"expected {id_rule(prefix)}")
        return value

    return AfterValidator(check)


def _time(value: object) -> datetime:
    parts = _TIME.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise ValueError("expected a time such as 2026-05-07T10:00:00Z")
    try:
        found = _parsed(*parts.groups())
    except (ValueError, OverflowError):
        raise ValueError("is no time of the calendar") from None
    if found.year < _FIRST_YEAR:
        raise ValueError(f"is before {_FIRST_YEAR}")
    return found


def _parsed(minute: str, second: str, rest: str) -> datetime:
    """Return a time of RFC 3339 in UTC; raises ValueError for one that no calendar has.

    A leap second, at the end of a month, is the second after it, as in POSIX and PostgreSQL.
    """
    if second != "60":
        return datetime.fromisoformat(f"{minute}{second}{rest}".upper()).astimezone(UTC)
    after = _parsed(minute, "59", rest) + timedelta(seconds=1)
    if after.replace(microsecond=0) != datetime(after.year, after.month, 1, tzinfo=UTC):
        raise ValueError("no leap second")
    return after


def _labels(value: object) -> object:
    """Check the keys together, before each is normalized: two that are the same then would be one."""
    if not isinstance(value, dict):
        return value
    if len(value) > _MAX_PAIRS:
        raise ValueError(f"are more than {_MAX_PAIRS} pairs")
    if len({rules.key(each) for each in value if isinstance(each, str)}) < len(value):
        raise ValueError(rules.SAME_KEYS)
    return value


Time = Annotated[datetime, BeforeValidator(_time)]
# A field that may be missing may also be null, as an export of a table writes it: `Name | None = None`.
Actor = Annotated[str, text(TextForm.KEY, characters=128, blank=False)]
LongText = Annotated[str, text(octets=8192)]
Name = Annotated[str, text(TextForm.KEY, characters=256, blank=False, empty=True)]
Labels = Annotated[
    dict[
        Annotated[
            str, Field(min_length=1), text(TextForm.KEY, characters=_MAX_LABEL_CHARACTERS, blank=False)
        ],
        Annotated[str, text(characters=_MAX_LABEL_CHARACTERS)],
    ],
    BeforeValidator(_labels),
]


def wrong_fields(exc: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield each field that a validation refused and why. The value itself is never repeated."""
    for error in exc.errors(include_url=False, include_input=False):
        match error["type"]:
            case "missing":
                reason = "is required"
            case "extra_forbidden":
                reason = "is not a field of such a line"
            case "literal_error" | "enum":
                reason = f"expected {error['ctx']['expected'].replace(chr(39), '')}"
            case "json_invalid":
                reason = "is not JSON that can be kept: half of a character, or nested too deeply"
            case _:
                message = error["msg"].removeprefix("Value error, ")
                reason = message.replace("Input should be", "expected")
        yield _path(error["loc"]), reason


def _path(location: Sequence[int | str]) -> str:
    path = ""
    for part in location:
        if part == "[key]":
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{shown(part)}" if path else shown(part)
    return path


def out_of_order(times: Mapping[str, datetime | None], *, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield each time that lies after `now` or before one named earlier; those that are None are left out."""
    latest: tuple[str, datetime] | None = None
    for field, time in times.items():
        if time is None:
            continue
        if time > now:
            yield field, "lies in the future"
        if latest is not None and time < latest[1]:
            yield field, f"is before {latest[0]}"
        else:
            latest = (field, time)
