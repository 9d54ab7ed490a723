"""The statements on the audit trail. Nothing here commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, SmallInteger, Text

from servicekit.audit.model import Entry

_APPEND = text("""
    SELECT audit_append(:chain, :actors, :methods, :operations, :targets, :outcomes, :codes, :reasons, :digests, :calls)
""").bindparams(
    bindparam("chain", type_=SmallInteger),
    *(
        bindparam(name, type_=ARRAY(Text))
        for name in ("actors", "methods", "operations", "targets", "outcomes", "codes", "reasons", "digests")
    ),
    bindparam("calls", type_=ARRAY(BigInteger)),
)


async def append(connection: AsyncConnection, chain: int, entries: Sequence[Entry]) -> None:
    """Append records, in order. Locks the chain until the transaction ends: for its last statement."""
    await connection.execute(
        _APPEND,
        {
            "chain": chain,
            "actors": [entry.actor for entry in entries],
            "methods": [entry.method for entry in entries],
            "operations": [entry.operation for entry in entries],
            # A key of another version's job may have a space, which separates targets here.
            "targets": [" ".join(each.replace(" ", "%20") for each in entry.targets) for entry in entries],
            "outcomes": [entry.outcome for entry in entries],
            "codes": [entry.code for entry in entries],
            "reasons": [entry.reason for entry in entries],
            "digests": [entry.digest for entry in entries],
            "calls": [entry.calls for entry in entries],
        },
    )


def append_changes(chain: str, source: str) -> str:
    """Return a SELECT that appends a CHANGED record for each row of `source`, for larger statements.

    `source` is a relation with the columns actor, method, operation, target and digest. The select has to be read by the
    statement, and `source` has to be all that it locks besides.
    """
    return f"""
        SELECT audit_append({chain}, array_agg(actor), array_agg(method), array_agg(operation), array_agg(target),
            array_agg('CHANGED'::text), array_agg('OK'::text), array_agg(''::text), array_agg(digest),
            array_agg(1::bigint)) AS appended
        FROM {source}
        HAVING count(*) > 0
    """  # noqa: S608 - constants of the caller's module


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain; sequence 0 before the first."""

    chain: int
    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record."""

    chain: int
    sequence: int
    time: datetime
    actor: str
    method: str
    operation: str
    targets: str
    outcome: str
    code: str
    reason: str
    digest: str
    calls: int
    previous: bytes
    hash: bytes


_HEADS = text("SELECT chain, sequence, hash FROM audit_chains ORDER BY chain")
_PAGE = text("""
    SELECT chain, sequence, time, actor, method, operation, targets, outcome, code, reason, digest, calls, previous, hash
    FROM audit_records WHERE chain = :chain AND sequence > :after AND sequence <= :until ORDER BY sequence LIMIT :limit
""").bindparams(bindparam("chain", type_=SmallInteger))


async def heads(connection: AsyncConnection) -> Sequence[Head]:
    """Return the head of each chain, in one snapshot."""
    return [Head(*row) for row in await connection.execute(_HEADS)]


async def list_records(
    connection: AsyncConnection, chain: int, *, after: int, until: int, limit: int
) -> Sequence[Record]:
    """Return a page of a chain's records, those behind the sequence number `after` and up to `until`."""
    rows = await connection.execute(_PAGE, {"chain": chain, "after": after, "until": until, "limit": limit})
    return [Record(*row) for row in rows]
