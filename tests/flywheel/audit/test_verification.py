"""What `flywheel audit verify` finds: every edit of an export, also one whose digest was made anew."""

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import pytest

from flywheel.audit.lines import parse
from flywheel.audit.verification import Head
from tests.flywheel.audit.exports import export, hash_of, is_found, problems, record, seeded, written

EDITS = 10_000
Lines = list[dict[str, Any]]


def heads(lines: Lines) -> list[Head]:
    return [
        Head(each["service"], each["chain"], each["sequence"], each["hash"])
        for each in lines
        if each["kind"] == "head"
    ]


def test_an_unchanged_export_has_no_problem() -> None:
    lines = export(1)
    assert problems(written(lines), anchors=heads(lines)) == []


def test_an_export_without_any_record_has_no_problem() -> None:
    assert problems(written(export(1, chains=()))) == []


def test_10_000_random_edits_of_the_bytes_of_an_export_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # The lines that no edit has touched are the same every time.
    monkeypatch.setattr("flywheel.audit.verification.parse", cache(parse))
    random = seeded(20261127)
    data = b"".join(written(export(2, records=1)))
    lines = data.splitlines(keepends=True)
    missed = []
    for number in range(EDITS):
        position = random.randrange(len(data))
        edited = {
            # A byte for another one, a byte more, some bytes less, or the rest.
            0: lambda at: data[:at] + bytes([data[at] ^ random.randrange(1, 256)]) + data[at + 1 :],
            1: lambda at: data[:at] + random.randbytes(1) + data[at:],
            2: lambda at: data[:at] + data[at + random.randrange(1, 200) :],
            3: lambda at: data[:at],
        }[number % 4](position)
        if edited != data and not is_found(edited.splitlines(keepends=True)):
            missed.append((number, position))
    assert missed == []
    assert not is_found(lines)


def _change_field(random: Random, lines: Lines) -> None:
    """Change a field of a record, to a value that it could have; by half of the forgers with a hash that fits."""
    edited = random.choice([each for each in lines if each["kind"] == "record"])
    name = random.choice([name for name in edited if name not in ("kind", "hash")])
    values: dict[str, Any] = {
        "digest": random.randbytes(32).hex(),
        "previous": random.randbytes(32).hex(),
        "targets": [*edited["targets"], "APR-20261127-000000"],
        "time": edited["time"].replace("2026", "2025"),
    }
    number = isinstance(edited[name], int)
    edited[name] = values.get(name, edited[name] + 1 if number else f"{edited[name]}x")
    if random.random() < 0.5:
        edited["hash"] = hash_of(edited)


def _change_actor(random: Random, lines: Lines) -> None:
    random.choice([each for each in lines if each["kind"] == "record"])["actor"] += "x"


def _records_of(lines: Lines) -> list[int]:
    return [number for number, each in enumerate(lines) if each["kind"] == "record"]


def _delete(random: Random, lines: Lines) -> None:
    del lines[random.choice(_records_of(lines))]


def _delete_many(random: Random, lines: Lines) -> None:
    start = random.choice(_records_of(lines))
    del lines[start : start + random.randrange(1, 4)]


def _swap(random: Random, lines: Lines) -> None:
    one, other = random.sample(_records_of(lines), 2)
    lines[one], lines[other] = lines[other], lines[one]


def _repeat(random: Random, lines: Lines) -> None:
    lines.insert(random.choice(_records_of(lines)), lines[random.choice(_records_of(lines))])


def _insert(random: Random, lines: Lines) -> None:
    """Insert a record of its own behind the first of a chain, which it follows."""
    at = random.choice([number for number in _records_of(lines) if lines[number]["sequence"] == 1])
    before = lines[at]
    forged = record(random, before["service"], before["chain"], before["sequence"] + 1, before["hash"])
    lines.insert(at + 1, forged)


def _change_head(random: Random, lines: Lines) -> None:
    head = random.choice([each for each in lines if each["kind"] == "head"])
    head["sequence"], head["hash"] = head["sequence"] + 1, random.randbytes(32).hex()


def _delete_head(random: Random, lines: Lines) -> None:
    lines.remove(random.choice([each for each in lines if each["kind"] == "head"]))


def _delete_section(random: Random, lines: Lines) -> None:
    """Delete a service's records, its heads left as they are."""
    service = random.choice(["incident", "approval"])
    lines[:] = [each for each in lines if (each["kind"], each.get("service")) != ("record", service)]


