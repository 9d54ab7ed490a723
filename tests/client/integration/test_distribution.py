"""The distribution: generated code and client are one package, from a wheel as from this tree."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[3]
TREES = [ROOT / "protos/gen", ROOT / "protos/src"]
IMPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import awoooi.client, awoooi.incident.v1.incident_pb2
for module in (awoooi.client, awoooi.incident.v1.incident_pb2):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
"""


def test_a_wheel_holds_both_trees_and_works(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", tmp_path, ROOT / "protos"], check=True)
    [wheel] = tmp_path.glob("awoooi_contracts-*.whl")
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(tmp_path / "installed")
    expected = {
        path.relative_to(tree).as_posix()
        for tree in TREES
        for path in tree.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected
    assert {"awoooi/py.typed", "awoooi/client/py.typed"} <= held
    subprocess.run([sys.executable, "-c", IMPORT, tmp_path / "installed"], check=True, cwd=tmp_path)
