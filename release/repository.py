"""The repository in which a release is a commit and a tag."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from release.errors import ReleaseError


class Repository:
    """The git repository at a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def require_clean(self) -> None:
        """Raise ReleaseError when there is something that is not committed."""
        if changed := self._git("status", "--porcelain"):
            raise ReleaseError(f"commit or remove this first:\n{changed}")

    def require_untagged(self, tag: str) -> None:
        """Raise ReleaseError when there is a tag of this name."""
        if self._git("tag", "--list", tag):
            raise ReleaseError(f"there is a tag {tag}")

    @property
    def has_release(self) -> bool:
        """Whether there is a tag of a release."""
        return bool(self._git("tag", "--list", "v[0-9]*"))

    @property
    def commit_time(self) -> int:
        """The time of the latest commit, in seconds since 1970."""
        return int(self._git("log", "-1", "--format=%ct"))

    def write(self, texts: Mapping[Path, str]) -> None:
        """Write files."""
        for file, text in texts.items():
            file.write_text(text, encoding="utf-8")

    def restore(self, texts: Mapping[Path, str]) -> None:
        """Bring files back to what is committed."""
        self._git("checkout", "--quiet", "HEAD", "--", *map(str, texts))

    def release(self, texts: Mapping[Path, str], version: str, notes: str) -> str:
        """Commit files, tag the commit, and return the tag. Nothing is pushed."""
        tag = f"v{version}"
        self._git("add", "--", *map(str, texts))
        self._git("commit", "--quiet", "-m", f"Release {version}")
        self._git("tag", "--annotate", "--cleanup=verbatim", tag, "-m", f"{version}\n\n{notes}")
        return tag

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self._root), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ReleaseError(f"git {arguments[0]}: {done.stderr.strip()}")
        return done.stdout.strip()
