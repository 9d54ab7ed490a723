"""One deployment for all tests here that one worker runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flywheel.operator.deployment import NAME, Command, Deployment, deployed


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """The services."""
    with deployed() as running:
        yield running


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command without any context."""
    return Command(monkeypatch, capfd, tmp_path)


@pytest.fixture
def flywheel(command: Command, deployment: Deployment) -> Command:
    """The command, its current context the deployment."""
    services = deployment.services
    command.done(
        *("context", "add", NAME),
        *("--incident", services["incident"].address, "--approval", services["approval"].address),
    )
    command.done("context", "use", NAME)
    return command
