"""docs/actions.md and docs/executors.md describe what the service does."""

import ast
import re
import tomllib
from collections.abc import AsyncIterator, Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from approval import executors
from approval.actions import grammar as action_grammar
from approval.actions.grammar import ActionSyntaxError, format_operation, parse_action
from approval.executors.http_hook import make_executor, payload
from approval.executors.protocol import ENTRY_POINT_GROUP, RunContext
from tests.approval.unit.executors.cluster_server import ClusterServer, cluster_server
from tests.approval.unit.executors.kubernetes_cases import context, executor_for
from tests.approval.unit.executors.objects import (
    controller_revision,
    daemon_set,
    deployment,
    pod,
    replica_set,
    stateful_set,
)

ROOT = Path(__file__).parents[4]
PLUGIN = ROOT / "tests/approval/executor_plugin"
ACTIONS = (ROOT / "docs/actions.md").read_text(encoding="utf-8")
EXECUTORS = (ROOT / "docs/executors.md").read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", document, flags=re.DOTALL)


EXAMPLES, GRAMMAR = blocks(ACTIONS, "text")
REASONS = re.findall(r"^\| `(.*)` \| (at character .*) \|$", ACTIONS, flags=re.MULTILINE)
[ROLE] = [yaml.safe_load(block) for block in blocks(EXECUTORS, "yaml")]


@pytest.mark.parametrize("action", EXAMPLES.splitlines())
def test_an_example_is_an_action(action: str) -> None:
    operation = parse_action(action)
    assert parse_action(format_operation(operation)) == operation


@pytest.mark.parametrize(("action", "reason"), REASONS, ids=[action for action, _ in REASONS])
def test_a_documented_mistake_has_the_documented_reason(action: str, reason: str) -> None:
    with pytest.raises(ActionSyntaxError) as caught:
        parse_action(action)
    assert str(caught.value) == reason


def test_the_documented_grammar_is_the_parsers() -> None:
    inside = (action_grammar.__doc__ or "").split("\n\n")[1]
    assert GRAMMAR.split() == inside.split()


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
    assert all(getattr(executors, name).__doc__ for name in executors.__all__ if name != "ENTRY_POINT_GROUP")


def test_the_documented_hooks_file_is_taken_and_the_documented_body_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "hooks.toml"
    path.write_text(blocks(EXECUTORS, "toml")[0])
    (tmp_path / "restart-batch.secret").write_text("a secret of enough characters")
    make_executor({"APPROVAL_HTTP_HOOKS_FILE": str(path)})
    told = RunContext("APR-20260507-0000A1", "INC-20260507-0000A1", context().timeout)
    body = payload(parse_action("HTTP POST restart-batch"), told)
    [documented] = blocks(EXECUTORS, "json")
    assert "".join(documented.split()) == "".join(body.decode().split())


OPERATIONS = [
    "RESTART deployment/web -n shop",
    "ROLLBACK statefulset/db -n shop",
    "ROLLBACK deployment/web -n shop",
    "RESTART daemonset/agent -n shop",
    "SCALE deployment/web --replicas=4 -n shop",
    "SCALE statefulset/db --replicas=3 -n shop",
    "DELETE pod/web-7-abcde -n shop",
]


@pytest_asyncio.fixture
async def guarded() -> AsyncIterator[ClusterServer]:
    """A cluster that allows what the documented role does."""
    async with cluster_server(ROLE["rules"]) as cluster:
        web, db = deployment(), stateful_set()
        cluster.add(web, db, daemon_set(), pod())
        for number in (6, 7):
            cluster.add(
                replica_set(web, revision=number, image=f"web:{number}"),
                controller_revision(db, revision=number, image=f"db:{number}"),
            )
        yield cluster


async def failed_checks(cluster: ClusterServer, folder: Path) -> list[str]:
    """What the operations' plans say that would fail; a dry run needs every permission that the run needs."""
    executor = executor_for(cluster, folder)
    plans = [await executor.plan(parse_action(action)) for action in OPERATIONS]
    return [check.message for plan in plans for check in plan if not check.passed]


async def test_the_documented_role_is_enough(guarded: ClusterServer, tmp_path: Path) -> None:
    assert await failed_checks(guarded, tmp_path) == []


def without_one() -> Iterator[Any]:
    """The role's rules, each time without one verb of one resource."""
    for rule in ROLE["rules"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                kept = [
                    {"apiGroups": each["apiGroups"], "resources": [name], "verbs": [allowed]}
                    for each in ROLE["rules"]
                    for name in each["resources"]
                    for allowed in each["verbs"]
                    if (name, allowed) != (resource, verb)
                ]
                yield pytest.param(kept, id=f"{verb} {resource}")


@pytest.mark.parametrize("rules", list(without_one()))
async def test_the_documented_role_holds_nothing_that_is_not_needed(
    guarded: ClusterServer, tmp_path: Path, rules: list[dict[str, list[str]]]
) -> None:
    guarded.rules = rules
    found = await failed_checks(guarded, tmp_path)
    assert found
    assert all(each.startswith("forbidden: ") for each in found)
