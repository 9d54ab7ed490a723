"""`approval-service policy-check` and `policy-replay`: a policy file before it takes effect."""

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

from approval.policy.file import PolicyFileError
from approval.policy.model import Policy
from approval.policy.reader import PolicyReader
from approval.replay.model import Replay
from approval.replay.report import to_json, to_text
from approval.replay.repository import read_proposals
from servicekit.database.engine import close_engine, create_engine
from servicekit.database.migrations import Migrations
from servicekit.process.settings import parse_duration
from servicekit.service import Command

_EXIT_INVALID = 1
_EXIT_USAGE = 2
_BEGINNING = datetime.min.replace(tzinfo=UTC)


def commands(migrations: Migrations, database_url: Callable[[], str]) -> dict[str, Command]:
    """Return the commands. The replay reads the database at `database_url`, which may raise SettingsError."""
    return {
        "policy-check": Command(
            "say what is wrong with a policy file, or what is in it", _add_check_arguments, _check
        ),
        "policy-replay": Command(
            "say what a policy file would have decided about past proposals",
            _add_replay_arguments,
            lambda arguments: _replay(arguments, migrations, database_url),
        ),
    }


def _add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the policy file, see docs/policy.md")
    parser.add_argument(
        "--channel", action="append", default=[], help="a channel that routes may name; may be repeated"
    )


def _add_replay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the policy file, see docs/policy.md")
    parser.add_argument("--since", default="", help="a duration, such as 30d, or a time, such as 2026-05-01")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _check(arguments: argparse.Namespace) -> int:
    policy = _read(arguments.file, channels=arguments.channel)
    if policy is None:
        return _EXIT_INVALID
    rules = [f"rule {rule.name}: {', '.join(sorted(rule.actions))}" for rule in policy.rules]
    routes = [
        f"route {route.name}: {', '.join(sorted(route.channels)) or 'nobody'}"
        for route in policy.routes.routes
    ]
    print("\n".join([*rules, *routes, f"{arguments.file}: valid"]))  # noqa: T201 - the command's result
    return 0


def _replay(arguments: argparse.Namespace, migrations: Migrations, database_url: Callable[[], str]) -> int:
    try:
        since = _time(arguments.since)
    except ValueError as exc:
        print(f"--since: {exc}", file=sys.stderr)  # noqa: T201 - for the user
        return _EXIT_USAGE
    policy = _read(arguments.file)
    if policy is None:
        return _EXIT_INVALID
    replay = Replay(policy)
    uvloop.run(_run(replay, database_url(), migrations, since=since or _BEGINNING))
    shown = "" if since is None else since.isoformat(timespec="seconds").replace("+00:00", "Z")
    if arguments.json:
        print(to_json(replay, file=str(arguments.file), since=shown))  # noqa: T201 - the command's result
    else:
        print(to_text(replay, since=f"since {shown}" if shown else ""))  # noqa: T201 - the command's result
    return 0


async def _run(replay: Replay, url: str, migrations: Migrations, *, since: datetime) -> None:
    engine = create_engine(
        url,
        application_name="approval-policy-replay",
        pool_size=1,
        # As many proposals as there are take as long as they take.
        statement_timeout_seconds=0.0,
        check=migrations.require_own,
    )
    try:
        async with engine.connect() as connection:
            async for proposals in read_proposals(connection, since=since):
                replay.add(proposals)
    finally:
        await close_engine(engine)


def _read(file: Path, *, channels: list[str] | None = None) -> Policy | None:
    """Return the policy in a file; None, with one line for each problem, when it cannot be used."""
    try:
        return PolicyReader(file, channels=channels or ()).read()
    except PolicyFileError as exc:
        for problem in exc.problems:
            print(f"{file}: {problem}", file=sys.stderr)  # noqa: T201 - for the user
        return None


def _time(text: str) -> datetime | None:
    """Return the time that a duration ago or an ISO 8601 time means. Raises ValueError."""
    if not text:
        return None
    try:
        ago = parse_duration(text)
    except ValueError:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                "expected a duration such as 24h or 30d, or a time such as 2026-05-01T12:00:00Z"
            ) from None
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    if not isinstance(ago, timedelta):
        raise TypeError(ago)
    return datetime.now(UTC) - ago
