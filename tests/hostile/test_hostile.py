"""Every attack, in small, against real services: nothing that must not happen does."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUMBERS = {str(number) for number in range(1, 14)}


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hostile", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_every_attack_in_small_leaves_the_services_serving_good_clients(tmp_path: Path) -> None:
    ran = run("--short", f"--data-dir={tmp_path / 'data'}")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ran.stdout.splitlines()[2:]]
    assert {row[0].split(" ")[0] for row in rows} == NUMBERS | {"quiet"}
    assert {row[8] for row in rows} == {"none"}
    assert not (tmp_path / "data").exists()


def test_an_attack_that_does_not_exist_is_refused() -> None:
    ran = run("99")

    assert ran.returncode == 2
    assert "there are 1 to 13" in ran.stderr
