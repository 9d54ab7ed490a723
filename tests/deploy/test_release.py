"""`make release`: what it makes, what it changes, and that a failure changes nothing."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from release.__main__ import release
from release.bill import bill_of_materials
from release.errors import ReleaseError
from release.versions import DISTRIBUTIONS, changed_files, current_version, notes, require_newer

ROOT = Path(__file__).parents[2]
DAY = date(2026, 5, 7)


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the distributions as they are here."""
    root = tmp_path_factory.mktemp("repository") / "flywheel"
    for name in ("release", *DISTRIBUTIONS):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("CHANGELOG.md", ".gitignore", "requirements.lock", "requirements-services.lock"):
        shutil.copy(ROOT / name, root / name)
    (root / "docs").mkdir()
    shutil.copy(ROOT / "docs/kubernetes.md", root / "docs/kubernetes.md")
    overlay = root / "deploy/kubernetes/kustomization.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text(f"images:\n  - name: flywheel-incident\n    newTag: {current_version(ROOT)}\n")
    git(root, "init", "--quiet")
    git(root, "config", "user.name", "tests")
    git(root, "config", "user.email", "tests@localhost")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "as it is")
    return root


@pytest.mark.slow
def test_a_release_is_wheels_a_bill_and_checksums_a_commit_and_a_tag(sources: Path) -> None:
    version = "9.8.7"
    about = notes((sources / "CHANGELOG.md").read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "release", version, "--no-images"]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

    folder = sources / "dist" / version
    wheels = sorted(path.name for path in folder.glob("*.whl"))
    assert len(wheels) == len(DISTRIBUTIONS)
    assert all(f"-{version}-py3-none-any.whl" in name for name in wheels)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    bill = (folder / f"flywheel-{version}.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    found = {each["purl"] for each in json.loads(bill)["components"]}
    assert f"pkg:pypi/awoooi-incident@{version}" in found
    assert any(purl.startswith("pkg:pypi/grpcio@") for purl in found)
    assert any(purl.startswith("pkg:pypi/kubernetes-asyncio@") for purl in found)

    assert git(sources, "status", "--porcelain") == ""
    assert git(sources, "describe") == f"v{version}"
    assert git(sources, "log", "-1", "--format=%s") == f"Release {version}"
    assert about.splitlines()[0] in git(sources, "tag", "--list", "--format=%(contents)", f"v{version}")
    assert current_version(sources) == version
    assert f"newTag: {version}" in (sources / "deploy/kubernetes/kustomization.yaml").read_text()
    changelog = (sources / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## Unreleased\n\n## {version} - \d{{4}}-\d\d-\d\d\n", changelog, re.MULTILINE)
    assert "There is no release yet" not in changelog

    # Once more: there is nothing to release, and nothing is changed by that.
    with pytest.raises(ReleaseError, match="nothing below Unreleased"):
        release(sources, "9.8.8", with_images=False)
    with pytest.raises(ReleaseError, match=f"there is a tag v{version}"):
        release(sources, version, with_images=False)
    assert git(sources, "status", "--porcelain") == ""


def test_a_failure_leaves_the_repository_as_it_was(
    sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    git(sources, "clone", "--quiet", str(sources), str(clone))
    git(clone, "reset", "--quiet", "--hard", git(sources, "rev-list", "--max-parents=0", "HEAD"))

    def fails(*_: object, **__: object) -> None:
        # At this moment the files have the new version.
        assert current_version(clone) == "9.9.9"
        raise ReleaseError("no room")

    monkeypatch.setattr("release.__main__.build_wheels", fails)
    with pytest.raises(ReleaseError, match="no room"):
        release(clone, "9.9.9", with_images=False)
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "tag", "--list", "v9.9.9") == ""
    assert not (clone / "dist/9.9.9").exists()
    (clone / "CHANGELOG.md").write_text("changed\n")
    with pytest.raises(ReleaseError, match="commit or remove this first"):
        release(clone, "9.9.9", with_images=False)


@pytest.mark.parametrize(
    ("version", "released", "problem"),
    [
        ("1.2.3", True, "not newer"),
        ("1.2.2", False, "not newer"),
        ("1.10", False, "not a version"),
        ("v1.3.0", False, "not a version"),
        ("1.3.0rc1", False, "not a version"),
        # As a number, not as a text.
        ("1.10.0", True, ""),
        ("1.2.3", False, ""),
    ],
)
def test_a_version_is_newer_than_the_one_before(version: str, released: bool, problem: str) -> None:
    if not problem:
        require_newer(version, "1.2.3", released=released)
        return
    with pytest.raises(ReleaseError, match=problem):
        require_newer(version, "1.2.3", released=released)


def test_every_file_with_the_version_is_changed() -> None:
    changed: Mapping[Path, str] = changed_files(ROOT, "9.8.7", DAY)
    names = {str(path.relative_to(ROOT)) for path in changed}
    assert names >= {
        "CHANGELOG.md",
        "docs/kubernetes.md",
        *(f"{name}/pyproject.toml" for name in DISTRIBUTIONS),
    }
    assert not [
        path
        for path in (ROOT / "deploy").rglob("kustomization.yaml")
        if "newTag" in path.read_text() and path not in changed
    ]
    assert f"## 9.8.7 - {DAY}\n" in changed[ROOT / "CHANGELOG.md"]
    assert "\nTAG=9.8.7\n" in changed[ROOT / "docs/kubernetes.md"]


def test_the_bill_of_the_same_content_is_the_same(tmp_path: Path) -> None:
    wheel = tmp_path / "awoooi_incident-1.2.3-py3-none-any.whl"
    wheel.write_bytes(b"content")
    lock = [ROOT / "requirements.lock"]
    first = bill_of_materials("1.2.3", [wheel], lock)
    assert first == bill_of_materials("1.2.3", [wheel], lock)
    wheel.write_bytes(b"other content")
    assert first != bill_of_materials("1.2.3", [wheel], lock)
