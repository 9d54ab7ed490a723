"""What the tests of the kubernetes executor share."""

from datetime import timedelta
from pathlib import Path

import pytest

from approval.actions.grammar import parse_action
from approval.executors.kubernetes.allow_list import KINDS, AllowList
from approval.executors.kubernetes.cluster import Connector
from approval.executors.kubernetes.executor import KubernetesExecutor, Pace
from approval.executors.protocol import OperationFailedError, RunContext
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer
from tests.approval.unit.executors.kubernetes.objects import NAMESPACE
from tests.services import TIMEOUT_SECONDS

RESTART = "RESTART deployment/web -n shop"
ROLLBACK = "ROLLBACK deployment/web -n shop"
DELETE = "DELETE pod/web-7-abcde -n shop"
# Of the Deployment's status.
HEALTHY = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}
UNOBSERVED = {"observedGeneration": 12}

QUICK = Pace(poll=0.01, retries=(0.01,) * 4)
EVERYTHING = AllowList(frozenset([NAMESPACE]), frozenset(KINDS))


def context(seconds: float = TIMEOUT_SECONDS) -> RunContext:
    """The context of a run."""
    return RunContext("APR-20260507-0000A1", "INC-20260507-0000A1", timedelta(seconds=seconds))


def executor_for(
    cluster: ClusterServer, folder: Path, *, allowed: AllowList = EVERYTHING, call_timeout: float = 30
) -> KubernetesExecutor:
    """An executor of this cluster that does not wait long between two looks."""
    connector = Connector(cluster.kubeconfig(folder), call_timeout=call_timeout)
    return KubernetesExecutor(connector, allowed, pace=QUICK)


async def run(cluster: ClusterServer, folder: Path, action: str, *, seconds: float = TIMEOUT_SECONDS) -> str:
    """Run an action and return the output of the executor."""
    return await executor_for(cluster, folder).run(parse_action(action), context(seconds))


async def failure(
    cluster: ClusterServer,
    folder: Path,
    action: str,
    *,
    seconds: float = TIMEOUT_SECONDS,
    call_timeout: float = 30,
) -> str:
    """Run an action that fails, and return its message."""
    executor = executor_for(cluster, folder, call_timeout=call_timeout)
    with pytest.raises(OperationFailedError) as caught:
        await executor.run(parse_action(action), context(seconds))
    assert "private-detail" not in str(caught.value)
    return str(caught.value)
