"""The use case of the execution log."""

from collections.abc import Sequence
from dataclasses import dataclass

from approval.execution import log_repository
from approval.execution.model import ExecutionFilter, LoggedExecution
from servicekit.outbox.transaction import Transactions
from servicekit.rpc.paging import read_page, text_bytes


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    """A page of executions; `next_before` is the id before which the next page starts, None on the last."""

    executions: Sequence[LoggedExecution]
    next_before: int | None


class ExecutionLogUseCase:
    """The execution log over one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def list(self, criteria: ExecutionFilter, *, before: int | None, page_size: int) -> ExecutionPage:
        """Return the page of executions older than the id `before` (None: the newest)."""
        # Of one snapshot: what changes meanwhile does not move where the page ends.
        async with self._transactions.snapshot() as connection:
            page, next_before = await read_page(
                lambda behind, limit: log_repository.list_executions(
                    connection, criteria, before=behind, limit=limit
                ),
                examined_to=lambda behind: log_repository.examined_to(connection, criteria, before=behind),
                after=before,
                position=lambda each: each.execution_id,
                page_size=page_size,
                size=lambda each: text_bytes(each.output, each.error),
            )
        return ExecutionPage(page, next_before)
