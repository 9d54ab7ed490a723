"""The output of an import in progress, one JSON object a line, and its one input: the confirmation to write.

Written for the `flywheel` command, which runs the imports of both services and lets none write before both have found
their lines without fault. `event` is `progress`, `problem`, `checked` or `done`.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence

from servicekit.importing.lines import Problem

# What is answered to `checked`; anything else, the end of the input too, leaves everything unwritten.
WRITE = "write"


class Conversation:
    """Writes events to standard output; with `ask` waits on standard input before anything is written."""

    def __init__(self, files: Sequence[str], *, ask: bool) -> None:
        self._files = files
        self._ask = ask

    def progress(self, phase: str, done: int, total: int) -> None:
        """Say how far a phase is: `check` counts bytes, `write` rows."""
        self._say("progress", {"phase": phase, "done": done, "total": total})

    def problem(self, problem: Problem) -> None:
        """Name a bad line."""
        self._say(
            "problem",
            {
                "file": self._files[problem.file],
                "line": problem.line,
                "field": problem.field,
                "reason": problem.reason,
            },
        )

    async def may_write(self) -> bool:
        """Say that every line is good, and return whether they may be written."""
        self._say("checked", {})
        if not self._ask:
            return True
        answer: str = await asyncio.to_thread(sys.stdin.readline)
        return answer.strip() == WRITE

    def done(self, counts: Mapping[str, int]) -> None:
        """Report what was written."""
        self._say("done", counts)

    @staticmethod
    def _say(event: str, facts: Mapping[str, object]) -> None:
        sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
        sys.stdout.flush()
