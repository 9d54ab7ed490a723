"""SearchKnowledge: earlier resolutions of a problem, their successes and times, best match first."""

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as pb
from tests.callers import Incidents
from tests.eventually import eventually
from tests.incident.incidents import HUMAN, NO_ACTION, token
from tests.incident.side_effects import KNOWLEDGE, SideEffect, ended, side_effects
from tests.outbox_due import make_due
from tests.rpc_errors import refused

if TYPE_CHECKING:
    import asyncpg

    Rows = asyncpg.Connection[asyncpg.Record]

AUTO_REPAIRED = incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED
RESTART = "RESTART deployment/api -n prod"
Matches = list[pb.SearchKnowledgeResponse.Match]


def word() -> str:
    """A word that no other test uses, that no digit makes look like an id, and that no word of a language is a part of."""
    return "".join("bcdfgjklmnqrvwxz"[int(digit, 16)] for digit in token())


async def learnt(
    incidents: Incidents,
    *,
    resolution_type: incident_pb2.ResolutionType.ValueType = HUMAN,
    note: str = "",
    action: str = "",
    rows: "Rows | None" = None,
    seconds: int = 0,
    **fields: Any,
) -> str:
    """Open an incident and resolve it after `seconds`; returns its id once its lesson is merged."""
    incident_id = (await incidents.opened(**fields)).incident_id
    if rows is not None:
        await rows.execute(
            "UPDATE incidents SET open_time = open_time - make_interval(secs => $1) WHERE incident_id = $2",
            float(seconds),
            incident_id,
        )
    await incidents.resolve(incident_id, resolution_type=resolution_type, note=note, action=action)
    await ended(incidents, incident_id)
    return incident_id


async def search(incidents: Incidents, query: str, **fields: Any) -> Matches:
    return list((await incidents.search_knowledge(query, **fields).page()).matches)


async def counts(incidents: Incidents, query: str) -> list[tuple[int, int]]:
    """How often each entry that is found was used, and how often it held."""
    return [(match.entry.use_count, match.entry.success_count) for match in await search(incidents, query)]


async def test_a_resolution_is_found_by_the_symptoms_of_its_problem(incidents: Incidents) -> None:
    name = word()
    incident_id = await learnt(
        incidents,
        title=f"{name} is filling its disk",
        description="97 % used",
        resolution_type=AUTO_REPAIRED,
        note="restarted it",
        action=RESTART,
    )
    (match,) = await search(incidents, f"{name} fills disks")
    entry = match.entry
    assert match.rank > 0
    assert (entry.incident_id, entry.resolution_type) == (incident_id, AUTO_REPAIRED)
    assert entry.symptoms == f"{name} is filling its disk\n97 % used"
    assert (entry.resolution, entry.action) == ("restarted it", RESTART)
    assert (entry.use_count, entry.success_count) == (1, 1)
    assert entry.create_time == entry.update_time
    assert 0 <= entry.mean_resolution_time.ToTimedelta().total_seconds() < 600


async def test_lessons_of_the_same_symptom_and_resolution_are_merged_into_one_entry(
    incidents: Incidents, rows: "Rows"
) -> None:
    name = word()
    first = await learnt(
        incidents,
        title=f"{name} pod-1 slow",
        note="waited",
        resolution_type=NO_ACTION,
        rows=rows,
        seconds=10_000,
    )
    (before,) = await search(incidents, name)
    await learnt(
        incidents, title=f"{name} pod-27 SLOW", note="", resolution_type=NO_ACTION, rows=rows, seconds=30_000
    )
    (match,) = await search(incidents, name)
    entry = match.entry
    assert (entry.knowledge_id, entry.incident_id) == (before.entry.knowledge_id, first)
    assert (entry.use_count, entry.success_count) == (2, 2)
    mean = entry.mean_resolution_time.ToTimedelta().total_seconds()
    assert mean == pytest.approx(20_000, abs=300)
    # A resolution without a note does not overwrite the text of an earlier one.
    assert entry.resolution == "waited"
    assert entry.create_time == before.entry.create_time
    assert entry.update_time.ToDatetime() > entry.create_time.ToDatetime()
    await learnt(incidents, title=f"{name} pod-3 slow", note="watched it", resolution_type=NO_ACTION)
    (match,) = await search(incidents, name)
    assert (match.entry.use_count, match.entry.resolution) == (3, "watched it")


