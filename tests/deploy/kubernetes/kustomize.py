"""kustomize: the one in the kubectl on the PATH, else Debian's, unpacked into the virtual environment."""

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

from flywheel.programs.debian import Packages, UnavailableError, unpacked
from tests.debian_packages import skip_or_fail

_DEBIAN = Packages("trixie", ["kustomize"], {"kustomize": "usr/bin/kustomize"}, major=5, tells_version=False)


@cache
def kustomize() -> Sequence[str]:
    """Return the command that renders a folder. Without one the test is skipped with the reason; with CI=true it fails."""
    kubectl = shutil.which("kubectl")
    if kubectl is not None:
        done = subprocess.run(
            [kubectl, "version", "--client"], capture_output=True, text=True, check=False, timeout=240
        )
        if f"Kustomize Version: v{_DEBIAN.major}." in done.stdout:
            return [kubectl, "kustomize"]
    try:
        return [unpacked(_DEBIAN)["kustomize"], "build"]
    except UnavailableError as exc:
        skip_or_fail(
            f"no kubectl with kustomize {_DEBIAN.major} is on the PATH, and Debian's cannot be unpacked: {exc}"
        )
