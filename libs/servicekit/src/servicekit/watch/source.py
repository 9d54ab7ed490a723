"""What a service reads of its own for Watch."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.watch.model import ChangeT_co, Position, RecordT_co, Watermark, Witness

CriteriaT_contra = TypeVar("CriteriaT_contra", contravariant=True)


class ChangeLog(Protocol):
    """Where the changes are written: what positions are made of is known to it alone."""

    @property
    def channel(self) -> str:
        """Where it is notified that changes were committed, while notifications are requested."""

    async def now(self, connection: AsyncConnection) -> Watermark:
        """Return the watermark of a statement that begins now."""

    async def poll(self, connection: AsyncConnection, since: Watermark) -> tuple[Watermark, bool]:
        """Return the watermark of a statement that begins now, and whether it has changes that `since` has not."""

    async def request_notifications(self, connection: AsyncConnection, wanted: bool) -> None:
        """Request notifications at commits of changes, or stop that. A request ends with its connection."""


class ChangeSource(Protocol[CriteriaT_contra, ChangeT_co, RecordT_co]):
    """The changes of a service, and its records."""

    @property
    def table(self) -> ChangeLog:
        """Where they are."""

    async def read_changes(
        self, connection: AsyncConnection, position: Position, *, limit: int
    ) -> Sequence[ChangeT_co]:
        """Return the next changes of the batch that `position` is in, at most `limit`; fewer when the batch ends with them."""

    async def has_witness(self, connection: AsyncConnection, witness: Witness) -> bool:
        """Tell whether a change is there that a watcher has seen, or would be without retention."""

    async def list_existing(
        self, connection: AsyncConnection, criteria: CriteriaT_contra, *, after: Any, limit: int
    ) -> tuple[Sequence[RecordT_co], Any]:
        """Return the next records that match, and the position after them, None after the last; `after` None: the first."""
