"""An approval service that may change a cluster, and the cluster."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from approval.executors.kubernetes.allow_list import KINDS
from tests.approval.conftest import AT_REST
from tests.approval.hooks import WITHOUT_LIMITS
from tests.approval.schemas import approval_database
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer, cluster_server
from tests.approval.unit.executors.kubernetes.objects import (
    NAMESPACE,
    daemon_set,
    deployment,
    pod,
    replica_set,
    stateful_set,
)
from tests.callers import Approvals, approvals_at
from tests.services import healthy_service


@dataclass(frozen=True)
class Operated:
    """An approval service and the cluster that it may change."""

    approvals: Approvals
    cluster: ClusterServer


@asynccontextmanager
async def healthy_cluster() -> AsyncIterator[ClusterServer]:
    """A cluster with one healthy object of each kind, and one revision before."""
    async with cluster_server() as cluster:
        web = deployment()
        cluster.add(web, stateful_set(), daemon_set(), pod())
        cluster.add(*(replica_set(web, revision=number, image=f"web:{number}") for number in (6, 7)))
        yield cluster


@asynccontextmanager
async def allowed_service(
    incident_address: str, kubeconfig: Path, **variables: str
) -> AsyncIterator[Approvals]:
    """An approval service that may change everything in one namespace."""
    settings = {
        "APPROVAL_INCIDENT_TARGET": incident_address,
        "APPROVAL_EXECUTORS": "kubernetes",
        "APPROVAL_KUBERNETES_KUBECONFIG": str(kubeconfig),
        "APPROVAL_KUBERNETES_NAMESPACES": NAMESPACE,
        "APPROVAL_KUBERNETES_KINDS": ",".join(KINDS),
        **WITHOUT_LIMITS,
        **AT_REST,
        **variables,
    }
    async with (
        approval_database() as url,
        healthy_service("approval", url, variables=settings) as running,
        approvals_at(running.address) as approvals,
    ):
        yield approvals
