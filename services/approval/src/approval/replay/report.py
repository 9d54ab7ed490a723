"""The result of a replay, as a table for people and as JSON for programs."""

import json
from collections.abc import Sequence

from approval.replay.model import Kind, Replay, Verdict, is_changed

_SENTENCES = {
    Kind.APPROVED: "approved by people",
    Kind.REJECTED: "rejected by people",
    Kind.CANCELLED: "cancelled",
    Kind.SUPERSEDED: "superseded",
    Kind.EXPIRED: "expired undecided",
    Kind.PENDING: "waits for people",
    Kind.PEOPLE: "people decide",
    Kind.UNKNOWN: "depends on the severity, which is not stored",
}
_HEADINGS = ("PROPOSALS", "DECIDED", "NEW DECISION", "EXAMPLES")


def to_text(replay: Replay, *, since: str) -> str:
    """Return the table: first what changes, marked with a star."""
    rows = [_HEADINGS] + [
        (
            f"{'* ' if is_changed(before, after) else '  '}{cell.count}",
            _sentence(before),
            _sentence(after),
            ", ".join(cell.examples),
        )
        for before, after, cell in replay.cells()
    ]
    number, changed = replay.proposals, replay.changed
    proposals = f"{number} {'proposal' if number == 1 else 'proposals'} {since}".rstrip()
    summary = (
        f"{proposals}: the policy decides {changed} otherwise (*)"
        if changed
        else f"{proposals}: no difference"
    )
    return "\n".join([*(_columns(rows) if number else []), summary])


def to_json(replay: Replay, *, file: str, since: str) -> str:
    """Return the same for a program."""
    return json.dumps(
        {
            "file": file,
            "since": since,
            "proposals": replay.proposals,
            "changed": replay.changed,
            "decisions": [
                {
                    "before": _fields(before),
                    "after": _fields(after),
                    "changed": is_changed(before, after),
                    "count": cell.count,
                    "examples": cell.examples,
                }
                for before, after, cell in replay.cells()
            ],
        },
        indent=2,
    )


def _sentence(verdict: Verdict) -> str:
    return f"rule {verdict.rule}" if verdict.kind is Kind.RULE else _SENTENCES[verdict.kind]


def _fields(verdict: Verdict) -> dict[str, str]:
    return {"kind": verdict.kind, **({"rule": verdict.rule} if verdict.rule else {})}


def _columns(rows: Sequence[tuple[str, ...]]) -> Sequence[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
