"""A page is of one snapshot: what changes while it is read moves nothing over its end."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from incident.lifecycle import listing
from incident.lifecycle.model import IncidentFilter, Order
from incident.lifecycle.use_cases import IncidentUseCases
from incident.model import State
from servicekit.database.engine import create_engine
from servicekit.database.examined import MAX_EXAMINED
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.approval.schemas import incident_database, rows

_WANTED = {"wanted": "yes"}
_OPEN = """
    INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, opened_by,
        content_hash, create_time)
    SELECT 'INC-20260507-' || lpad(number::text, 6, '0'), 'one of many', '', 'HIGH', 'OPEN', '',
        CASE WHEN number = $1::int THEN '{"wanted": "yes"}'::jsonb ELSE '{}' END, '', '', '', now() + make_interval(secs => number)
    FROM generate_series(1, $1::int) AS number
"""
_RESOLVE_FIRST = "UPDATE incidents SET state = 'RESOLVED', resolve_time = now(), resolution_type = 'HUMAN', resolution_number = 1 WHERE incident_id = 'INC-20260507-000001'"


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    async with incident_database() as found:
        await rows(found, _OPEN, MAX_EXAMINED + 1)
        yield found


async def test_an_incident_that_leaves_a_list_while_a_page_is_read_hides_no_other(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    examined_to = listing.examined_to

    async def resolves_meanwhile(*arguments: Any, **named: Any) -> Any:
        await rows(url, _RESOLVE_FIRST)
        return await examined_to(*arguments, **named)

    monkeypatch.setattr(listing, "examined_to", resolves_meanwhile)
    engine = create_engine(url, application_name="tests", pool_size=1)
    try:
        transactions = Transactions(engine, Outbox())
        incidents = IncidentUseCases(transactions, reads=transactions, stuck_after=timedelta(hours=1))
        wanted = IncidentFilter(states=(State.OPEN,), labels=_WANTED, order=Order.CREATE_TIME_ASC)
        page_of = partial(incidents.list, wanted, page_size=10)
        first = await page_of(after=None)
        assert (first.incidents, first.next_position is None) == ([], False)
        second = await page_of(after=first.next_position)
        assert [dict(each.labels) for each in second.incidents] == [_WANTED]
    finally:
        await engine.dispose()
