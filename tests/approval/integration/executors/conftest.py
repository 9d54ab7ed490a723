"""An approval service and a cluster for the tests of kubernetes operations."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.approval.integration.executors.operated import Operated, allowed_service, healthy_cluster
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer
from tests.callers import Approvals
from tests.services import RunningService


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the kubeconfig is."""
    return tmp_path_factory.mktemp("kubernetes")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(incident_service: RunningService, folder: Path) -> AsyncIterator[Approvals]:
    """An approval service that may change everything in one namespace."""
    # Only the file has to be there: it is read again for each operation.
    kubeconfig = ClusterServer().kubeconfig(folder)
    async with allowed_service(incident_service.address, kubeconfig) as approvals:
        yield approvals


@pytest_asyncio.fixture(loop_scope="session")
async def operated(service: Approvals, folder: Path) -> AsyncIterator[Operated]:
    """The same service, and a new cluster."""
    async with healthy_cluster() as cluster:
        cluster.kubeconfig(folder)
        yield Operated(service, cluster)
