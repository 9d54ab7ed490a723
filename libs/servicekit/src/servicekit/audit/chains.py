"""The chains of a database. A transaction appends to one, whose head it locks last of all and until it commits."""

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

# As many as there are rows in audit_chains. One chain would let one transaction commit at a time.
CHAINS = 32


class Chains:
    """Chooses chains: within a process no two transactions append to one, and between processes they seldom do."""

    def __init__(self) -> None:
        order = list(range(CHAINS))
        random.shuffle(order)
        self._free = deque(order)

    @contextmanager
    def take(self) -> Iterator[int]:
        """Yield the number of a chain that no other block in this process has; of any one when all are taken."""
        if not self._free:
            yield random.randrange(CHAINS)  # noqa: S311 - spreading load, not a secret
            return
        chain = self._free.popleft()
        try:
            yield chain
        finally:
            # The longest unused next: two processes that meet on a chain part again.
            self._free.append(chain)
