"""The output of `flywheel demo`: acts, checked numbers, progress bars."""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress
from rich.status import Status

from flywheel.errors import FlywheelError
from flywheel.system.progress_bars import progress_bars

_CONCURRENT_CALLS = 16
_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 0.25

Item = TypeVar("Item")
Result = TypeVar("Result")


class DemoOutput:
    """Prints to standard output; spinners and bars appear on a terminal only."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    def status(self, text: str) -> AbstractContextManager[Status]:
        """Show a spinner with `text` for a block."""
        return self._console.status(text)

    def working(self, text: str) -> AbstractContextManager[Status]:
        """Print `text`, and show a spinner for a block that takes long."""
        self.note(text)
        return self.status("downloading")

    def act(self, title: str, why: str) -> None:
        """Print the heading of an act."""
        self._console.print(f"\n[bold]{title}[/] [dim]- {why}[/]")

    def note(self, text: str) -> None:
        """Print a line under the act."""
        self._console.print(f"    {escape(text)}")

    def restart_clock(self) -> None:
        """Count the times of steps from now on."""
        self._started = time.monotonic()

    def step(self, text: str) -> None:
        """Print what has happened, and when."""
        seconds = time.monotonic() - self._started
        self._console.print(f"  [green]✓[/] [dim]{seconds:5.1f} s[/]  {escape(text)}")

    def check(self, what: str, value: float | None, expected: float | None) -> None:
        """Print a number. Raises FlywheelError when it is not the expected one."""
        shown = "nothing" if value is None else f"{value:g}"
        if value != expected:
            raise FlywheelError(
                f"{what}: {shown}, and it must be {expected:g}" if expected is not None else what
            )
        self._console.print(f"  [green]✓[/] {what}: [bold]{shown}[/]")

    def end(self, text: str) -> None:
        """Print the last line."""
        self._console.print(f"\n[bold green]{text}[/]")

    def run_each(self, what: str, items: Iterable[Item], call: Callable[[Item], Result]) -> Sequence[Result]:
        """Call for each item, concurrently, with a progress bar; return the results in the order of the items."""
        work = list(items)
        with self._bar() as bar, ThreadPoolExecutor(_CONCURRENT_CALLS) as callers:
            task = bar.add_task(what, total=len(work))
            results: list[Result] = []
            try:
                for result in callers.map(call, work):
                    results.append(result)
                    bar.advance(task)
            finally:
                # After a signal only the calls in flight are waited for.
                callers.shutdown(cancel_futures=True)
            return results

    def run_until(self, what: str, target: float, read: Callable[[], tuple[Result, float | None]]) -> Result:
        """Read, with a progress bar, until the progress that comes with a result is `target`; return that result.

        Raises FlywheelError after a timeout.
        """
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        with self._bar() as bar:
            task = bar.add_task(what, total=target)
            while True:
                result, reached = read()
                bar.update(task, completed=reached or 0)
                if reached == target:
                    return result
                if time.monotonic() > deadline:
                    raise FlywheelError(f"{what}: at {reached} of {target} after {_TIMEOUT_SECONDS:.0f} s")
                time.sleep(_POLL_SECONDS)

    def await_result(self, read: Callable[[], Result | None], seconds: float) -> Result | None:
        """Read until there is a result, and return it; None when there is none in time.

        A program that does not respond has none.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                if result := read():
                    return result
            except OSError:
                pass
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_SECONDS)

    def _bar(self) -> Progress:
        return progress_bars(self._console, label_width=28, amount=MofNCompleteColumn())
