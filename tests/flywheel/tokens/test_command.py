"""flywheel token: what it writes is what the services read, and the token itself is in its output alone."""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flywheel.errors import FlywheelError
from flywheel.tokens.command import app
from flywheel.tokens.model import ROLES
from servicekit.identity.canonical import InvalidNameError, canonical, is_system
from servicekit.identity.roles import ROLES as TAKEN_ROLES
from servicekit.identity.tokens import Token, parse_tokens

Run = Callable[..., str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the tokens are."""
    return tmp_path / "new" / "tokens.json"


@pytest.fixture
def run(file: Path) -> Run:
    """Run `flywheel token` and return its standard output."""

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--file", str(file)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return command


def read(file: Path) -> dict[str, Token]:
    """The tokens as a service reads them, by name."""
    return {token.identity.name: token for token in parse_tokens(file.read_bytes()).values()}


def test_a_token_is_printed_once_and_its_hash_is_what_services_read(run: Run, file: Path) -> None:
    token = run("create", " Alice", "--role", "approver", "--role", "viewer").strip()
    assert token.startswith("fw_")
    assert len(token) == len("fw_") + 43  # 256 bits
    found = read(file)["alice"]
    assert found.digest == hashlib.sha256(token.encode()).digest()
    assert found.identity.roles == {"approver", "viewer"}
    assert not found.is_revoked
    assert token not in file.read_text()
    assert token not in run("list")


def test_no_two_tokens_are_the_same(run: Run) -> None:
    assert len({run("create", "alice", "--role", "viewer") for _ in range(20)}) == 20


def test_a_token_can_go_into_a_file_of_its_owner_alone(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "token"
    assert run("create", "ci", "--role", "detector", "--output", str(output)) == ""
    assert output.read_text().startswith("fw_")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    with pytest.raises(FlywheelError, match="cannot be created"):
        run("create", "ci", "--role", "detector", "--output", str(output))


def test_the_file_is_the_owners_alone_and_keeps_the_access_that_it_was_given(run: Run, file: Path) -> None:
    umask = os.umask(0)
    try:
        run("create", "alice", "--role", "viewer")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o666)
    run("create", "bob", "--role", "viewer")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize("by", ["id", "name", "spelling"])
def test_a_revoked_token_is_revoked_for_services_and_stays_listed(run: Run, file: Path, by: str) -> None:
    run("create", "alice", "--role", "viewer")
    run("create", "bob", "--role", "viewer")
    token_id = json.loads(file.read_text())["tokens"][0]["id"]
    for _ in range(2):
        run("revoke", {"id": token_id, "name": "alice", "spelling": "ALICE"}[by])
    assert {name: token.is_revoked for name, token in read(file).items()} == {"alice": True, "bob": False}
    states = [line.split()[-1] for line in run("list").splitlines()]
    assert states == ["STATE", "revoked", "valid"]


def test_what_is_revoked_must_exist_and_is_never_quoted(run: Run) -> None:
    token = run("create", "alice", "--role", "viewer").strip()
    with pytest.raises(FlywheelError) as caught:
        run("revoke", token)
    assert token not in f"{caught.value.message}{caught.value.advice}{caught.value.details}"


@pytest.mark.parametrize(
    "name", ["service:approval", "Policy:x", "anonymous", "", "a b", "\u0430lice", "x" * 129]
)
def test_a_name_that_services_refuse_is_refused_here(run: Run, file: Path, name: str) -> None:
    with pytest.raises(FlywheelError):
        run("create", name, "--role", "viewer")
    assert not file.exists()
    with contextlib.suppress(InvalidNameError):
        assert is_system(canonical(name))


def test_the_roles_are_those_that_services_know(run: Run) -> None:
    assert set(ROLES) == TAKEN_ROLES
    with pytest.raises(FlywheelError, match="the roles are"):
        run("create", "alice", "--role", "admin")


@pytest.mark.parametrize("lifetime", ["0d", "367d", "forever", "-1d", "1y", "", "999999d"])
def test_a_lifetime_has_an_end(run: Run, lifetime: str) -> None:
    with pytest.raises(FlywheelError, match="lifetime"):
        run("create", "alice", "--role", "viewer", "--expires", lifetime)


def test_a_file_of_somebody_else_is_left_alone(run: Run, file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"users": []}')
    with pytest.raises(FlywheelError, match="was not written by flywheel token"):
        run("create", "alice", "--role", "viewer")
    assert file.read_text() == '{"users": []}'


def test_changes_at_the_same_time_all_count_and_nobody_reads_half_a_file(run: Run, file: Path) -> None:
    run("create", "first", "--role", "viewer")
    with ThreadPoolExecutor(4) as pool:
        changes = [pool.submit(run, "create", f"job-{number}", "--role", "viewer") for number in range(12)]
        while not all(change.done() for change in changes):
            assert "first" in read(file)
    assert len(read(file)) == 13
