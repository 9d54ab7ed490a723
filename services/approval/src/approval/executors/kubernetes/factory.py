"""Makes the kubernetes executor; its dependencies are imported only when the settings name it."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from approval.executors.kubernetes.allow_list import AllowList

if TYPE_CHECKING:
    from approval.executors.kubernetes.executor import KubernetesExecutor

_KUBECONFIG = "APPROVAL_KUBERNETES_KUBECONFIG"
# Seconds that one call of the cluster may take.
_CALL_TIMEOUT = 10.0


def make_executor(environment: Mapping[str, str]) -> "KubernetesExecutor":
    """Return the executor. Raises ValueError naming the variable that is wrong, or the extra that is missing."""
    if find_spec("kubernetes_asyncio") is None:
        raise ValueError(
            "APPROVAL_EXECUTORS: kubernetes needs the package kubernetes-asyncio, "
            "which comes with the extra awoooi-approval[kubernetes]"
        )
    # It takes 2 s of processor time and 100 MB: now, and not when the first operation is waiting.
    from approval.executors.kubernetes.cluster import Connector  # noqa: PLC0415
    from approval.executors.kubernetes.executor import KubernetesExecutor  # noqa: PLC0415

    allowed = AllowList.from_environment(environment)
    path = environment.get(_KUBECONFIG, "")
    try:
        connector = Connector(Path(path) if path else None, call_timeout=_CALL_TIMEOUT)
    except ValueError as exc:
        raise ValueError(f"{_KUBECONFIG}: {exc}") from None
    return KubernetesExecutor(connector, allowed)
