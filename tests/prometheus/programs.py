"""prometheus, promtool and alertmanager: those on the PATH, else Debian's, unpacked into the virtual environment.

Unpacked and not installed: nothing on the machine changes, and no daemon is started.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from flywheel.system.file_lock import FileLock
from tests.debian_packages import skip_or_fail


class _Source(NamedTuple):
    """Where Debian has programs of one major version."""

    release: str
    packages: Sequence[str]
    # With their names in the package.
    programs: Mapping[str, str]


_PROMETHEUS = {"prometheus": "prometheus", "promtool": "promtool"}
_RELEASES = {
    2: _Source("bookworm", ["prometheus"], _PROMETHEUS),
    3: _Source("forky", ["prometheus", "promtool"], _PROMETHEUS),
}
_ALERTMANAGER_MAJOR = 0
_ALERTMANAGER = _Source(
    "forky",
    ["prometheus-alertmanager"],
    {"alertmanager": "prometheus-alertmanager", "amtool": "amtool"},
)
MAJOR_VERSIONS = sorted(_RELEASES)
# The one of docker-compose.yml.
CURRENT = MAJOR_VERSIONS[-1]

_KEPT = Path(sys.prefix) / "debian"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TIMEOUT_SECONDS = 240.0


class _UnavailableError(Exception):
    """Debian's package cannot be obtained here."""


@cache
def promtool(major: int = CURRENT) -> str:
    """Return the path of promtool. Without one the test is skipped with the reason; with CI=true it fails."""
    return _program("promtool", major, _RELEASES[major])


@cache
def prometheus(major: int = CURRENT) -> str:
    """Return the path of prometheus, as `promtool` does."""
    return _program("prometheus", major, _RELEASES[major])


@cache
def alertmanager() -> str:
    """Return the path of alertmanager, as `promtool` does. Its working directory must be the folder that its `usr` is in."""
    return _program("alertmanager", _ALERTMANAGER_MAJOR, _ALERTMANAGER)


@cache
def amtool() -> str:
    """Return the path of amtool, as `promtool` does."""
    return _program("amtool", _ALERTMANAGER_MAJOR, _ALERTMANAGER)


def _program(name: str, major: int, source: _Source) -> str:
    found = shutil.which(name)
    if found is not None and _major_of(found) == major:
        return found
    folder = _unpacked(f"{source.packages[0]}-{major}", major, source)
    if isinstance(folder, str):
        skip_or_fail(f"{name} {major} is not on the PATH, and {folder}")
    return str(folder / source.programs[name])


def _major_of(program: str) -> int | None:
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
    )
    version = re.search(r"version (\d+)\.", done.stdout + done.stderr)
    return int(version[1]) if version else None


def _unpacked(name: str, major: int, source: _Source) -> Path | str:
    """Return the folder with the programs, or why there is none."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "apt is not available"
    kept = _KEPT / name
    kept.parent.mkdir(exist_ok=True)
    # One worker unpacks, the others wait for it.
    lock = FileLock(kept.with_suffix(".lock"))
    if not lock.acquire(_TIMEOUT_SECONDS):
        return "another process has been unpacking it for too long"
    try:
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
                _unpack(Path(scratch), major, source).rename(kept)
    except (_UnavailableError, OSError, subprocess.TimeoutExpired) as exc:
        return f"it is not available here: {exc}"
    finally:
        lock.release()
    return kept / "usr" / "bin"


def _unpack(scratch: Path, major: int, source: _Source) -> Path:
    """Download the packages and return the folder with what is in them."""
    # Lists of their own, in the scratch folder: the machine's may be those of another release, or missing.
    sources = scratch / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror(scratch)} {source.release} main\n")
    options = [
        f"-o=Dir::State::Lists={scratch}/lists",
        f"-o=Dir::Cache={scratch}/cache",
        f"-o=Dir::Etc::SourceList={sources}",
        "-o=Dir::Etc::SourceParts=/dev/null",
    ]
    (scratch / "lists" / "partial").mkdir(parents=True)
    (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
    _run(scratch, "apt-get", *options, "update")
    _run(scratch, "apt-get", *options, "download", *source.packages)
    unpacked = scratch / "unpacked"
    for package in scratch.glob("*.deb"):
        _run(scratch, "dpkg-deb", "--extract", str(package), str(unpacked))
    if source is _ALERTMANAGER:
        _make_relative(unpacked)
    for name in source.programs.values():
        # They depend on the C library only: do they run with the installed one, and is it the expected version?
        if _major_of(str(unpacked / "usr" / "bin" / name)) != major:
            raise _UnavailableError(
                f"{name} of Debian {source.release} does not run here, or is not of version {major}"
            )
    return unpacked


def _make_relative(unpacked: Path) -> None:
    """Let Debian's Alertmanager find its templates below its working directory: it knows only where they are installed.

    Its own upstream has them in the program.
    """
    program = unpacked / "usr/bin/prometheus-alertmanager"
    program.write_bytes(program.read_bytes().replace(b"/usr/share/prometheus/", b".usr/share/prometheus/"))
    (unpacked / ".usr").symlink_to("usr")


def _mirror(scratch: Path) -> str:
    """Return the address of the machine's Debian mirror."""
    found = _run(scratch, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    mirrors = [address for address in found.split() if address.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise _UnavailableError("apt has no Debian mirror")
    return mirrors[0]


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip().splitlines()
        raise _UnavailableError(f"{command[0]} failed: {output[-1] if output else done.returncode}")
    return done.stdout
