"""The results of the checks, as lines for people and as JSON for programs."""

import json
from collections.abc import Sequence

from flywheel.doctor.checks import Result, Status

_MARKS = {Status.OK: "ok", Status.FAILED: "FAILED", Status.NOT_RUN: "not run"}


def to_text(results: Sequence[Result]) -> str:
    """Return a line for each check, with what to do below one that failed, and a summary."""
    widths = [
        max(len(_MARKS[result.status]) for result in results),
        max(len(result.name) for result in results),
    ]
    lines = []
    for result in results:
        lines.append(f"{_MARKS[result.status]:<{widths[0]}}  {result.name:<{widths[1]}}  {result.detail}")
        if result.advice:
            lines.append(f"{'':<{widths[0]}}  {'':<{widths[1]}}  -> {result.advice}")
    counts = {status: sum(result.status is status for result in results) for status in Status}
    shown = ", ".join(f"{count} {_MARKS[status]}" for status, count in counts.items() if count)
    return "\n".join([*lines, shown])


def to_json(results: Sequence[Result]) -> str:
    """Return the same for a program."""
    return json.dumps(
        {
            "ok": is_well(results),
            "checks": [
                {
                    "name": result.name,
                    "status": result.status.replace(" ", "_"),
                    "detail": result.detail,
                    "advice": result.advice,
                    "seconds": round(result.seconds, 3),
                }
                for result in results
            ],
        },
        indent=2,
    )


def is_well(results: Sequence[Result]) -> bool:
    """Tell whether every check is OK."""
    return all(result.status is Status.OK for result in results)
