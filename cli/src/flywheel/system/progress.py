"""What is being done right now, shown to someone who watches."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status


class Progress:
    """Steps on a terminal's standard error: a spinner that goes when the block ends. Silent elsewhere."""

    def __init__(self) -> None:
        self._status: Status | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the steps of a block."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console  # noqa: PLC0415 - its time is for those who see something of it

        with Console(stderr=True).status("") as self._status:
            yield
        self._status = None

    def step(self, text: str) -> None:
        """Say what is being done from now on."""
        if self._status is not None:
            self._status.update(f"{text} …")
