"""The version before this one, from the history of the repository, run with the libraries of this one.

It is that of the latest release. Before the first release it is the latest commit with an older database of both services. Its
packages are taken as they were; the libraries that they use are those of this environment, not those of its locks.
"""

import os
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICES = ("incident", "approval")
_PACKAGES = ("protos", "libs", "services")


@dataclass(frozen=True)
class PreviousVersion:
    """A version in a folder of its own."""

    revision: str
    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which `python -m incident` and the others are this version's."""
        sources = [
            self.folder / "protos/gen",
            self.folder / "protos/src",
            *(self.folder / "libs").glob("*/src"),
            *(self.folder / "services").glob("*/src"),
        ]
        return {"PYTHONPATH": os.pathsep.join(map(str, sources))}

    def database_revision(self, service: str) -> str:
        """The newest migration of a service."""
        return newest_revision(self.folder, service)


def newest_revision(root: Path, service: str) -> str:
    """The newest migration of a service in a tree."""
    return max(path.name.partition("_")[0] for path in _migrations(root, service).glob("*.py"))


def unpack(folder: Path) -> PreviousVersion:
    """Take the version before this one out of the history into a folder.

    In a tree without history, such as an archive of the sources, it is this version itself.
    """
    revision = _find()
    archive = folder / "previous.tar"
    if revision is None:
        for name in _PACKAGES:
            (folder / name).symlink_to(ROOT / name)
        return PreviousVersion("this version", folder)
    _git("archive", f"--output={archive}", revision, *_PACKAGES)
    with tarfile.open(archive) as found:
        found.extractall(folder, filter="data")
    return PreviousVersion(revision, folder)


def _find() -> str | None:
    if release := _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"):
        return release
    additions = []
    for service in SERVICES:
        folder = str(_migrations(ROOT, service).relative_to(ROOT))
        additions.append(_git("log", "--diff-filter=A", "--format=%H", "-1", "--", f"{folder}/*.py"))
    if not all(additions):
        return None
    oldest = _git("merge-base", *additions)
    return _git("rev-parse", "--verify", "--quiet", f"{oldest}~1") or None


def _migrations(root: Path, service: str) -> Path:
    return root / "services" / service / "src" / service / "migrations/versions"


def _git(*arguments: str) -> str:
    """What git prints; nothing when it fails, or is not there."""
    command: Sequence[str] = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
