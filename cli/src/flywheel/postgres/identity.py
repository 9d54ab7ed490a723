"""The user that PostgreSQL's programs run as: they refuse root.

An ordinary user runs them directly. Root runs them in a user namespace, where its uid is another number: no account is
created and no permission changed. Where namespaces are disabled, root switches to an existing unprivileged user.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from flywheel.errors import FlywheelError
from flywheel.postgres.binaries import PostgresBinaries, program_environment

_ROOT = 0
_FIRST_SYSTEM_USER = 1  # daemon or bin, on every Unix

# The identity must be able to enter each folder, down to the programs and the data, and to run a program.
_PROBE = """
program=$1
shift
for directory; do
    test -x "$directory" || { echo "it may not enter $directory" >&2; exit 1; }
done
exec "$program" --version
"""


class Credentials(TypedDict, total=False):
    """Arguments of subprocess.Popen that change the user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Identity:
    """A way to run a program: behind a `wrapper` command, as another user, or directly."""

    description: str
    wrapper: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv`."""
        return [*self.wrapper, *argv]

    @property
    def credentials(self) -> Credentials:
        """The arguments of subprocess.Popen besides the command line."""
        if self.user is None or self.group is None:
            return {}
        return {"user": self.user, "group": self.group, "extra_groups": []}

    def run(
        self, argv: Sequence[str], *, check: bool = False, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of PostgreSQL to its end; `options` are those of subprocess.run."""
        return subprocess.run(
            self.command(argv),
            stdin=subprocess.DEVNULL,
            text=True,
            errors="surrogateescape",  # a folder's name, in the output, may not be UTF-8
            check=check,
            cwd="/",
            env=program_environment(),
            **self.credentials,
            **options,
        )

    def chown(self, path: Path) -> None:
        """Make this identity the owner of `path`."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)


def choose_identity(binaries: PostgresBinaries, data_dir: Path) -> Identity:
    """Return the identity for the cluster in `data_dir`, whose parent folder must exist.

    An existing cluster keeps its owner. Raises FlywheelError, with the reason for each identity, when none can run the
    programs and reach the folder.
    """
    if os.geteuid() != _ROOT:
        if data_dir.exists() and (owner := data_dir.stat().st_uid) != os.geteuid():
            account = _account(owner)
            raise FlywheelError(
                f"{data_dir} belongs to the user {account.pw_name if account is not None else owner}",
                advice="run flywheel as that user, or choose another place with --data-dir",
            )
        return Identity("directly")

    failures = []
    for identity in _identities_for_root(data_dir):
        failure = _failure_of(identity, binaries, data_dir.parent)
        if failure is None:
            return identity
        failures.append(f"{identity.description}: {failure}")
    raise FlywheelError(
        "PostgreSQL refuses to run as root, and root found no other way to run it here",
        advice=(
            "run flywheel as an ordinary user, allow user namespaces, keep the project and --data-dir where the user "
            "above may enter, or set INCIDENT_DATABASE_URL and APPROVAL_DATABASE_URL of a running PostgreSQL"
        ),
        details="\n".join(f"    {failure}" for failure in failures),
    )


def _identities_for_root(data_dir: Path) -> Iterator[Identity]:
    """Yield the identities that root can try, best first; for an existing cluster only its owner."""
    owner = data_dir.stat().st_uid if data_dir.exists() and any(data_dir.iterdir()) else None
    if owner in (None, _ROOT):
        yield _in_user_namespace()
    if owner is not None:
        accounts = [_account(owner)]
    else:
        # Root in a home folder: its owner can enter it.
        owners = (folder.stat().st_uid for folder in data_dir.parents)
        accounts = [_account(next((uid for uid in owners if uid != _ROOT), _ROOT)), _nobody()]
    for account in accounts:
        if account is not None and account.pw_uid != _ROOT:
            yield Identity(f"as the user {account.pw_name}", user=account.pw_uid, group=account.pw_gid)


def _in_user_namespace() -> Identity:
    # Inside the namespace root has the uid of another account; outside, nothing changes.
    account = _account(_FIRST_SYSTEM_USER) or _nobody()
    inside = account.pw_uid if account is not None else _FIRST_SYSTEM_USER
    unshare = shutil.which("unshare") or "unshare"
    wrapper = (unshare, "--user", f"--map-user={inside}", f"--map-group={inside}")
    return Identity("in a user namespace", wrapper)


def _failure_of(identity: Identity, binaries: PostgresBinaries, directory: Path) -> str | None:
    """Return why `identity` cannot run the programs with data in `directory`; None when it can."""
    way = [str(folder) for end in (binaries.directory, directory) for folder in reversed((end, *end.parents))]
    try:
        result = identity.run(["/bin/sh", "-c", _PROBE, "sh", binaries.postgres, *way], capture_output=True)
    except OSError as exc:
        return str(exc)
    if result.returncode == 0:
        return None
    return result.stderr.strip().replace("\n", " ") or f"exit status {result.returncode}"


def _account(uid: int) -> pwd.struct_passwd | None:
    """Return the account of a uid; initdb requires one and refuses a bare number."""
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _nobody() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        return None
