"""What ended by itself is started again; what keeps ending ends everything."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flywheel.errors import FlywheelError
from flywheel.system.log_files import tail

# The pauses before the restarts within one window; after as many the part is given up.
_PAUSES_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)
_WINDOW_SECONDS = 60.0


class Part(Protocol):
    """Something that runs until it is stopped."""

    @property
    def name(self) -> str:
        """How it is called in messages."""

    @property
    def log_path(self) -> Path:
        """Where it says why it ended."""

    def how_it_ended(self) -> str | None:
        """Return in words how it ended by itself; None when it runs or was stopped."""

    def why_it_ended(self) -> str:
        """Return the line of its log that says why; empty when there is none."""

    def restart(self) -> None:
        """Start it again."""


@dataclass(slots=True)
class _History:
    ends: deque[float] = field(default_factory=deque)
    restart_time: float | None = None


class Supervisor:
    """Looks after parts whenever `check` is called; `say` gets a line for each end."""

    def __init__(
        self, parts: Sequence[Part], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._parts = [(part, _History()) for part in parts]
        self._say = say
        self._clock = clock

    def check(self) -> None:
        """Restart what ended, each at its time. Raises FlywheelError with the end of the log when one keeps ending."""
        for part, history in self._parts:
            ended = part.how_it_ended()
            if ended is None:
                history.restart_time = None
            elif history.restart_time is None:
                self._plan(part, history, ended)
            if history.restart_time is not None and self._clock() >= history.restart_time:
                history.restart_time = None
                part.restart()

    def _plan(self, part: Part, history: _History, ended: str) -> None:
        now = self._clock()
        while history.ends and history.ends[0] <= now - _WINDOW_SECONDS:
            history.ends.popleft()
        if len(history.ends) == len(_PAUSES_SECONDS):
            raise FlywheelError(
                f"{part.name} keeps ending ({ended}; {len(history.ends)} restarts within a minute)",
                advice=f"see {part.log_path}",
                details=tail(part.log_path),
            )
        pause = _PAUSES_SECONDS[len(history.ends)]
        history.ends.append(now)
        history.restart_time = now + pause
        why = part.why_it_ended()
        self._say(
            f"{part.name} ended ({ended}); starting it again"
            + (f" in {pause} s" if pause else "")
            + (f": {why}" if why else "")
        )