OTHERS: dict[str, dict[str, Any]] = {
    "another way": {"resolution_type": HUMAN},
    "another action": {"action": "SCALE deployment/api --replicas=3 -n prod"},
    "other labels": {"labels": {"service": "web"}},
    "another fingerprint": {"fingerprint": "another"},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_another_symptom_or_another_resolution_is_an_entry_of_its_own(
    incidents: Incidents, other: dict[str, Any]
) -> None:
    usual: dict[str, Any] = {
        "title": f"{word()} slow",
        "resolution_type": AUTO_REPAIRED,
        "action": RESTART,
        "labels": {"service": "api"},
    }
    await learnt(incidents, **usual)
    await learnt(incidents, **(usual | other))
    assert await counts(incidents, usual["title"].split()[0]) == [(1, 1), (1, 1)]


async def test_incidents_with_one_fingerprint_share_an_entry_despite_other_words(
    incidents: Incidents,
) -> None:
    fingerprint, first, second = token(), word(), word()
    await learnt(incidents, title=f"{first} slow", fingerprint=fingerprint)
    await learnt(incidents, title=f"{second} down", fingerprint=fingerprint, labels={"a": "b"})
    assert await counts(incidents, first) == [(2, 2)]


async def test_concurrent_lessons_are_each_counted_once(incidents: Incidents) -> None:
    name = word()
    opened = await asyncio.gather(*(incidents.opened(title=f"{name} {n} down") for n in range(40)))
    await asyncio.gather(
        *(incidents.resolve(each.incident_id, resolution_type=HUMAN) for each in opened for _ in range(2))
    )
    for each in opened:
        await ended(incidents, each.incident_id)
    assert await counts(incidents, name) == [(40, 40)]


async def test_a_resolution_that_did_not_hold_counts_as_a_use_and_not_as_a_success(
    incidents: Incidents,
) -> None:
    name = word()
    held, failed = [await learnt(incidents, title=f"{name} {number} down") for number in (1, 2)]
    await incidents.reopen(failed, reason="it came back")
    assert await counts(incidents, name) == [(2, 1)]
    # The lesson of the second resolution must not be attributed to the first.
    await incidents.resolve(failed, resolution_type=HUMAN)
    await ended(incidents, failed, number=2)
    assert await counts(incidents, name) == [(3, 2)]
    await incidents.reopen(held, reason="this one, too")
    assert await counts(incidents, name) == [(3, 1)]


async def test_a_lesson_learnt_after_the_reopening_is_no_success(incidents: Incidents, rows: "Rows") -> None:
    name = word()
    incident_id = (await incidents.opened(title=f"{name} down")).incident_id
    await rows.execute("""
        CREATE FUNCTION not_now() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
        CREATE TRIGGER not_now BEFORE INSERT ON knowledge FOR EACH ROW EXECUTE FUNCTION not_now()
    """)
    try:
        await incidents.resolve(incident_id, resolution_type=HUMAN)
        failed = await eventually(
            lambda: side_effects(incidents, incident_id), lambda found: bool(found[KNOWLEDGE].last_error)
        )
        assert failed[KNOWLEDGE].state == SideEffect.STATE_PENDING
        await incidents.reopen(incident_id, reason="it came back")
        assert await search(incidents, name) == []
    finally:
        await rows.execute("DROP FUNCTION not_now CASCADE")
    await make_due(rows)
    await ended(incidents, incident_id)
    assert await counts(incidents, name) == [(1, 0)]


async def test_matches_are_ranked_by_common_words_then_by_successes(incidents: Incidents) -> None:
    one, two = word(), word()
    await learnt(incidents, title=f"{one} down")
    await learnt(incidents, title=f"{one} {two} down")
    for number in range(3):
        await learnt(incidents, title=f"{two} down {number}")
    found = await search(incidents, f"{one} {two}")
    first = found[0].entry.symptoms
    assert first == f"{one} {two} down"
    assert [match.entry.use_count for match in found] == [1, 3, 1]
    for better, worse in pairwise(found):
        assert better.rank >= worse.rank
    assert found[0].rank > found[1].rank


async def test_matches_are_filtered_by_resolution_type(incidents: Incidents) -> None:
    name = word()
    for resolution_type in (HUMAN, NO_ACTION, AUTO_REPAIRED):
        await learnt(incidents, title=f"{name} down", resolution_type=resolution_type)

    async def found(*types: int) -> set[int]:
        return {
            match.entry.resolution_type for match in await search(incidents, name, resolution_types=types)
        }

    assert await found() == {HUMAN, NO_ACTION, AUTO_REPAIRED}
    assert await found(HUMAN) == {HUMAN}
    assert await found(NO_ACTION, AUTO_REPAIRED) == {NO_ACTION, AUTO_REPAIRED}
    assert await found(incident_pb2.RESOLUTION_TYPE_DUPLICATE) == set()


async def test_pages_have_every_match_once_in_order_ties_included(incidents: Incidents) -> None:
    name = word()
    await asyncio.gather(
        learnt(incidents, title=f"{name} {name} down"),
        *(learnt(incidents, title=f"{name} down", labels={"service": word()}) for _ in range(7)),
    )
    whole = [match.entry.knowledge_id for match in await search(incidents, name)]
    assert len(whole) == len(set(whole)) == 8
    for page_size in (1, 3, 8):
        found: list[str] = []
        async for page in incidents.search_knowledge(name, page_size=page_size).pages():
            assert len(page.matches) <= page_size
            found += [match.entry.knowledge_id for match in page.matches]
        assert found == whole


@pytest.mark.parametrize("other", ["query", "resolution_types"])
async def test_a_page_token_is_bound_to_its_query(incidents: Incidents, other: str) -> None:
    name = word()
    await asyncio.gather(
        *(learnt(incidents, title=f"{name} down", labels={"service": word()}) for _ in range(2))
    )
    first = await incidents.search_knowledge(name, page_size=1).page()
    fields: dict[str, Any] = {"query": name, "page_token": first.next_page_token}
    assert len(await search(incidents, **fields)) == 1
    value: dict[str, Any] = {"query": f"{name} down", "resolution_types": [HUMAN]}
    refusal = await refused(incidents.search_knowledge(**fields | {other: value[other]}).page())
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("zzyzx", id="no word in common"),
        pytest.param("the and of", id="words that mean nothing"),
        pytest.param("' & | ! ( ) :* <-> \\ \"", id="operators"),
        pytest.param("%' OR zzyzx=zzyzx; --", id="SQL"),
        pytest.param("?" * 1024, id="the longest"),
    ],
)
async def test_without_a_match_the_page_is_empty(incidents: Incidents, query: str) -> None:
    assert await search(incidents, query) == []


@pytest.mark.parametrize(
    "build",
    [
        pytest.param("{}'s queue", id="an apostrophe"),
        pytest.param("a&b {} c|d", id="operators between words"),
        pytest.param("{} (!urgent) :*", id="operators around words"),
        pytest.param("ŻÓŁW {} ☂", id="letters of another language"),
    ],
)
async def test_a_title_finds_the_lesson_of_its_incident(incidents: Incidents, build: str) -> None:
    title = build.format(word())
    await learnt(incidents, title=title)
    assert title in {match.entry.symptoms for match in await search(incidents, title)}


async def test_a_url_ranks_its_own_lesson_before_those_of_other_urls_of_its_host(
    incidents: Incidents,
) -> None:
    host = f"http://{word()}.example.org"
    wanted, other = f"{host}/orders?shop=west&page=all", f"{host}/orders?shop=east&page=all"
    await learnt(incidents, title=wanted)
    for _ in range(2):
        await learnt(incidents, title=other)
    assert [match.entry.symptoms for match in await search(incidents, wanted)] == [wanted, other]
