"""docs/recovery.md: the interface of a verifier, and its example."""

import ast
import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

from approval import verifiers
from approval.verifiers.protocol import ENTRY_POINT_GROUP

ROOT = Path(__file__).parents[4]
PLUGIN = ROOT / "tests/approval/verifier_plugin"
RECOVERY = (ROOT / "docs/recovery.md").read_text(encoding="utf-8")
_, _, OWN = RECOVERY.partition("## One of your own")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", OWN, flags=re.DOTALL)


def test_the_example_of_a_verifier_is_the_one_that_the_tests_run() -> None:
    [example] = _blocks("python")
    assert example == (PLUGIN / "program_verifier.py").read_text(encoding="utf-8")
    [declared] = map(tomllib.loads, _blocks("toml"))
    installed = ConfigParser()
    installed.read(PLUGIN / "program_verifier-1.0.dist-info/entry_points.txt")
    assert declared["project"]["entry-points"] == {ENTRY_POINT_GROUP: dict(installed[ENTRY_POINT_GROUP])}


def test_a_verifier_of_another_package_needs_no_module_but_approval_verifiers() -> None:
    source = (PLUGIN / "program_verifier.py").read_text(encoding="utf-8")
    imported = {
        (node.module or "", alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    of_service = {(module, name) for module, name in imported if module.split(".")[0] == "approval"}
    assert {module for module, _ in of_service} == {"approval.verifiers"}
    assert {name for _, name in of_service} <= set(verifiers.__all__)
    assert not {module.split(".")[0] for module, _ in imported} & {"servicekit", "awoooi"}


def test_the_documented_names_are_those_that_approval_verifiers_exports() -> None:
    documented = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", OWN, flags=re.MULTILINE)
    assert sorted(name for names in documented for name in names if name) == sorted(verifiers.__all__)
