"""The current step of a longer command, on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status


class Steps:
    """A spinner on standard error that names the current step. Silent when that is not a terminal."""

    def __init__(self) -> None:
        self._status: Status | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the spinner for a block."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console  # noqa: PLC0415 - slow to import, and not needed without a terminal

        with Console(stderr=True).status("") as self._status:
            yield
        self._status = None

    def step(self, text: str) -> None:
        """Show `text` as the current step."""
        if self._status is not None:
            self._status.update(f"{text} …")
