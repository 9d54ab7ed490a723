"""The settings of the kubernetes executor."""

import ssl
import sys
from pathlib import Path

import pytest
from kubernetes_asyncio.config import incluster_config

from approval.actions.grammar import parse_action
from approval.executors.registry import load_executors
from approval.model import OperationKind
from servicekit.process.settings import SettingsError
from tests.approval.unit.executors.kubernetes.cases import RESTART, context
from tests.approval.unit.executors.kubernetes.cluster_server import TOKEN, cluster_server
from tests.approval.unit.executors.kubernetes.objects import deployment


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.touch()
    return str(path)


def refusal(variables: dict[str, str]) -> str:
    """Why the executor cannot be made."""
    with pytest.raises(SettingsError) as caught:
        load_executors(["kubernetes"], variables)
    return str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        pytest.param("NAMESPACES", "shop,*", "'*' is not the name of a namespace", id="every namespace"),
        pytest.param("NAMESPACES", "shop blog", "'shop blog' is not the name of a namespace", id="no commas"),
        pytest.param(
            "KINDS",
            "deployment,secret",
            "'secret' is none of deployment, statefulset, daemonset, pod, pod-without-owner",
            id="a kind that no operation has",
        ),
        pytest.param("KUBECONFIG", "/nowhere", "/nowhere: there is no such file", id="a missing file"),
        pytest.param("KUBECONFIG", "", "not set, and this is no pod with a service account", id="nothing"),
    ],
)
def test_an_invalid_setting_is_named(kubeconfig: str, variable: str, value: str, reason: str) -> None:
    variables = {"APPROVAL_KUBERNETES_KUBECONFIG": kubeconfig, f"APPROVAL_KUBERNETES_{variable}": value}
    assert refusal(variables) == f"APPROVAL_KUBERNETES_{variable}: {reason}"


def test_without_the_extra_naming_the_executor_says_what_to_install(
    kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes_asyncio", None)
    assert refusal({"APPROVAL_KUBERNETES_KUBECONFIG": kubeconfig}) == (
        "APPROVAL_EXECUTORS: kubernetes needs the package kubernetes-asyncio, "
        "which comes with the extra awoooi-approval[kubernetes]"
    )


def test_an_executor_that_is_not_named_is_not_imported() -> None:
    assert load_executors(["dry-run"], {}).kinds


async def test_in_a_pod_the_service_account_is_used(
    tmp_path: Path, certificate: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(certificate))
    async with cluster_server(tls=server_tls) as cluster:
        host, port = cluster.address.split(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        cluster.add(deployment())
        cluster.steps.append({})
        executors = load_executors(
            ["kubernetes"],
            {"APPROVAL_KUBERNETES_NAMESPACES": "blog, shop", "APPROVAL_KUBERNETES_KINDS": "deployment,pod"},
        )
        found = executors.find(OperationKind.RESTART)
        assert found is not None
        said = await found[1].run(parse_action(RESTART), context())
    assert said == "restarted deployment/web in namespace shop: 3 of 3 replicas updated and available"
