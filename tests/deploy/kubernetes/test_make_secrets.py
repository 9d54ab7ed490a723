"""What make_secrets.py refuses. What it makes is in the other tests here."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.kubernetes.rendered import MANIFESTS


def refused(argument: str, working_directory: Path) -> str:
    """What it says when it refuses the argument; it must change nothing in its working directory."""
    before = sorted(working_directory.iterdir())
    command = [sys.executable, str(MANIFESTS / "make_secrets.py"), argument]
    done = subprocess.run(command, cwd=working_directory, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert sorted(working_directory.iterdir()) == before
    return done.stderr


@pytest.mark.parametrize("argument", ["", " "])
def test_an_empty_folder_is_not_the_working_directory(argument: str, tmp_path: Path) -> None:
    assert refused(argument, tmp_path) == "make_secrets.py: the folder is empty: is the variable set?\n"


@pytest.mark.parametrize("name", [".git", "pyproject.toml"])
def test_secrets_are_not_made_in_a_checkout(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert refused(".", tmp_path) == "make_secrets.py: . is a checkout: name a folder outside of it\n"
