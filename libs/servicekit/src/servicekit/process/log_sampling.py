"""Repeated lines of the log are sampled: the first ones of an interval are logged, the rest is counted and reported.

A caller can cause a line with every call, as fast as it calls. Of each event so many lines of one peer are logged in a minute,
and so many of all peers; of what no call causes, more. Nothing is left out silently, errors included: one line `suppressed`
for each event says how many there were, and `log_suppressed_total` counts them.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import structlog

# The peer whose call a task serves. Tasks that the call starts are others: what they do is no line of the peer's.
_caller: ContextVar[tuple[str, object] | None] = ContextVar("caller", default=None)
# More peers than that in one interval share one count.
_MAX_KEYS = 1000
_OTHERS = "others"


@dataclass(frozen=True, slots=True)
class SamplingLimits:
    """How many lines of one event are logged in an interval: of one peer's calls, of all calls, and of no call."""

    of_peer: int = 100
    of_calls: int = 300
    of_no_call: int = 1000
    interval_seconds: float = 60.0


def serve_peer(peer: str) -> None:
    """Say that the current task serves a call of this peer, until it ends."""
    _caller.set((peer, asyncio.current_task()))


def _current_peer() -> str | None:
    caller = _caller.get()
    if caller is None:
        return None
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return caller[0] if task is caller[1] else None


class LogSampler:
    """Decides which lines are logged. Safe to use from several threads."""

    def __init__(
        self,
        report: Callable[[Mapping[str, object]], None],
        *,
        limits: SamplingLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` writes the fields of a line `suppressed`."""
        self.suppressed: Counter[str] = Counter()
        self._report = report
        self._limits = limits or SamplingLimits()
        self._clock = clock
        self._lock = threading.RLock()
        self._since = clock()
        # Of this interval: lines by event and peer (None: of no call), those of all calls by event, and those left out.
        self._lines: Counter[tuple[str, str | None]] = Counter()
        self._of_calls: Counter[str] = Counter()
        self._suppressed: dict[str, Counter[str | None]] = {}

    def admits(self, event: str) -> bool:
        """Count a line of this event, and return whether to log it."""
        peer = _current_peer()
        with self._lock:
            if self._clock() - self._since >= self._limits.interval_seconds:
                self.flush()
            if peer is not None and (event, peer) not in self._lines and len(self._lines) >= _MAX_KEYS:
                peer = _OTHERS
            self._lines[event, peer] += 1
            if peer is None:
                is_logged = self._lines[event, peer] <= self._limits.of_no_call
            else:
                is_logged = self._lines[event, peer] <= self._limits.of_peer
                if is_logged:
                    self._of_calls[event] += 1
                    is_logged = self._of_calls[event] <= self._limits.of_calls
            if not is_logged:
                self._suppress(event, peer)
        return is_logged

    def flush(self) -> None:
        """Report what was left out, and begin another interval."""
        with self._lock:
            now = self._clock()
            seconds, self._since = now - self._since, now
            self._lines.clear()
            self._of_calls.clear()
            suppressed, self._suppressed = self._suppressed, {}
        for event, by_peer in suppressed.items():
            peers = [peer for peer in by_peer if peer is not None]
            self._report(
                {
                    "of": event,
                    "lines": by_peer.total(),
                    "seconds": round(seconds),
                    **(
                        {"peers": len(peers), "most_by": max(peers, key=by_peer.__getitem__)} if peers else {}
                    ),
                }
            )

    def _suppress(self, event: str, peer: str | None) -> None:
        self.suppressed[event] += 1
        if not self._suppressed:
            self._flush_later()
        self._suppressed.setdefault(event, Counter())[peer] += 1

    def _flush_later(self) -> None:
        # So that it is reported although no other line may follow. Without a loop the next line or the end does it.
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        remaining = self._since + self._limits.interval_seconds - self._clock()
        loop.call_later(max(remaining, 0.0), self.flush)

    def processor(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Drop what is not to be logged: a processor of structlog."""
        if not self.admits(str(event.get("event"))):
            raise structlog.DropEvent
        return event
