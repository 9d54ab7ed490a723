"""A cluster for the tests of the kubernetes executor."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer, cluster_server
from tests.approval.unit.executors.kubernetes.objects import daemon_set, deployment, pod, stateful_set


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[ClusterServer]:
    """A cluster with one healthy object of each kind."""
    async with cluster_server() as running:
        running.add(deployment(), stateful_set(), daemon_set(), pod())
        yield running
