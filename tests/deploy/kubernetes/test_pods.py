"""What every pod must have: privileges, settings, ports, probes, time to stop, connections."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from alert_intake.settings import IntakeSettings
from metrics_gateway.settings import GatewaySettings
from servicekit.rpc.server_limits import ServerLimits
from tests.deploy.kubernetes.rendered import (
    JOBS,
    MANIFESTS,
    NAME,
    OVERLAYS,
    ROOT,
    SERVING,
    SETTINGS,
    Object,
    Workload,
    matches,
    named,
    overlay,
    relative,
    render,
    workloads,
)

# For the end of background work, and of the process.
_MARGIN_SECONDS = 5
# A connection more than its pools while a process migrates.
_MIGRATING = 1
# What PostgreSQL keeps for itself, and what people, backups and monitoring use.
_OTHER_CONNECTIONS = 3 + 20
PODS = [(name, each) for name in OVERLAYS for each in (*SERVING, *JOBS)]
PODS.append(("trial", "postgres"))


def pod_named(name: str, label: str) -> Workload:
    [found] = [each for each in workloads(overlay(name)) if each.labels[NAME] == label]
    return found


@pytest.fixture(params=PODS, ids="-".join)
def pod(request: pytest.FixtureRequest) -> Workload:
    """Each kind of pod."""
    return pod_named(*request.param)


@pytest.fixture(params=[each for each in PODS if each[1] in SERVING], ids="-".join)
def served(request: pytest.FixtureRequest) -> tuple[str, Workload]:
    """Each kind of pod that serves, with its overlay."""
    return request.param[0], pod_named(*request.param)


def test_every_kind_of_pod_is_looked_at() -> None:
    found = [(name, each.labels[NAME]) for name in OVERLAYS for each in workloads(overlay(name))]
    assert sorted(found) == sorted(PODS)


def listening(workload: Workload) -> Mapping[str, int]:
    """The ports that a service opens, by their variables."""
    return {
        name: int(value.rpartition(":")[2])
        for name, value in workload.variables.items()
        if name.endswith("LISTEN")
    }


def test_a_pod_has_no_privileges(pod: Workload) -> None:
    assert pod.pod["automountServiceAccountToken"] is False
    context = pod.pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.pod.keys()
    assert all("hostPath" not in volume for volume in pod.pod["volumes"])


def test_a_pod_asks_for_what_it_needs(pod: Workload) -> None:
    resources = pod.container["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    # Processor time that is not used by others is not withheld.
    assert resources["limits"].keys() == {"memory"}


def test_only_postgres_writes_files(pod: Workload) -> None:
    mounts = {each["name"]: each for each in pod.container["volumeMounts"]}
    claimed = {"data"} if pod.name == "postgres" else set()
    assert mounts.keys() == {each["name"] for each in pod.pod["volumes"]} | claimed
    writable = {name for name, each in mounts.items() if not each.get("readOnly")}
    assert writable == ({"data", "socket", "temporary", "shared-memory"} if claimed else set())
    # Its group reads the Secrets, and no other.
    assert all(each["defaultMode"] == 0o440 for _, each in pod.secrets())
    assert pod.pod["securityContext"]["fsGroup"] == pod.pod["securityContext"]["runAsGroup"]


def test_every_variable_is_a_setting(pod: Workload) -> None:
    if pod.name.startswith("doctor"):
        names = re.findall(r"Variable: `(\w+)`", (ROOT / "docs/cli.md").read_text(encoding="utf-8"))
        assert pod.variables.keys() <= set(names)
    elif pod.service:
        prefix = pod.service.upper()
        fields = {f"{prefix}_{name.upper()}" for name in SETTINGS[pod.service].model_fields}
        assert {re.sub(r"(_URL|_SECRET|_URLS)_FILE$", r"\1", name) for name in pod.variables} <= fields


def test_every_file_that_a_variable_names_is_mounted(pod: Workload) -> None:
    mounted = {each["mountPath"] for each in pod.container["volumeMounts"]}
    paths = [Path(value) for value in pod.variables.values() if value.startswith("/run/")]
    assert {str(path if str(path) in mounted else path.parent) for path in paths} <= mounted
    for mount, secret in pod.secrets():
        if "items" in secret:
            given = {f"{mount}/{item['path']}" for item in secret["items"]}
            assert {str(path) for path in paths if str(path.parent) == mount} <= given


def test_a_service_declares_exactly_the_ports_that_it_opens(served: tuple[str, Workload]) -> None:
    pod = served[1]
    assert sorted(pod.ports.values()) == sorted(listening(pod).values())


def test_probes_ask_a_port_that_is_open_and_takes_them(served: tuple[str, Workload]) -> None:
    pod = served[1]
    probes = {kind: pod.container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
    prefix = pod.service.upper()
    for kind, probe in probes.items():
        if "grpc" in probe:
            # In plain text: where health alone is served.
            assert probe["grpc"]["port"] == listening(pod)[f"{prefix}_HEALTH_LISTEN"]
            # What restarts a process does not depend on its database.
            assert probe["grpc"].get("service", "") == ("" if kind == "readiness" else "liveness")
        else:
            assert probe["httpGet"]["scheme"] == "HTTPS"
            assert pod.ports[probe["httpGet"]["port"]] == listening(pod)[f"{prefix}_LISTEN"]
            assert probe["httpGet"]["path"] == ("/-/ready" if kind == "readiness" else "/-/healthy")
    assert ("grpc" in probes["readiness"]) is (pod.service in ("incident", "approval"))


def test_a_pod_has_the_time_that_its_service_takes_to_stop(served: tuple[str, Workload]) -> None:
    pod = served[1]
    # As the services' __main__ have it; a scrape or post in flight is answered within a second.
    stopping = {
        "incident": ServerLimits().drain,
        "approval": ServerLimits().drain,
        "gateway": GatewaySettings().longest_source_timeout + timedelta(seconds=1),
        "intake": IntakeSettings().post_timeout + timedelta(seconds=1),
    }[pod.service]
    waiting = pod.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = waiting + stopping.total_seconds() + _MARGIN_SECONDS
    assert needed <= pod.pod["terminationGracePeriodSeconds"]


def test_pods_spread_and_are_replaced_one_by_one(served: tuple[str, Workload]) -> None:
    objects, pod = overlay(served[0]), served[1]
    spread = pod.pod["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert all(matches(each["labelSelector"], pod.labels) for each in spread)
    deployment = named(objects, "Deployment", pod.name)["spec"]
    # What the autoscaler changes, no deployment changes back.
    assert "replicas" not in deployment
    # Before the new version is ready, no pod of the old one goes: the migration is waited for.
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = named(objects, "PodDisruptionBudget", pod.name)["spec"]
    assert budget["maxUnavailable"] == 1
    scaling = named(objects, "HorizontalPodAutoscaler", pod.name)["spec"]
    assert scaling["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": pod.name}
    assert scaling["minReplicas"] == (1 if served[0] == "trial" else 2)


@pytest.mark.parametrize("service", ["incident", "approval"])
def test_the_database_has_the_connections_that_all_replicas_of_two_versions_open(service: str) -> None:
    settings = SETTINGS[service].model_fields
    each = settings["database_pool_size"].default + settings["database_read_pool_size"].default + _MIGRATING
    production = overlay("production")
    replicas = named(production, "HorizontalPodAutoscaler", service)["spec"]["maxReplicas"]
    cluster = named(production, "Cluster", f"{service}-db")["spec"]["postgresql"]
    assert 2 * replicas * each + _OTHER_CONNECTIONS <= int(cluster["parameters"]["max_connections"])


@pytest.mark.parametrize("service", ["incident", "approval"])
def test_a_commit_is_on_two_servers(service: str) -> None:
    cluster: Object = named(overlay("production"), "Cluster", f"{service}-db")["spec"]
    assert cluster["instances"] >= 3
    assert cluster["postgresql"]["synchronous"] == {
        "method": "any",
        "number": 1,
        "dataDurability": "required",
    }


def test_the_receivers_have_their_secrets_and_a_way_out(tmp_path: Path, secrets: Path) -> None:
    component = relative(tmp_path, MANIFESTS / "receivers")
    overlay_folder = relative(tmp_path, MANIFESTS / "overlays" / "production")
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{overlay_folder}]\ncomponents: [{component}]\n", encoding="utf-8"
    )
    objects = render(tmp_path)
    keys = set(named(render(secrets), "Secret", "flywheel-receivers")["data"])
    out = named(objects, "NetworkPolicy", "receivers")["spec"]
    for pod in workloads(objects):
        if pod.kind == "Deployment" and pod.service in ("incident", "approval"):
            assert matches(out["podSelector"], pod.labels)
            test_every_variable_is_a_setting(pod)
            test_every_file_that_a_variable_names_is_mounted(pod)
            given = {
                item["key"]
                for mount, each in pod.secrets()
                if mount == "/run/receivers"
                for item in each["items"]
            }
            assert given
            assert given <= keys
        else:
            assert not matches(out["podSelector"], pod.labels)
