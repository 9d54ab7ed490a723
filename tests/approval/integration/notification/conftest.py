"""An approval service that notifies people, for the tests of a module."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.approval.integration.notification.notified import ROUTES, Notified, notified_service
from tests.services import RunningService


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def notifying_service(
    incident_service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Notified]:
    settings = {"APPROVAL_EXPIRE_EVERY": "100ms", "APPROVAL_EXECUTORS": "dry-run"}
    async with notified_service(
        incident_service.address, tmp_path_factory.mktemp("notified"), **settings
    ) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def notified(notifying_service: Notified) -> AsyncIterator[Notified]:
    """The same with its routes as at the start, and receivers that answer."""
    yield notifying_service
    notifying_service.policy_file.write_text(ROUTES)
    notifying_service.oncall.answers.clear()
    notifying_service.payments.answers.clear()
