"""`flywheel demo` plays to its end, and says what it measured."""

import subprocess
import sys


def test_the_demo_plays_to_its_end() -> None:
    played = subprocess.run(
        [sys.executable, "-m", "flywheel", "demo", "--incidents", "24"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "resolves waiting for delivery: 24" in played.stdout
    assert "noop resolutions: 24" in played.stdout
    assert "nothing stuck, nothing twice" in played.stdout
    assert played.stderr == ""
