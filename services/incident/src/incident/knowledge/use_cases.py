"""Search in the knowledge base."""

from collections.abc import Sequence

from incident.knowledge import repository
from incident.knowledge.model import KnowledgePage, KnowledgePosition
from incident.model import ResolutionType
from servicekit.outbox.transaction import Transactions
from servicekit.rpc.paging import cut_page, text_bytes


class KnowledgeUseCases:
    """The use cases on knowledge over one database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def search(
        self,
        query: str,
        *,
        types: Sequence[ResolutionType],
        after: KnowledgePosition | None,
        page_size: int,
    ) -> KnowledgePage:
        """Return a page of the resolutions of similar incidents, best match first."""
        async with self._transactions.statement() as connection:
            found = await repository.search(connection, query, types=types, after=after, limit=page_size + 1)
        page, more = cut_page(
            found,
            page_size,
            lambda each: text_bytes(each.entry.symptoms, each.entry.resolution, each.entry.action),
        )
        return KnowledgePage(page, page[-1].position if more else None)
