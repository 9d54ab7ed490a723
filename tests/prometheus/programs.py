"""prometheus, promtool and alertmanager for tests: those on the PATH, else Debian's, unpacked into the virtual environment."""

import shutil
from functools import cache

from flywheel.programs.debian import Packages, UnavailableError, major_version, unpacked
from flywheel.programs.monitoring import ALERTMANAGER, CURRENT_PROMETHEUS, PROMETHEUS
from tests.debian_packages import skip_or_fail

MAJOR_VERSIONS = sorted(PROMETHEUS)
CURRENT = CURRENT_PROMETHEUS


@cache
def promtool(major: int = CURRENT) -> str:
    """Return the path of promtool. Without one the test is skipped with the reason; with CI=true it fails."""
    return _program("promtool", PROMETHEUS[major])


@cache
def prometheus(major: int = CURRENT) -> str:
    """Return the path of prometheus, as `promtool` does."""
    return _program("prometheus", PROMETHEUS[major])


@cache
def alertmanager() -> str:
    """Return the path of alertmanager, as `promtool` does. `flywheel.programs.debian` knows its working directory."""
    return _program("alertmanager", ALERTMANAGER)


@cache
def amtool() -> str:
    """Return the path of amtool, as `promtool` does."""
    return _program("amtool", ALERTMANAGER)


def _program(name: str, packages: Packages) -> str:
    found = shutil.which(name)
    if found is not None and major_version(found) == packages.major:
        return found
    try:
        return unpacked(packages)[name]
    except UnavailableError as exc:
        skip_or_fail(f"{name} {packages.major} is not on the PATH, and Debian's cannot be unpacked: {exc}")
