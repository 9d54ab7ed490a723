"""Exports as the services write them, made without one, and the lines of a forger."""

import hashlib
import json
from collections.abc import Sequence
from random import Random
from typing import Any

from flywheel.audit.verification import Head, Problem, Verifier

CHAINS = 32
SERVICES = ("incident", "approval")
ACTORS = ("alice", "bob", "Ünal Öz", "service:approval")
OPERATIONS = ("awoooi.approval.v1.ApprovalService/Approve", "background/expiry")


def line(fields: dict[str, Any]) -> bytes:
    """A line of an export."""
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def hash_of(record: dict[str, Any]) -> str:
    """The hash by docs/audit.md: of the netstrings of fifteen fields."""
    names = (
        *(
            "service",
            "chain",
            "sequence",
            "time",
            "actor",
            "method",
            "operation",
            "targets",
            "outcome",
            "code",
        ),
        *("reason", "digest", "calls", "previous"),
    )
    values = ["1", *(" ".join(record[name]) if name == "targets" else str(record[name]) for name in names)]
    encoded = b"".join(str(len(value.encode())).encode() + b":" + value.encode() + b"," for value in values)
    return hashlib.sha256(encoded).hexdigest()


def seeded(seed: int) -> Random:
    """The same choices every time."""
    return Random(seed)  # noqa: S311 - choices of a test


def record(random: Random, service: str, chain: int, sequence: int, previous: str) -> dict[str, Any]:
    """A record."""
    found = {
        "kind": "record",
        "service": service,
        "chain": chain,
        "sequence": sequence,
        "time": f"2026-11-27T06:{random.randrange(60):02}:{random.randrange(60):02}.{random.randrange(10**6):06}Z",
        "actor": random.choice(ACTORS),
        "method": random.choice(("loopback", "mtls")),
        "operation": random.choice(OPERATIONS),
        "targets": [f"APR-20261127-{random.randrange(16**6):06X}" for _ in range(random.randrange(3))],
        "outcome": random.choice(("CHANGED", "UNCHANGED", "REFUSED")),
        "code": "OK",
        "reason": "",
        "digest": random.randbytes(32).hex(),
        "calls": random.randrange(1, 9),
        "previous": previous,
    }
    return {**found, "hash": hash_of(found)}


def export(
    seed: int, *, chains: Sequence[int] = (3, 7), records: int = 3, services: Sequence[str] = SERVICES
) -> list[dict[str, Any]]:
    """The lines of an export of two services, without its ends."""
    random = seeded(seed)
    lines: list[dict[str, Any]] = []
    for service in services:
        lines.append({"kind": "header", "format": 1, "service": service})
        heads = dict.fromkeys(range(CHAINS), (0, "0" * 64))
        for chain in chains:
            for _ in range(records):
                sequence, previous = heads[chain]
                made = record(random, service, chain, sequence + 1, previous)
                heads[chain] = (made["sequence"], made["hash"])
                lines.append(made)
        lines += [
            {"kind": "head", "service": service, "chain": chain, "sequence": sequence, "hash": own}
            for chain, (sequence, own) in heads.items()
        ]
        lines.append({"kind": "end"})
    return lines


def written(lines: Sequence[dict[str, Any]]) -> list[bytes]:
    """The lines as bytes, each end made for what is before it, as a forger makes it too."""
    found: list[bytes] = []
    digest, records, service = hashlib.sha256(), 0, ""
    for each in lines:
        if each["kind"] == "header":
            digest, records, service = hashlib.sha256(), 0, each["service"]
        records += each["kind"] == "record"
        end = {"kind": "end", "service": service, "records": records, "sha256": digest.hexdigest()}
        found.append(line(end if each["kind"] == "end" else each))
        digest.update(found[-1])
    return found


def problems(lines: Sequence[bytes], *, anchors: Sequence[Head] = ()) -> list[Problem]:
    """What is wrong with an export."""
    return list(Verifier(anchors).problems(lines))


def is_found(lines: Sequence[bytes]) -> bool:
    """Whether anything is wrong with an export."""
    return next(Verifier().problems(lines), None) is not None
