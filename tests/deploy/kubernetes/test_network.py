"""The network policies allow exactly the connections that the manifests make, and those of the operators and of callers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.deploy.kubernetes.rendered import (
    NAME,
    NAMESPACE,
    OVERLAYS,
    Object,
    Workload,
    matches,
    named,
    of_kind,
    overlay,
    workloads,
)

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_DNS = ("dns", 53)
# Of a server of CloudNativePG: PostgreSQL, and the status for its operator.
_CLUSTER_PORTS = (5432, 8000)


@dataclass(frozen=True)
class Peer:
    """Somebody who may connect or be connected to. `ports` are those that a pod has."""

    namespace: Mapping[str, str]
    labels: Mapping[str, str]
    ports: Sequence[int]

    @property
    def is_ours(self) -> bool:
        """Whether the policies are about it."""
        return self.namespace.get(_NAMESPACE_NAME) == NAMESPACE


Arc = tuple[str, str, int]

# The whole network: no label selects it.
_WORLD = "world"
_OUTSIDE = {
    "prometheus": Peer({_NAMESPACE_NAME: "monitoring"}, {NAME: "prometheus"}, (9090,)),
    "alertmanager": Peer({_NAMESPACE_NAME: "monitoring"}, {NAME: "alertmanager"}, ()),
    "caller": Peer({_NAMESPACE_NAME: "apps", "flywheel-access": "calls"}, {NAME: "proposer"}, ()),
    "stranger": Peer({_NAMESPACE_NAME: "apps"}, {NAME: "prometheus"}, (5432,)),
    "operator": Peer({_NAMESPACE_NAME: "cnpg-system"}, {NAME: "cloudnative-pg"}, ()),
    "dns": Peer({_NAMESPACE_NAME: "kube-system"}, {"k8s-app": "kube-dns"}, (53,)),
}


def peers(name: str) -> Mapping[str, Peer]:
    """Every kind of pod of the overlay by its name, and those outside."""
    objects = overlay(name)
    ours = {_NAMESPACE_NAME: NAMESPACE}
    pods = {pod.name: Peer(ours, pod.labels, tuple(pod.ports.values())) for pod in workloads(objects)}
    databases = {
        each["metadata"]["name"]: Peer(ours, {"cnpg.io/cluster": each["metadata"]["name"]}, _CLUSTER_PORTS)
        for each in of_kind(objects, "Cluster")
    }
    return {**pods, **databases, **_OUTSIDE}


def is_peer(rule: Object, peer: Peer) -> bool:
    """Whether an entry of `from` or `to` is about a pod."""
    if "ipBlock" in rule:
        return False
    inside = (
        matches(rule["namespaceSelector"], peer.namespace) if "namespaceSelector" in rule else peer.is_ours
    )
    return inside and matches(rule.get("podSelector", {}), peer.labels)


def allows(policies: Sequence[Object], direction: str, pod: Peer, other: Peer | None, port: int) -> bool:
    """Whether a pod may connect to another (`egress`), or be connected to by it; None: the world."""
    if not pod.is_ours:
        return True
    spec = [each["spec"] for each in policies if matches(each["spec"]["podSelector"], pod.labels)]
    spec = [each for each in spec if direction.capitalize() in each["policyTypes"]]
    assert spec, "denied by default: a policy selects every pod"
    side = "to" if direction == "egress" else "from"
    for rule in (rule for each in spec for rule in each.get(direction, ())):
        assert "ports" in rule
        if port in {each["port"] for each in rule["ports"]} and (
            side not in rule or any(other is not None and is_peer(each, other) for each in rule[side])
        ):
            return True
    return False


def allowed(name: str) -> set[Arc]:
    """All connections that the policies allow, to every port that a pod has, and to the world."""
    everybody = peers(name)
    policies = of_kind(overlay(name), "NetworkPolicy")
    world_ports = {
        port["port"] for each in policies for rule in each["spec"].get("egress", ()) for port in rule["ports"]
    }
    arcs: set[Arc] = set()
    for source, peer in everybody.items():
        for target, other in everybody.items():
            for port in other.ports:
                if not peer.is_ours and not other.is_ours:
                    continue
                if allows(policies, "egress", peer, other, port) and allows(
                    policies, "ingress", other, peer, port
                ):
                    arcs.add((source, target, port))
        if peer.is_ours:
            for port in world_ports:
                if allows(policies, "egress", peer, None, port):
                    arcs.add((source, _WORLD, port))
    return arcs


def pods_behind(objects: Sequence[Object], service: str) -> str:
    """The name of the pods behind a Service; that of a cluster's primary is CloudNativePG's own."""
    if cluster := [
        each for each in of_kind(objects, "Cluster") if f"{each['metadata']['name']}-rw" == service
    ]:
        return str(cluster[0]["metadata"]["name"])
    return str(named(objects, "Service", service)["spec"]["selector"][NAME])


def called(objects: Sequence[Object], pod: Workload, secrets: Path) -> Iterator[Arc]:
    """What a pod calls, by its variables."""
    yield (pod.name, *_DNS)
    for variable, value in pod.variables.items():
        if variable.endswith("_DATABASE_URL_FILE"):
            role = pod.service + ("_owner" if "OWNER" in variable else "")
            url = urlsplit((secrets / f"{role}_database_url").read_text(encoding="utf-8"))
            yield (pod.name, pods_behind(objects, str(url.hostname)), url.port or 0)
        elif not variable.endswith("LISTEN"):
            if variable == "FLYWHEEL_PROMETHEUS":
                yield (pod.name, "prometheus", urlsplit(value).port or 0)
            for host, port in re.findall(r"(?:^|=)([a-z-]+):(\d+)", value):
                yield (pod.name, pods_behind(objects, host), int(port))


def needed(name: str, secrets: Path) -> Iterator[Arc]:
    """All connections that are made."""
    objects = overlay(name)
    pods = {pod.name: pod for pod in workloads(objects)}
    for pod in pods.values():
        yield from called(objects, pod, secrets)
    for monitor in of_kind(objects, "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            target = monitor["spec"]["selector"]["matchLabels"][NAME]
            yield ("prometheus", target, pods[target].ports[endpoint["port"]])
    yield ("alertmanager", "intake", pods["intake"].ports["https"])
    for service in ("incident", "approval"):
        yield ("caller", service, pods[service].ports["rpc"])
    for cluster in of_kind(objects, "Cluster"):
        database = cluster["metadata"]["name"]
        yield (database, *_DNS)
        for port in _CLUSTER_PORTS:
            yield (database, database, port)
            yield ("operator", database, port)
        # The API of Kubernetes, which no label selects.
        yield from ((database, _WORLD, port) for port in (443, 6443))


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_connections_that_are_made_are_allowed_and_no_others(name: str, secrets: Path) -> None:
    assert allowed(name) == set(needed(name, secrets))


@pytest.mark.parametrize("name", OVERLAYS)
def test_neither_side_of_a_connection_allows_more_than_the_other(name: str, secrets: Path) -> None:
    ours = {each: peer for each, peer in peers(name).items() if peer.is_ours}
    policies = of_kind(overlay(name), "NetworkPolicy")
    pairs = [
        (source, target, port) for source in ours for target, peer in ours.items() for port in peer.ports
    ]
    made = {
        (source, target, port)
        for source, target, port in needed(name, secrets)
        if {source, target} <= ours.keys()
    }
    outgoing = {arc for arc in pairs if allows(policies, "egress", ours[arc[0]], ours[arc[1]], arc[2])}
    incoming = {arc for arc in pairs if allows(policies, "ingress", ours[arc[1]], ours[arc[0]], arc[2])}
    assert outgoing == made
    assert incoming == made


@pytest.mark.parametrize("name", OVERLAYS)
def test_where_nothing_is_said_nothing_is_allowed(name: str) -> None:
    default = named(overlay(name), "NetworkPolicy", "default-deny")["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
