"""Search in the knowledge base, and its index."""

from collections.abc import Sequence

from incident.knowledge import repository, search_repository
from incident.knowledge.model import KnowledgePage, KnowledgePosition
from incident.knowledge.text import read_query
from incident.model import ResolutionType
from servicekit.outbox.transaction import Transactions
from servicekit.rpc.paging import cut_page, text_bytes

# Entries indexed in one transaction: so few that no lock is held, and no other work of the process waits, for long.
_INDEX_BATCH = 20


class KnowledgeUseCases:
    """The use cases on knowledge over one database."""

    def __init__(self, transactions: Transactions, *, reads: Transactions) -> None:
        """`reads` serves searches."""
        self._transactions = transactions
        self._reads = reads

    async def search(
        self,
        query: str,
        *,
        types: Sequence[ResolutionType],
        after: KnowledgePosition | None,
        page_size: int,
    ) -> KnowledgePage:
        """Return a page of the resolutions of similar incidents, best match first."""
        async with self._reads.statement() as connection:
            found = await search_repository.search(
                connection, read_query(query), types=types, after=after, limit=page_size + 1
            )
        page, more = cut_page(
            found,
            page_size,
            lambda each: text_bytes(each.entry.symptoms, each.entry.resolution, each.entry.action),
        )
        return KnowledgePage(page, page[-1].position if more else None)

    async def index_batch(self) -> bool:
        """Index a batch of entries that an older version has written or changed; returns whether there may be more."""
        async with self._transactions.begin() as transaction:
            return await repository.index_batch(transaction.connection, limit=_INDEX_BATCH) == _INDEX_BATCH
