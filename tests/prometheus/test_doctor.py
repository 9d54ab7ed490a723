"""`flywheel doctor` and a real Prometheus."""

from pathlib import Path

import pytest

from flywheel.doctor.checks import Result, Status, run_checks
from flywheel.doctor.deployment import Deployment
from flywheel.doctor.prometheus import PrometheusChecks
from flywheel.doctor.rules import ALERTS
from tests.e2e.protected_stack import free_address
from tests.eventually import eventually
from tests.prometheus.server import running_prometheus
from tests.prometheus.test_alerts import gateway


async def test_every_rule_is_loaded_and_the_gateway_is_scraped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        gateway(f"incident={free_address()}") as address,
        running_prometheus(tmp_path / "prometheus", address) as running,
    ):
        deployment = Deployment("a:1", "b:2", prometheus=running.url)

        async def examined() -> dict[str, Result]:
            results = await run_checks(PrometheusChecks(deployment).checks(), seconds=60)
            return {each.name: each for each in results}

        # The first evaluation and the first scrape are waited for.
        results = await eventually(
            examined, lambda found: all(each.status is Status.OK for each in found.values())
        )
        assert results["prometheus.scrape"].detail == address
        monkeypatch.setattr("flywheel.doctor.prometheus.ALERTS", ALERTS | {"FlywheelLater"})
        failed = (await examined())["prometheus.rules"]
        assert failed.status is Status.FAILED
        assert failed.detail.endswith("are not loaded: FlywheelLater")
