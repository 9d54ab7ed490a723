"""docs/executors.md: the interface of an executor, and the hooks file."""

import ast
import re
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

from approval import executors
from approval.actions.grammar import parse_action
from approval.executors.http_hook import make_executor, payload
from approval.executors.protocol import ENTRY_POINT_GROUP, RunContext
from tests.approval.unit.executors.kubernetes.cases import context

ROOT = Path(__file__).parents[4]
PLUGIN = ROOT / "tests/approval/executor_plugin"
EXECUTORS = (ROOT / "docs/executors.md").read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", document, flags=re.DOTALL)


def test_the_example_of_an_executor_is_the_one_that_the_tests_run() -> None:
    [example] = blocks(EXECUTORS, "python")
    assert example == (PLUGIN / "program_executor.py").read_text(encoding="utf-8")
    _, declared = map(tomllib.loads, blocks(EXECUTORS, "toml"))
    installed = ConfigParser()
    installed.read(PLUGIN / "program_executor-1.0.dist-info/entry_points.txt")
    assert declared["project"]["entry-points"] == {ENTRY_POINT_GROUP: dict(installed[ENTRY_POINT_GROUP])}


def _imports(source: str) -> Iterator[tuple[str, str]]:
    """The module and name of each import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def test_an_executor_of_another_package_needs_no_module_but_approval_executors() -> None:
    source = (PLUGIN / "program_executor.py").read_text(encoding="utf-8")
    of_service = {(module, name) for module, name in _imports(source) if module.split(".")[0] == "approval"}
    assert {module for module, _ in of_service} == {"approval.executors"}
    assert {name for _, name in of_service} <= set(executors.__all__)
    # A name of the service's other distributions would be a promise, too.
    assert not {module.split(".")[0] for module, _ in _imports(source)} & {"servicekit", "awoooi"}


def test_the_documented_names_are_those_that_approval_executors_exports() -> None:
    _, _, own = EXECUTORS.partition("## One of your own")
    documented = re.findall(r"^\| `(\w+)` \|", own, flags=re.MULTILINE)
    assert sorted(documented) == sorted(executors.__all__)


def test_the_documented_hooks_file_is_valid_and_the_documented_body_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "hooks.toml"
    path.write_text(blocks(EXECUTORS, "toml")[0])
    (tmp_path / "restart-batch.secret").write_text("a secret of enough characters")
    make_executor({"APPROVAL_HTTP_HOOKS_FILE": str(path)})
    run_context = RunContext("APR-20260507-0000A1", "INC-20260507-0000A1", context().timeout)
    body = payload(parse_action("HTTP POST restart-batch"), run_context)
    [documented] = blocks(EXECUTORS, "json")
    assert "".join(documented.split()) == "".join(body.decode().split())
