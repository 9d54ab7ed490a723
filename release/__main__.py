"""`make release ARGS=1.2.3`: version and changelog, wheels, images and SBOMs in dist/, then a commit and a tag.

Everything is built before anything is committed: a failure leaves the repository as it was. Nothing is pushed or uploaded.
"""

import argparse
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from release.artifacts import build_images, build_wheels, require_docker, write_bill, write_checksums
from release.errors import ReleaseError
from release.repository import Repository
from release.versions import changed_files, current_version, notes, require_newer


def release(root: Path, version: str, *, with_images: bool) -> Path:
    """Make a release of the repository at `root`, and return the folder with its files. Raises ReleaseError."""
    repository = Repository(root)
    repository.require_clean()
    repository.require_untagged(f"v{version}")
    require_newer(version, current_version(root), released=repository.has_release)
    if with_images:
        require_docker()
    about = notes((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    texts = changed_files(root, version, datetime.now(UTC).date())
    folder = root / "dist" / version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    repository.write(texts)
    try:
        wheels = build_wheels(root, folder, epoch=repository.commit_time)
        write_bill(root, folder, version, wheels)
        if with_images:
            build_images(root, folder, version)
        write_checksums(folder)
        repository.release(texts, version, about)
    except BaseException:
        repository.restore(texts)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("version", metavar="VERSION", help="such as 1.2.3")
    parser.add_argument("--no-images", action="store_true", help="without docker")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    try:
        folder = release(root, arguments.version, with_images=not arguments.no_images)
    except ReleaseError as exc:
        print(f"release: {exc}", file=sys.stderr)
        return 1
    for path in sorted(folder.iterdir()):
        print(path.relative_to(root))
    print(f"tagged v{arguments.version}; publish it: git push --follow-tags, and the files above")
    return 0


if __name__ == "__main__":
    sys.exit(main())
