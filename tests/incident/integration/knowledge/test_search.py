"""SearchKnowledge finds parts of words, paths, host names and text without spaces; whole words and exact texts come first."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from incident.knowledge import repository
from incident.knowledge.model import KnowledgeMatch, Lesson
from incident.knowledge.use_cases import KnowledgeUseCases
from incident.model import ResolutionType
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions

if TYPE_CHECKING:
    Rows = asyncpg.Connection[asyncpg.Record]


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database, application_name="tests", pool_size=2)
    yield engine
    await engine.dispose()


@pytest.fixture
def transactions(engine: AsyncEngine) -> Transactions:
    return Transactions(engine, Outbox())


@pytest.fixture
def knowledge(transactions: Transactions) -> KnowledgeUseCases:
    return KnowledgeUseCases(transactions, reads=transactions)


@pytest_asyncio.fixture
async def own_rows(database: str) -> "AsyncIterator[Rows]":
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


def lesson(number: int, symptoms: str, resolution: str = "", **changes: Any) -> Lesson:
    content: dict[str, Any] = {
        "incident_id": f"INC-20260507-{number:06X}",
        "resolution_number": 1,
        "symptom_key": symptoms,
        "symptoms": symptoms,
        "resolution": resolution,
        "resolution_type": ResolutionType.HUMAN,
        "action": "",
        "held": True,
        "seconds": 1.0,
    }
    return Lesson(**(content | changes))


async def learn(transactions: Transactions, lessons: Sequence[Lesson]) -> None:
    """Learn all in one batch, as of incidents that exist."""
    async with transactions.begin() as transaction:
        for each in lessons:
            await transaction.connection.exec_driver_sql(
                "INSERT INTO incidents (incident_id, title, description, severity, state, fingerprint, labels, source, "
                "opened_by, content_hash) VALUES ($1, '', '', 'HIGH', 'OPEN', '', '{}', '', '', '')",
                (each.incident_id,),
            )
        await repository.learn(transaction.connection, lessons)


async def found(knowledge: KnowledgeUseCases, query: str, **fields: Any) -> Sequence[KnowledgeMatch]:
    asked: dict[str, Any] = {"types": [], "after": None, "page_size": 50} | fields
    return (await knowledge.search(query, **asked)).matches


async def symptoms(knowledge: KnowledgeUseCases, query: str) -> list[str]:
    return [match.entry.symptoms for match in await found(knowledge, query)]


TITLES = [
    "PostgreSQL refuses connections",
    "/var/lib/postgresql/data is full",
    "db-42-prod.eu-west.example.com does not answer",
    "資料庫連線逾時，請檢查主機",  # noqa: RUF001 - as it is written in Chinese
    "ディスクの空き容量が不足しています",
    "ดิสก์เต็มบนเซิร์ฟเวอร์ฐานข้อมูล",
    "OOMKilled: kube_pod_container_status_restarts_total",
    "ＦＡＮ　ＳＰＥＥＤ low",  # noqa: RUF001 - full width
]
PARTS = {
    "the middle of a word": ("gresq", {0, 1}),
    "the end of a word": ("illed", {6}),
    "two letters": ("42", {2}),
    "a part of a path": ("lib/postgres", {0, 1}),
    "a path with its slashes": ("/var/lib/", {1}),
    "a host name without its domain": ("db-42-prod", {2}),
    "a domain": ("example.com", {2}),
    "a part of an identifier": ("container_status", {6}),
    "Chinese: one word": ("逾時", {3}),
    "Chinese: one character": ("庫", {3}),
    "Chinese: words that are apart": ("主機逾時", {3}),
    "Japanese": ("空き容量", {4}),
    "Thai": ("เซิร์ฟเวอร์", {5}),
    "full width and half width": ("fan speed", {7}),
}


@pytest.mark.parametrize(("query", "expected"), PARTS.values(), ids=PARTS)
async def test_parts_are_found(
    transactions: Transactions, knowledge: KnowledgeUseCases, query: str, expected: set[int]
) -> None:
    await learn(transactions, [lesson(number, title) for number, title in enumerate(TITLES)])
    assert set(await symptoms(knowledge, query)) == {TITLES[number] for number in expected}


async def test_an_exact_text_ranks_before_its_words_and_words_before_parts(
    transactions: Transactions, knowledge: KnowledgeUseCases
) -> None:
    ranked = [
        "disk full",
        "again: disk full on a node",
        "the disk of a node is full",
        "the disks of a node fill",
        "diskless and fulfilled",
    ]
    # The worse, the more successful.
    lessons = [
        lesson(10 * number + turn, title, resolution_number=1)
        for number, title in enumerate(ranked)
        for turn in range(number + 1)
    ]
    await learn(transactions, lessons[::-1])
    matches = await found(knowledge, "disk full")
    assert [match.entry.symptoms for match in matches] == ranked
    ranks = [match.rank for match in matches]
    assert ranks == sorted(set(ranks), reverse=True)
    assert await symptoms(knowledge, "full disk") != ranked


async def test_a_long_query_of_common_words_finds_the_entry_that_has_them_all(
    transactions: Transactions, knowledge: KnowledgeUseCases
) -> None:
    words = [f"common{letter}" for letter in "abcdefgh"]
    lessons = [
        lesson(number, f"{words[number % 8]} {words[number // 8 % 8]} n{number}") for number in range(1200)
    ]
    whole = " ".join(reversed(words))
    await learn(transactions, [*lessons, lesson(5000, f"before {whole}")])
    assert (await symptoms(knowledge, " ".join(words)))[0] == f"before {whole}"
    assert (await symptoms(knowledge, whole))[0] == f"before {whole}"


async def test_lessons_of_one_entry_that_are_learnt_at_once_are_not_mixed(
    transactions: Transactions, knowledge: KnowledgeUseCases
) -> None:
    # In the order of their resolutions: neither the least nor the greatest of any text is the first.
    key = {"symptom_key": "one problem"}
    await learn(
        transactions,
        [
            lesson(2, "m: the first", "m: waited", **key),
            lesson(1, "a: the second", "z: restarted", **key),
            lesson(3, "z: the third", "a: the last note", **key),
            lesson(4, "b: the fourth", "", **key),
        ],
    )
    (match,) = await found(knowledge, "first")
    entry = match.entry
    assert (entry.incident_id, entry.symptoms) == ("INC-20260507-000002", "m: the first")
    assert (entry.resolution, entry.use_count, entry.success_count) == ("a: the last note", 4, 4)
    assert await found(knowledge, "third") == []


async def test_entries_of_an_older_version_are_indexed_in_batches_and_again_when_it_changes_them(
    knowledge: KnowledgeUseCases, own_rows: "Rows"
) -> None:
    await own_rows.executemany(
        "INSERT INTO knowledge (knowledge_id, symptom_key, resolution_type, action, incident_id, symptoms, resolution, "
        "use_count, success_count, resolution_seconds_sum) VALUES ($1, $1, 'HUMAN', '', 'INC-20260507-99ADF2', $2, '', 1, 1, 1)",
        [(f"{number}", f"Überlastung {number}") for number in range(45)],
    )
    # By whole words at once, by parts when indexed.
    assert len(await found(knowledge, "Überlastung")) == 45
    assert await found(knowledge, "lastung") == []
    assert [await knowledge.index_batch() for _ in range(3)] == [True, True, False]
    assert len(await found(knowledge, "lastung")) == 45
    await own_rows.execute("UPDATE knowledge SET resolution = 'Neustart' WHERE knowledge_id = '7'")
    assert await found(knowledge, "eusta") == []
    assert await knowledge.index_batch() is False
    assert [match.entry.knowledge_id for match in await found(knowledge, "eusta")] == ["7"]
    assert await own_rows.fetchval("SELECT count(*) FROM knowledge WHERE indexed_digest = ''") == 0
