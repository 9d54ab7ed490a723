"""One import: read and check everything, confirm, write everything, all in one transaction."""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.audit.model import SYSTEM, Call
from servicekit.database.engine import close_engine, create_engine
from servicekit.database.errors import DatabaseUnavailableError, is_unavailable
from servicekit.database.migrations import Migrations
from servicekit.importing import staging
from servicekit.importing.conversation import Conversation
from servicekit.importing.lines import ImportFailedError, LineReader, Problem, SourceLine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transaction, Transactions
from servicekit.process.failpoints import failpoint

# An import reads and writes whole tables of its own, which the settings of the services' short statements do not fit.
_PLAN_FOR_MANY_ROWS = (
    text("SET LOCAL enable_seqscan = on"),
    text("SET LOCAL plan_cache_mode = auto"),
)
_BATCH_BYTES = 4_194_304
# What is reported of rows that are written; the other counts are of rows that were there.
_WRITTEN = ("new", "events")


class NotMigratedError(ImportFailedError):
    """The database has not the tables of this version."""

    def __init__(self) -> None:
        super().__init__("the database is not up to date: migrate it first")


class ConcurrentWriteError(ImportFailedError):
    """A concurrent transaction wrote a row with the id or the fingerprint of a line."""

    def __init__(self) -> None:
        super().__init__("others wrote to the database meanwhile, and nothing was imported: try again")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Which files are to be imported; whether to migrate first, and whether to ask before anything is written."""

    files: Sequence[Path]
    migrate: bool
    ask: bool


class LineImporter(Protocol):
    """What the lines mean to one service. Everything happens in the caller's transaction."""

    @property
    def kinds(self) -> Collection[str]:
        """The kinds of line that there are, those of other services included."""

    async def create(self, connection: AsyncConnection) -> None:
        """Make further temporary tables."""

    async def stage(
        self, connection: AsyncConnection, lines: Sequence[SourceLine], *, now: datetime
    ) -> Sequence[Problem]:
        """Keep the lines that are good by themselves; returns what is wrong with the others."""

    def check(self, connection: AsyncConnection) -> AsyncIterator[Problem]:
        """Yield the lines that do not go together with another one or with what is in the database."""

    async def write(
        self, transaction: Transaction, progress: Callable[[int, int], None]
    ) -> Mapping[str, int]:
        """Write what was staged; `progress` gets the rows written and their total. Returns what to report, by name."""


async def run_import(
    request: ImportRequest,
    make_importer: Callable[[Sequence[str]], LineImporter],
    *,
    url: str,
    application_name: str,
    migrations: Migrations,
) -> bool:
    """Import files into the database at `url`; `make_importer` is given their names.

    Returns False, with nothing written, when a line is bad or the answer is not to write. Raises ImportFailedError
    and DatabaseUnavailableError; nothing is written then either.
    """
    engine = create_engine(
        url,
        application_name=application_name,
        pool_size=1,
        statement_timeout_seconds=0.0,
        check=migrations.require_own,
    )
    names = [str(path) for path in request.files]
    importer = make_importer(names)
    reader = LineReader(request.files, importer.kinds)
    conversation = Conversation(names, ask=request.ask)
    try:
        if not await migrations.is_current(engine):
            raise NotMigratedError
        # Counters are raised last of all: others that raise the same ones wait from then to the commit only.
        async with Transactions(engine, Outbox()).begin() as transaction:
            await _read(transaction.connection, importer, reader, conversation)
            counts = await _write(transaction, importer, conversation)
            if any(counts.get(name) for name in _WRITTEN):
                transaction.record(_call(application_name, reader))
            failpoint("import_before_commit", application_name)
        failpoint("import_after_commit", application_name)
    except _DeclinedError:
        return False
    except IntegrityError as exc:
        raise ConcurrentWriteError from exc
    except DBAPIError as exc:
        if is_unavailable(exc):
            raise DatabaseUnavailableError from exc
        raise
    finally:
        await close_engine(engine)
    conversation.done(counts)
    return True


def _call(application_name: str, reader: LineReader) -> Call:
    service = application_name.removesuffix("-import")
    return Call("command/import", f"service:{service}", SYSTEM, reader.digest())


class _DeclinedError(Exception):
    """Nothing is to be written: the transaction ends with this."""


async def _read(
    connection: AsyncConnection, importer: LineImporter, reader: LineReader, conversation: Conversation
) -> None:
    for statement in _PLAN_FOR_MANY_ROWS:
        await connection.execute(statement)
    now = await staging.create(connection)
    await importer.create(connection)
    total = reader.bytes_total
    is_good = True
    for batch in _batches(reader):
        problems = [each for each in batch if isinstance(each, Problem)]
        lines = [each for each in batch if isinstance(each, SourceLine)]
        problems += await importer.stage(connection, lines, now=now)
        for problem in problems:
            conversation.problem(problem)
        is_good = is_good and not problems
        conversation.progress("check", reader.bytes_read, total)
    # Also when single lines are bad: one run reports all problems.
    is_good = await _check(connection, importer, conversation) and is_good
    if not is_good or not await conversation.may_write():
        raise _DeclinedError


async def _write(
    transaction: Transaction, importer: LineImporter, conversation: Conversation
) -> Mapping[str, int]:
    await staging.lock(transaction.connection)
    # Once more, with what was committed since the first look: the rows of another import, for example.
    if not await _check(transaction.connection, importer, conversation):
        raise _DeclinedError
    return await importer.write(transaction, lambda done, total: conversation.progress("write", done, total))


async def _check(connection: AsyncConnection, importer: LineImporter, conversation: Conversation) -> bool:
    is_good = True
    async for problem in importer.check(connection):
        conversation.problem(problem)
        is_good = False
    return is_good


def _batches(reader: LineReader) -> Iterator[Sequence[SourceLine | Problem]]:
    """What is read, so many lines or bytes at a time."""
    batch: list[SourceLine | Problem] = []
    size = 0
    for each in reader:
        batch.append(each)
        size += len(each.text) if isinstance(each, SourceLine) else 0
        if len(batch) == staging.BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
