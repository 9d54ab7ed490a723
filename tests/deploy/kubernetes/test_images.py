"""Images: pinned by the overlay, of this version, with migrations of its own."""

import re
from pathlib import Path

import pytest
import yaml

from tests.deploy.kubernetes.rendered import (
    JOBS,
    MANIFESTS,
    OVERLAYS,
    ROOT,
    overlay,
    relative,
    render,
    workloads,
)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_image_is_pinned_by_the_overlay(name: str) -> None:
    text = (MANIFESTS / "overlays" / name / "kustomization.yaml").read_text(encoding="utf-8")
    pinned = {each["name"]: each for each in yaml.safe_load(text)["images"]}
    for pod in workloads(overlay(name)):
        image, _, tag = pod.container["image"].rpartition(":")
        found = pinned[image.rpartition("/")[2]]
        assert (image, tag) == (found.get("newName", found["name"]), found["newTag"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_images_are_of_this_version_and_each_version_has_migrations_of_its_own(name: str) -> None:
    version = re.search(
        r'^version = "(.+)"', (ROOT / "cli/pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert version is not None
    pods = workloads(overlay(name))
    assert {pod.container["image"].rpartition(":")[2] for pod in pods if pod.service} == {version[1]}
    assert {pod.name for pod in pods if pod.kind == "Job"} == {f"{job}-{version[1]}" for job in JOBS}


def test_another_tag_in_one_place_is_another_version_with_another_migration(tmp_path: Path) -> None:
    text = (MANIFESTS / "overlays" / "production" / "kustomization.yaml").read_text(encoding="utf-8")
    folder = MANIFESTS / "overlays"
    text = re.sub(r"newTag: .+", "newTag: 7.8.9-rc.1", text)
    for reference in ("../../base", "../../monitoring"):
        text = text.replace(reference, relative(tmp_path, (folder / "production" / reference).resolve()))
    for file in ("incident-db.yaml", "approval-db.yaml", "network.yaml"):
        (tmp_path / file).write_text((folder / "production" / file).read_text(encoding="utf-8"))
    (tmp_path / "kustomization.yaml").write_text(text)
    pods = workloads(render(tmp_path))
    assert {pod.container["image"].rpartition(":")[2] for pod in pods} == {"7.8.9-rc.1"}
    assert {pod.name for pod in pods if pod.kind == "Job"} == {f"{job}-7.8.9-rc.1" for job in JOBS}
