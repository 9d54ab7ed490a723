"""The top of the command: help without the stack, and the version."""

import subprocess
import sys
from importlib.metadata import version


def test_help_does_not_import_the_stack() -> None:
    script = (
        "import sys, flywheel.__main__; print(sorted({'grpc', 'psutil', 'rich.console'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_version_is_printed() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "flywheel", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"flywheel {version('awoooi-flywheel')}\n"
