"""Prometheus and Alertmanager: those that are named, else those on the PATH, else Debian's."""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from flywheel.errors import FlywheelError
from flywheel.programs.debian import FOLDER, Packages, UnavailableError, is_unpacked, unpacked

# Prometheus by its major version. The last one is that of docker-compose.yml.
PROMETHEUS: Mapping[int, Packages] = {
    2: Packages(
        "bookworm",
        ["prometheus"],
        {"prometheus": "usr/bin/prometheus", "promtool": "usr/bin/promtool"},
        major=2,
    ),
    3: Packages(
        "forky",
        ["prometheus", "promtool"],
        {"prometheus": "usr/bin/prometheus", "promtool": "usr/bin/promtool"},
        major=3,
    ),
}
CURRENT_PROMETHEUS = max(PROMETHEUS)
ALERTMANAGER = Packages(
    "forky",
    ["prometheus-alertmanager"],
    {"alertmanager": "usr/bin/prometheus-alertmanager", "amtool": "usr/bin/amtool"},
    major=0,
)

# Debian's Alertmanager has a name of its own.
_NAMES_ON_PATH = {
    "prometheus": ("prometheus",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
}
_USAGE_ERROR = 2


class MonitoringPrograms(NamedTuple):
    """The paths of both programs."""

    prometheus: str
    alertmanager: str


def find_monitoring(
    *,
    prometheus: Path | None,
    alertmanager: Path | None,
    working: Callable[[str], AbstractContextManager[object]],
) -> MonitoringPrograms:
    """Return the programs. What takes a while happens inside the context manager that `working` returns for a description.

    Raises FlywheelError, with the exit status of a wrong usage, when one cannot be had.
    """
    found = {
        "prometheus": _named("prometheus", prometheus) or _on_path("prometheus"),
        "alertmanager": _named("alertmanager", alertmanager) or _on_path("alertmanager"),
    }
    missing: dict[str, str] = {}
    packages = {"prometheus": PROMETHEUS[CURRENT_PROMETHEUS], "alertmanager": ALERTMANAGER}
    for name in [name for name, path in found.items() if path is None]:
        text = f"{name} is not on the PATH: Debian's package is unpacked below {FOLDER}, once; nothing is installed"
        try:
            with nullcontext() if is_unpacked(packages[name]) else working(text):
                found[name] = unpacked(packages[name])[name]
        except UnavailableError as exc:
            missing[name] = str(exc)
    if missing:
        options = " and ".join(f"--{name} PATH" for name in missing)
        raise FlywheelError(
            f"{' and '.join(missing)}: not on the PATH, and Debian's package cannot be unpacked: "
            + "; ".join(dict.fromkeys(missing.values())),
            advice="on Debian and Ubuntu: apt-get install prometheus prometheus-alertmanager; elsewhere: "
            f"https://prometheus.io/download has both; or name what is there: {options}",
            exit_status=_USAGE_ERROR,
        )
    return MonitoringPrograms(str(found["prometheus"]), str(found["alertmanager"]))


def _named(name: str, path: Path | None) -> str | None:
    if path is None:
        return None
    if not path.is_file() or not os.access(path, os.X_OK):
        raise FlywheelError(f"--{name} {path}: no such program", exit_status=_USAGE_ERROR)
    return str(path.resolve())


def _on_path(name: str) -> str | None:
    return next(filter(None, map(shutil.which, _NAMES_ON_PATH[name])), None)
