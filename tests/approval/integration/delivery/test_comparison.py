"""The periodic comparison: what changed last every time, the others in turn, all of it at once when something differs."""

from collections.abc import AsyncIterator, Sequence
from itertools import chain

import asyncpg
import pytest_asyncio

from approval.delivery.comparison import Comparison
from approval.delivery.model import ComparedApproval, LookedUp
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.approval.schemas import rows
from tests.calls import TESTER

BATCH = 2


class Lookups:
    """An incident service that knows all incidents by default."""

    def __init__(self) -> None:
        self.looked_up: list[list[str]] = []
        self.lost: set[str] = set()
        self.answers = True

    async def look_up(self, approvals: Sequence[ComparedApproval]) -> Sequence[LookedUp] | None:
        """What is known of each."""
        self.looked_up.append([each.approval_id[-2:] for each in approvals])
        if not self.answers:
            return None
        return [LookedUp(each.approval_id[-2:] not in self.lost, False) for each in approvals]


@pytest_asyncio.fixture
async def transactions(database: str) -> AsyncIterator[Transactions]:
    engine = create_engine(database, application_name="tests", pool_size=2)
    yield Transactions(engine, Outbox())
    await engine.dispose()


async def proposed(database: str, number: int) -> None:
    """Insert pending approvals; a higher number changed later."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            """
            INSERT INTO approvals (approval_id, incident_id, action, operation_kind, resource_kind, name, namespace, hook,
                parse_error, action_hash, risk, rationale, required_approvals, auto_execute, proposed_by,
                incident_verified, expire_time, content_hash, update_time)
            SELECT 'APR-20260507-0000' || to_char(number, 'FM00'), 'INC-20260507-0000' || to_char(number, 'FM00'), 'NO_ACTION',
                'NO_ACTION', '', '', '', '', '', '', 'LOW', '', 1, TRUE, 'ai', TRUE, now() + interval '1 day', '',
                now() - interval '1 hour' + make_interval(secs => number)
            FROM generate_series(1, $1::integer) AS number
            """,
            number,
        )
    finally:
        await connection.close()


async def period(comparison: Comparison) -> None:
    """Compare until the period ends."""
    while await comparison.compare_next(TESTER):
        pass


def descending(first: int, last: int) -> list[list[str]]:
    """The batches from one number down to another."""
    numbers = [f"{number:02}" for number in range(first, last - 1, -1)]
    return [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]


async def test_a_period_takes_ten_batches_and_the_next_goes_on_there_after_the_latest(
    database: str, transactions: Transactions
) -> None:
    await proposed(database, 25)
    lookups = Lookups()
    comparison = Comparison(transactions, lookups, batch=BATCH)
    await period(comparison)
    assert lookups.looked_up == descending(25, 6)
    lookups.looked_up.clear()
    await period(comparison)
    assert lookups.looked_up == [["25", "24"], *descending(5, 1)]
    lookups.looked_up.clear()
    await period(comparison)
    assert lookups.looked_up == descending(25, 6)


async def test_a_difference_among_the_latest_is_followed_to_the_end(
    database: str, transactions: Transactions
) -> None:
    await proposed(database, 49)
    lookups = Lookups()
    comparison = Comparison(transactions, lookups, batch=BATCH)
    await period(comparison)
    lookups.looked_up.clear()
    lookups.lost = {"49", "30", "02"}
    await period(comparison)
    assert sorted(chain(*lookups.looked_up)) == sorted(chain(*descending(49, 1)))
    marked = await rows(
        database,
        "SELECT right(approval_id, 2) FROM approvals WHERE incident_unknown_time IS NOT NULL ORDER BY 1",
    )
    assert marked == [("02",), ("30",), ("49",)]
    # The next period is an ordinary one, from the beginning: what was marked changed last.
    lookups.looked_up.clear()
    await period(comparison)
    assert lookups.looked_up[0] == ["02", "30"]
    assert len(lookups.looked_up) == 10


async def test_a_difference_in_a_later_batch_of_a_period_is_followed_to_the_end(
    database: str, transactions: Transactions
) -> None:
    await proposed(database, 49)
    lookups = Lookups()
    lookups.lost = {"32"}
    await period(Comparison(transactions, lookups, batch=BATCH))
    assert lookups.looked_up == descending(49, 1)


async def test_without_an_answer_a_period_ends_and_the_next_goes_on_at_the_same_place(
    database: str, transactions: Transactions
) -> None:
    await proposed(database, 25)
    lookups = Lookups()
    comparison = Comparison(transactions, lookups, batch=BATCH)
    lookups.answers = False
    await period(comparison)
    assert lookups.looked_up == [["25", "24"]]
    lookups.answers = True
    await period(comparison)
    lookups.looked_up.clear()
    lookups.answers = False
    await period(comparison)
    lookups.answers = True
    lookups.looked_up.clear()
    await period(comparison)
    assert lookups.looked_up == [["25", "24"], *descending(5, 1)]


async def test_approvals_that_changed_after_they_were_read_are_left_to_the_next_comparison(
    database: str, transactions: Transactions
) -> None:
    await proposed(database, 2)

    class Decided(Lookups):
        async def look_up(self, approvals: Sequence[ComparedApproval]) -> Sequence[LookedUp] | None:
            found = await super().look_up(approvals)
            await rows(database, "UPDATE approvals SET version = version + 1 WHERE approval_id LIKE '%01'")
            return found

    lookups = Decided()
    lookups.lost = {"01", "02"}
    found = await Comparison(transactions, lookups).compare(None, call=TESTER)
    assert found is not None
    assert [each[-2:] for each in found.unknown] == ["02"]


async def test_approvals_of_which_nothing_follows_any_more_are_not_compared(
    database: str, transactions: Transactions
) -> None:
    states = (
        "PENDING",
        "APPROVED",
        "REJECTED",
        "EXPIRED",
        "CANCELLED",
        "EXECUTING",
        "SUCCEEDED",
        "FAILED",
        "INDETERMINATE",
    )
    await proposed(database, len(states))
    for number, state in enumerate(states, 1):
        await rows(
            database,
            "UPDATE approvals SET state = $1 WHERE right(approval_id, 2) = $2",
            state,
            f"{number:02}",
        )
    lookups = Lookups()
    await Comparison(transactions, lookups).compare(None, call=TESTER)
    assert lookups.looked_up == [["09", "07", "06", "02", "01"]]
