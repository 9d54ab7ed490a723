"""The Secrets of an installation, made once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.kubernetes.rendered import MANIFESTS


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that make_secrets.py fills; the second time it changes nothing."""
    folder = tmp_path_factory.mktemp("kubernetes") / "secrets"
    command = [sys.executable, str(MANIFESTS / "make_secrets.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    again = subprocess.run(command, check=True, capture_output=True)
    assert not again.stdout
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return folder
