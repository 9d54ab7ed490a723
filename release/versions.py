"""The version in every file that has one, and the changelog."""

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from release.errors import ReleaseError

DISTRIBUTIONS = (
    "protos",
    "libs/servicekit",
    "services/incident",
    "services/approval",
    "services/alert-intake",
    "services/metrics-gateway",
    "cli",
)
# Its commands have the tag of the images.
_KUBERNETES = "docs/kubernetes.md"
_VERSION = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)
_NUMBERS = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_UNRELEASED = re.compile(r"^## Unreleased\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_NONE_YET = " There is no release yet."


def current_version(root: Path) -> str:
    """Return the version that all distributions have. Raises ReleaseError when they differ."""
    found = {name: _version_in(root / name / "pyproject.toml") for name in DISTRIBUTIONS}
    if len(set(found.values())) != 1:
        raise ReleaseError(f"the distributions have several versions: {found}")
    return found[DISTRIBUTIONS[0]]


def require_newer(version: str, current: str, *, released: bool) -> None:
    """Raise ReleaseError for what is no version, or none after `current`; the first release may have that."""
    if not _NUMBERS.fullmatch(version):
        raise ReleaseError(f"{version} is not a version: expected three numbers, such as 1.2.3")
    new, old = _numbers(version), _numbers(current)
    if new < old or (released and new == old):
        raise ReleaseError(f"{version} is not newer than {current}")


def changed_files(root: Path, version: str, day: date) -> Mapping[Path, str]:
    """Return the new text of each file that has the version: the distributions, the changelog, the image tags."""
    current = current_version(root)
    texts: dict[Path, str] = {}
    for name in DISTRIBUTIONS:
        file = root / name / "pyproject.toml"
        texts[file] = _VERSION.sub(f'version = "{version}"', file.read_text(encoding="utf-8"), count=1)
    for file in sorted((root / "deploy").rglob("kustomization.yaml")):
        text = file.read_text(encoding="utf-8")
        texts[file] = re.sub(rf'(newTag: ["\']?){re.escape(current)}\b', rf"\g<1>{version}", text)
    document = root / _KUBERNETES
    texts[document] = re.sub(
        rf"^TAG={re.escape(current)}$",
        f"TAG={version}",
        document.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    changelog = root / "CHANGELOG.md"
    texts[changelog] = _released(changelog.read_text(encoding="utf-8"), version, day)
    return {file: text for file, text in texts.items() if text != file.read_text(encoding="utf-8")}


def notes(changelog: str) -> str:
    """Return what the changelog has of the next release. Raises ReleaseError when that is nothing."""
    found = _UNRELEASED.search(changelog)
    if found is None or not found[1].strip():
        raise ReleaseError("CHANGELOG.md: there is nothing below Unreleased")
    return found[1].strip()


def _released(changelog: str, version: str, day: date) -> str:
    notes(changelog)
    titled = _UNRELEASED.sub(
        lambda found: f"## Unreleased\n\n## {version} - {day.isoformat()}\n{found[1]}", changelog, count=1
    )
    return titled.replace(_NONE_YET, "", 1)


def _version_in(file: Path) -> str:
    found = _VERSION.search(file.read_text(encoding="utf-8"))
    if found is None:
        raise ReleaseError(f"{file} has no version")
    return found[1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
