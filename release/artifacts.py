"""What a release consists of: wheels, images, SBOMs, checksums."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from release.bill import LOCKS, bill_of_materials
from release.errors import ReleaseError
from release.versions import DISTRIBUTIONS

# Targets of deploy/docker/Dockerfile.
IMAGES = ("incident", "approval", "gateway", "intake", "cli")


def build_wheels(root: Path, folder: Path, *, epoch: int) -> Sequence[Path]:
    """Build the wheels of all distributions; the same sources and `epoch` give the same bytes. Nothing is downloaded."""
    _run(
        [
            *(sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"),
            *("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)),
            *(f"./{name}" for name in DISTRIBUTIONS),
        ],
        root,
        SOURCE_DATE_EPOCH=str(epoch),
    )
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != len(DISTRIBUTIONS):
        raise ReleaseError(f"{len(wheels)} wheels of {len(DISTRIBUTIONS)} distributions were built")
    return wheels


def write_bill(root: Path, folder: Path, version: str, wheels: Sequence[Path]) -> None:
    """Write the SBOM of the wheels and their pinned dependencies."""
    text = bill_of_materials(version, wheels, [root / name for name in LOCKS])
    (folder / f"flywheel-{version}.cdx.json").write_text(text, encoding="utf-8")


def require_docker() -> None:
    """Raise ReleaseError when images cannot be built here."""
    if shutil.which("docker") is None:
        raise ReleaseError("the images are built by docker, which is not here; --no-images leaves them out")


def build_images(root: Path, folder: Path, version: str) -> None:
    """Build an image for each service, tagged with the version, and write the SBOM that is in it beside the wheels."""
    for target in IMAGES:
        tag = f"flywheel-{target}:{version}"
        _run(
            ["docker", "build", "-q", "-f", "deploy/docker/Dockerfile", "--target", target, "-t", tag, "."],
            root,
        )
        show = [
            "docker",
            "run",
            "--rm",
            "--network=none",
            "--entrypoint=cat",
            tag,
            "/opt/flywheel/sbom.cdx.json",
        ]
        (folder / f"flywheel-{target}-{version}.image.cdx.json").write_bytes(_run(show, root))


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS of every other file, for `sha256sum --check`."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def _run(command: Sequence[str], root: Path, **variables: str) -> bytes:
    done = subprocess.run(
        command, cwd=root, env={**os.environ, **variables}, capture_output=True, check=False
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise ReleaseError(f"{' '.join(command)} failed:\n{output}")
    return done.stdout
