"""Exports the audit trail as JSON Lines: docs/audit.md has the format."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from servicekit.audit import repository
from servicekit.audit.repository import Head, Record
from servicekit.database.engine import autocommit

FORMAT = 1
_PAGE = 1_000


async def export(engine: AsyncEngine, service: str) -> AsyncIterator[bytes]:
    """Yield the lines of an export: a header, the records by chain, the heads and an end, in pages of a thousand.

    The heads are read first, in one snapshot: what is appended meanwhile is not in it. No transaction stays open.
    """
    digest = hashlib.sha256()
    count = 0
    async with autocommit(engine).connect() as connection:
        heads = await repository.heads(connection)
        page = _line({"kind": "header", "format": FORMAT, "service": service})
        digest.update(page)
        yield page
        for head in heads:
            after = 0
            while after < head.sequence:
                records = await repository.list_records(
                    connection, head.chain, after=after, until=head.sequence, limit=_PAGE
                )
                if not records:
                    # The rest is not there: the head says so.
                    break
                page = b"".join(_line(_record(service, record)) for record in records)
                digest.update(page)
                yield page
                after = records[-1].sequence
                count += len(records)
    page = b"".join(head_lines(heads, service))
    digest.update(page)
    yield page
    yield _line({"kind": "end", "service": service, "records": count, "sha256": digest.hexdigest()})


async def export_heads(engine: AsyncEngine, service: str) -> AsyncIterator[bytes]:
    """Yield the lines of the heads alone: kept elsewhere, they show later that an export contains these records."""
    async with autocommit(engine).connect() as connection:
        heads = await repository.heads(connection)
    for line in head_lines(heads, service):
        yield line


def head_lines(heads: Sequence[Head], service: str) -> Sequence[bytes]:
    """Return the line of each head."""
    return [
        _line(
            {
                "kind": "head",
                "service": service,
                "chain": head.chain,
                "sequence": head.sequence,
                "hash": head.hash.hex(),
            }
        )
        for head in heads
    ]


def _record(service: str, record: Record) -> Mapping[str, Any]:
    return {
        "kind": "record",
        "service": service,
        "chain": record.chain,
        "sequence": record.sequence,
        "time": _time(record.time),
        "actor": record.actor,
        "method": record.method,
        "operation": record.operation,
        "targets": record.targets.split(" ") if record.targets else [],
        "outcome": record.outcome,
        "code": record.code,
        "reason": record.reason,
        "digest": record.digest,
        "calls": record.calls,
        "previous": record.previous.hex(),
        "hash": record.hash.hex(),
    }


def _time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"
