"""The role in docs/executors.md grants what the kubernetes executor needs, and nothing else."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from approval.actions.grammar import parse_action
from tests.approval.unit.executors.kubernetes.cases import executor_for
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer, cluster_server
from tests.approval.unit.executors.kubernetes.objects import (
    controller_revision,
    daemon_set,
    deployment,
    pod,
    replica_set,
    stateful_set,
)

EXECUTORS = (Path(__file__).parents[5] / "docs/executors.md").read_text(encoding="utf-8")
[ROLE] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", EXECUTORS, flags=re.DOTALL)]
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
    """The failed checks of the operations' plans; a dry run needs every permission that the run needs."""
    executor = executor_for(cluster, folder)
    plans = [await executor.plan(parse_action(action)) for action in OPERATIONS]
    return [check.message for plan in plans for check in plan if not check.passed]


async def test_the_documented_role_is_sufficient(guarded: ClusterServer, tmp_path: Path) -> None:
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
async def test_the_documented_role_grants_no_more_than_is_needed(
    guarded: ClusterServer, tmp_path: Path, rules: list[dict[str, list[str]]]
) -> None:
    guarded.rules = rules
    found = await failed_checks(guarded, tmp_path)
    assert found
    assert all(each.startswith("forbidden: ") for each in found)
