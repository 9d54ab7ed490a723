"""What a service reads of its own for Watch."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.watch.change_table import ChangeTable
from servicekit.watch.model import ChangeT_co, Position, RecordT_co, Witness

CriteriaT_contra = TypeVar("CriteriaT_contra", contravariant=True)


class ChangeSource(Protocol[CriteriaT_contra, ChangeT_co, RecordT_co]):
    """The changes of a service, and its records."""

    table: ChangeTable

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
