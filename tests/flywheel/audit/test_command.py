"""`flywheel audit` as it is run: an export of both services, its proof, and what ends it with 1."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest_asyncio

from flywheel.audit.lines import record_hash
from servicekit.audit.model import Call
from servicekit.database.engine import create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from tests.approval.schemas import approval_database, incident_database
from tests.flywheel.audit.exports import hash_of

ROOT = Path(__file__).parents[3]


@pytest_asyncio.fixture
async def databases() -> AsyncIterator[Mapping[str, str]]:
    """The variables of two databases with a record each."""
    async with incident_database() as incident, approval_database() as approval:
        for url in (incident, approval):
            await recorded(url, "ONE")
        yield {"INCIDENT_DATABASE_URL": incident, "APPROVAL_DATABASE_URL": approval}


async def recorded(url: str, target: str) -> None:
    engine = create_engine(url, application_name="tests", pool_size=1)
    try:
        async with Transactions(engine, Outbox()).begin() as transaction:
            transaction.record(Call("a.Service/Do", "alice", "mtls"), target)
    finally:
        await engine.dispose()


def audit(*arguments: object, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_DATABASE_URL")}
    return subprocess.run(
        [sys.executable, "-m", "flywheel", "audit", *map(str, arguments)],
        env={**environment, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_an_export_of_both_services_is_verified_without_a_database(
    databases: Mapping[str, str], tmp_path: Path
) -> None:
    heads, file = tmp_path / "heads.jsonl", tmp_path / "audit.jsonl"
    kept = audit("heads", "-o", heads, variables=databases)
    assert (kept.returncode, kept.stderr) == (0, "")
    await recorded(databases["INCIDENT_DATABASE_URL"], "TWO")
    exported = audit("export", "-o", file, variables=databases)
    assert (exported.returncode, exported.stdout, exported.stderr) == (0, "", "")
    assert file.stat().st_mode & 0o777 == 0o600

    verified = audit("verify", file, "--heads", heads)
    assert (verified.returncode, verified.stderr) == (0, "")
    incident, approval = verified.stdout.splitlines()
    assert incident.startswith("incident: 2 records of 2 calls, unchanged; ")
    assert incident.endswith("1 given heads are in it")
    assert approval.startswith("approval: 1 records of 1 calls, unchanged; ")
    assert "not that its end is the last record" in audit("verify", file).stdout

    file.write_bytes(file.read_bytes().replace(b'"alice"', b'"alicf"', 1))
    edited = audit("verify", file)
    assert edited.returncode == 1
    assert "was edited: its hash is not that of its fields" in edited.stderr


async def test_an_export_of_one_service_to_standard_output(databases: Mapping[str, str]) -> None:
    exported = audit("export", "--service", "approval", variables=databases)
    kinds = [json.loads(line)["kind"] for line in exported.stdout.splitlines()]
    assert kinds == ["header", "record", *["head"] * 32, "end"]
    refused = audit("export", "--service", "gateway", variables=databases)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "there is no service gateway" in refused.stderr


def test_the_example_in_the_document_has_its_hash() -> None:
    document = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    (line,) = [each for each in document.splitlines() if each.startswith('{"kind":"record"')]
    record = json.loads(line)
    assert record["hash"] == hash_of(record) == record_hash(record)
