"""Programs out of Debian's packages, unpacked into a folder and not installed: nothing on the machine changes, and no daemon is started.

No root is needed. apt verifies the packages by Debian's keys.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flywheel.system.file_lock import FileLock

# In the virtual environment, with which they are removed.
FOLDER = Path(sys.prefix) / "debian"

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TIMEOUT_SECONDS = 240.0
_CONNECT_SECONDS = 20
# Debian's Alertmanager has the path of its templates in it. Of the same length, a path below its working directory.
_INSTALLED, _RELATIVE = b"/usr/share/prometheus/", b".usr/share/prometheus/"


class Packages(NamedTuple):
    """Packages of a release of Debian with programs of one major version."""

    release: str
    packages: Sequence[str]
    # The paths of programs in the packages, by their names.
    programs: Mapping[str, str]
    major: int
    # Whether they print their version.
    tells_version: bool = True


class UnavailableError(Exception):
    """Debian's packages cannot be obtained here."""


def unpacked(wanted: Packages) -> Mapping[str, str]:
    """Return the paths of the programs by name, after unpacking the packages into FOLDER if they are not there yet.

    Raises UnavailableError.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise UnavailableError("apt is not available")
    kept = _kept(wanted)
    lock = FileLock(kept.with_suffix(".lock"))
    try:
        FOLDER.mkdir(exist_ok=True)
        # One process unpacks, the others wait for it.
        if not lock.acquire(_TIMEOUT_SECONDS):
            raise UnavailableError("another process has been unpacking it for too long")
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
                _unpack(Path(scratch), wanted).rename(kept)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise UnavailableError(str(exc)) from exc
    finally:
        lock.release()
    return {name: str(kept / path) for name, path in wanted.programs.items()}


def is_unpacked(wanted: Packages) -> bool:
    """Whether the packages are unpacked already."""
    return _kept(wanted).exists()


def _kept(wanted: Packages) -> Path:
    return FOLDER / f"{wanted.packages[0]}-{wanted.major}"


def working_folder(program: str) -> Path | None:
    """Return the working directory that a program unpacked here has to have; None for others, which can have any."""
    folder = Path(program).resolve().parents[2:3]
    return folder[0] if folder and (folder[0] / ".usr").exists() else None


def major_version(program: str) -> int | None:
    """Return what `--version` of the program prints; None when it does not run."""
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    except OSError:
        return None
    version = re.search(r"version (\d+)\.", done.stdout + done.stderr)
    return int(version[1]) if version else None


def _unpack(scratch: Path, wanted: Packages) -> Path:
    """Download the packages and return the folder with what is in them."""
    # Lists of their own, in the scratch folder: the machine's may be those of another release, or missing.
    sources = scratch / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror(scratch)} {wanted.release} main\n")
    options = [
        f"-o=Dir::State::Lists={scratch}/lists",
        f"-o=Dir::Cache={scratch}/cache",
        f"-o=Dir::Etc::SourceList={sources}",
        "-o=Dir::Etc::SourceParts=/dev/null",
        # A mirror that is out of reach is the error, and not the package that is then unknown.
        "-o=APT::Update::Error-Mode=any",
        f"-o=Acquire::http::Timeout={_CONNECT_SECONDS}",
        f"-o=Acquire::https::Timeout={_CONNECT_SECONDS}",
    ]
    (scratch / "lists" / "partial").mkdir(parents=True)
    (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
    _run(scratch, "apt-get", *options, "update")
    _run(scratch, "apt-get", *options, "download", *wanted.packages)
    folder = scratch / "unpacked"
    for package in scratch.glob("*.deb"):
        _run(scratch, "dpkg-deb", "--extract", str(package), str(folder))
    for name, path in wanted.programs.items():
        _make_relative(folder, folder / path)
        # They depend on the C library only: do they run with the installed one, and is it the expected version?
        if wanted.tells_version and major_version(str(folder / path)) != wanted.major:
            raise UnavailableError(
                f"{name} of Debian {wanted.release} does not run here, or is not of version {wanted.major}"
            )
    return folder


def _make_relative(folder: Path, program: Path) -> None:
    """Let Debian's Alertmanager find its templates below its working directory: it knows only where they are installed.

    Its own upstream has them in the program.
    """
    if program.name == "prometheus-alertmanager":
        program.write_bytes(program.read_bytes().replace(_INSTALLED, _RELATIVE))
        (folder / ".usr").symlink_to("usr")


def _mirror(scratch: Path) -> str:
    """Return the address of the machine's Debian mirror."""
    found = _run(scratch, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    mirrors = [address for address in found.split() if address.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise UnavailableError("apt has no Debian mirror")
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
        raise UnavailableError(f"{command[0]} failed: {output[-1] if output else done.returncode}")
    return done.stdout
