"""All checks of a deployment, run and reported."""

import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import version

from flywheel.doctor.canary import Canary
from flywheel.doctor.checks import Check, Result, run_checks
from flywheel.doctor.deployment import Deployment, UsageError
from flywheel.doctor.gateway import GatewayChecks
from flywheel.doctor.prometheus import PrometheusChecks
from flywheel.doctor.report import is_well, to_json, to_text
from flywheel.doctor.service import ServiceChecks

_EXIT_FAILED = 1
_EXIT_USAGE = 2


def run(deployment: Deployment, *, with_canary: bool, as_json: bool) -> int:
    """Check a deployment, print the results, and return the exit code: 0, 1 when a check failed, 2 for a wrong flag."""
    try:
        deployment.check()
    except UsageError as exc:
        print(f"flywheel: {exc}", file=sys.stderr)  # noqa: T201 - for the user
        return _EXIT_USAGE
    results = asyncio.run(examine(deployment, with_canary=with_canary))
    print(to_json(results) if as_json else to_text(results))  # noqa: T201 - the command's result
    return 0 if is_well(results) else _EXIT_FAILED


async def examine(deployment: Deployment, *, with_canary: bool) -> Sequence[Result]:
    """Return the results of all checks."""
    own = version("awoooi-flywheel")
    checks: list[Check] = []
    for name, target in (("incident", deployment.incident), ("approval", deployment.approval)):
        checks += ServiceChecks(deployment, name, target, version=own).checks()
    if deployment.gateway:
        checks += GatewayChecks(deployment, version=own).checks()
    if deployment.prometheus:
        checks += PrometheusChecks(deployment).checks()
    canary = Canary(deployment)
    if with_canary:
        checks += canary.checks()
    try:
        return await run_checks(checks, seconds=deployment.timeout)
    finally:
        await canary.clear()