@pytest.mark.parametrize(
    "forge",
    [
        _change_field,
        _delete,
        _delete_many,
        _swap,
        _repeat,
        _insert,
        _change_head,
        _delete_head,
        _delete_section,
    ],
    ids=lambda forge: forge.__name__.strip("_"),
)
def test_a_forger_who_makes_the_digest_of_the_export_anew_is_found(
    forge: Callable[[Random, Lines], None],
) -> None:
    original = written(export(3, records=2))
    missed = []
    for seed in range(200):
        lines = export(3, records=2)
        forge(seeded(seed), lines)
        forged = written(lines)
        if forged != original and not is_found(forged):
            missed.append(seed)
    assert missed == []


def _chained_anew(lines: Lines) -> Lines:
    """What a forger writes who makes every hash anew: as good as an export can be."""
    found: Lines = []
    last: dict[tuple[str, int], tuple[int, str]] = {}
    for each in lines:
        key = (each.get("service", ""), each.get("chain", -1))
        anew = dict(each)
        if each["kind"] == "record":
            sequence, previous = last.get(key, (0, "0" * 64))
            anew |= {"sequence": sequence + 1, "previous": previous}
            anew["hash"] = hash_of(anew)
            last[key] = (anew["sequence"], anew["hash"])
        if each["kind"] == "head":
            anew["sequence"], anew["hash"] = last.get(key, (0, "0" * 64))
        found.append(anew)
    return found


@pytest.mark.parametrize(
    "forge", [_change_actor, _delete, _insert], ids=lambda forge: forge.__name__.strip("_")
)
def test_a_forger_who_makes_every_hash_anew_is_found_by_heads_that_were_kept(
    forge: Callable[[Random, Lines], None],
) -> None:
    kept = heads(export(4, services=["incident"]))
    for seed in range(20):
        lines = export(4, services=["incident"])
        forge(seeded(seed), lines)
        assert problems(written(_chained_anew(lines)), anchors=kept), seed


def test_an_end_that_is_cut_off_is_found_by_heads_alone() -> None:
    """An export that never had its last records is a good one: no export can show that."""
    lines = export(5, services=["incident"], records=3)
    shorter = _chained_anew([each for each in lines if each.get("sequence") != 3 or each["kind"] == "head"])
    assert problems(written(shorter)) == []
    (first, second) = problems(written(shorter), anchors=heads(lines))
    assert first.reason == "incident, chain 3: record 3, an expected head, is missing"
    assert "chain 7" in second.reason


def test_an_export_that_has_grown_contains_the_heads_of_an_older_one() -> None:
    older, newer = export(6, records=2, chains=[3]), export(6, records=2, chains=[3, 7])
    assert problems(written(newer), anchors=heads(older)) != []
    grown = export(6, services=["incident"], records=4, chains=[3])
    kept = heads(export(6, services=["incident"], records=2, chains=[3]))
    assert problems(written(grown), anchors=kept) == []


def _pruned(lines: Lines, *, says_so: bool) -> Lines:
    """The export after the removal of the first record of chain 3."""
    first, *rest = [each for each in lines if each["kind"] == "record"]
    last = rest[-1]
    prune = {**last, "sequence": last["sequence"] + 1, "previous": last["hash"], "operation": "audit/prune"}
    prune |= {"method": "database", "targets": [f"3:{first['sequence']}:{first['hash']}"]}
    prune["hash"] = hash_of(prune)
    records = [*rest, prune] if says_so else rest
    head = {"sequence": records[-1]["sequence"], "hash": records[-1]["hash"]}
    others = [each for each in lines if each["kind"] not in ("record", "header")]
    return [lines[0], *records, *({**each, **head} if each.get("chain") == 3 else each for each in others)]


def test_a_chain_whose_beginning_was_removed_needs_the_record_of_it() -> None:
    lines = export(7, services=["incident"], chains=[3])
    assert problems(written(_pruned(lines, says_so=True))) == []
    (problem,) = problems(written(_pruned(lines, says_so=False)))
    assert problem.reason == "chain 3 does not begin with 1, and no record in it says why"


def test_a_line_that_is_not_of_an_export_is_named() -> None:
    lines = written(export(8))
    lines[2] = lines[2].replace(b'"actor"', b'"Actor"')
    assert problems(lines)[0].line == 3
    assert problems([b"\n"])[0].reason == "is not JSON"
    assert problems([])[0].reason == "there is no export in it"
    assert "truncated" in problems(written(export(8))[:-1])[0].reason
