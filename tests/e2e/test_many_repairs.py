"""Many repairs, half of them useless: none is wrongly resolved."""

from tests.e2e.many_repairs import run


async def test_of_many_repairs_half_of_them_useless_none_is_wrongly_resolved() -> None:
    outcome = await run(repairs=12, kills=1, seed=7)
    assert outcome.wrong == []
    assert (outcome.verified, outcome.not_recovered, outcome.resolved_twice) == (6, 6, 0)
