"""Restarts parts that end by themselves, with backoff; a part that keeps ending ends the command."""

import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flywheel.errors import FlywheelError
from flywheel.system.log_files import tail

# The delays before the restarts within one window; after the last one the supervisor gives up.
_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)
_WINDOW_SECONDS = 60.0


class Part(Protocol):
    """Something that runs until it is stopped."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    @property
    def log_path(self) -> Path:
        """Its log."""

    def exit_status(self) -> str | None:
        """Return a description of how it ended by itself; None when it runs or was stopped."""

    def exit_reason(self) -> str:
        """Return the line of its log with the cause; empty when there is none."""

    def restart(self) -> None:
        """Start it again. Raises FlywheelError, OSError or SubprocessError when that fails."""


@dataclass(slots=True)
class _History:
    ends: deque[float] = field(default_factory=deque)
    restart_time: float | None = None
    # Whether the latest restart failed: such a part has not ended again, however long its restart took.
    failed: bool = False


class Supervisor:
    """Checks the parts on each call of `check`; `log` gets a line for each end."""

    def __init__(
        self, parts: Sequence[Part], log: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._parts = [(part, _History()) for part in parts]
        self._log = log
        self._clock = clock

    def check(self) -> None:
        """Restart the parts that ended and are due. Raises FlywheelError with the log's end when one keeps ending."""
        for part, history in self._parts:
            ended = part.exit_status()
            if ended is None:
                history.restart_time = None
            elif history.restart_time is None:
                self._plan(part, history, ended, part.exit_reason())
            if history.restart_time is not None and self._clock() >= history.restart_time:
                self._restart(part, history)

    def _restart(self, part: Part, history: _History) -> None:
        history.restart_time = None
        try:
            part.restart()
        except FlywheelError as exc:
            history.failed = True
            self._plan(part, history, "its restart failed", exc.message)
        except (OSError, subprocess.SubprocessError) as exc:
            history.failed = True
            self._plan(part, history, "its restart failed", str(exc))
        else:
            history.failed = False

    def _plan(self, part: Part, history: _History, ended: str, why: str) -> None:
        now = self._clock()
        while not history.failed and history.ends and history.ends[0] <= now - _WINDOW_SECONDS:
            history.ends.popleft()
        if len(history.ends) == len(_BACKOFF_SECONDS):
            raise FlywheelError(
                f"{part.name} keeps ending ({ended}; {len(history.ends)} restarts{'' if history.failed else ' within a minute'})",
                advice=f"see {part.log_path}",
                details=tail(part.log_path),
            )
        delay = _BACKOFF_SECONDS[len(history.ends)]
        history.ends.append(now)
        history.restart_time = now + delay
        self._log(
            f"{part.name} ended ({ended}); starting it again"
            + (f" in {delay} s" if delay else "")
            + (f": {why}" if why else "")
        )
