"""The manifests of deploy/kubernetes as kustomize renders them."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from alert_intake.settings import IntakeSettings
from approval.settings import ApprovalSettings
from incident.settings import IncidentSettings
from metrics_gateway.settings import GatewaySettings
from servicekit.process.settings import Settings
from tests.deploy.kubernetes.kustomize import kustomize

ROOT = Path(__file__).parents[3]
MANIFESTS = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("trial", "production")
NAMESPACE = "flywheel"
SETTINGS: Mapping[str, type[Settings]] = {
    "incident": IncidentSettings,
    "approval": ApprovalSettings,
    "intake": IntakeSettings,
    "gateway": GatewaySettings,
}
# The names of pods: what every policy, selector and budget goes by.
NAME = "app.kubernetes.io/name"
# By the label with their name.
SERVING = ("incident", "approval", "gateway", "intake")
JOBS = ("incident-migrate", "approval-migrate", "doctor")

Object = Mapping[str, Any]


@cache
def render(folder: Path) -> Sequence[Object]:
    """What a kustomization renders to. Not to be changed."""
    done = subprocess.run(
        [*kustomize(), str(folder)], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return tuple(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def overlay(name: str) -> Sequence[Object]:
    """The objects of an overlay."""
    return render(MANIFESTS / "overlays" / name)


def of_kind(objects: Sequence[Object], *kinds: str) -> Sequence[Object]:
    """The objects of these kinds."""
    return [each for each in objects if each["kind"] in kinds]


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The one object of a kind and a name."""
    found = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    assert len(found) == 1, (kind, name)
    return found[0]


@dataclass(frozen=True)
class Workload:
    """Pods of one kind."""

    name: str
    kind: str
    labels: Mapping[str, str]
    pod: Object

    @property
    def container(self) -> Object:
        """Its only container."""
        containers: Sequence[Object] = self.pod["containers"]
        assert len(containers) == 1
        return containers[0]

    @property
    def ports(self) -> Mapping[str, int]:
        """The ports of its container by their names."""
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", ())}

    @property
    def variables(self) -> Mapping[str, str]:
        """Its environment. Every value is in the manifest: secrets are in files."""
        return {each["name"]: each["value"] for each in self.container["env"]}

    @property
    def service(self) -> str:
        """The service whose image and settings it has; empty: none of ours."""
        image = self.container["image"].rpartition("/")[2].partition(":")[0]
        return image.removeprefix("flywheel-") if image.startswith("flywheel-") else ""

    def secrets(self) -> Iterator[tuple[str, Object]]:
        """Its volumes that are Secrets, each with where it is mounted."""
        mounts = {each["name"]: each["mountPath"] for each in self.container["volumeMounts"]}
        for volume in self.pod["volumes"]:
            if "secret" in volume:
                yield mounts[volume["name"]], volume["secret"]


def workloads(objects: Sequence[Object]) -> Sequence[Workload]:
    """All pods that the objects start; not those of a CloudNativePG cluster."""
    return [
        Workload(
            each["metadata"]["name"],
            each["kind"],
            each["spec"]["template"]["metadata"]["labels"],
            each["spec"]["template"]["spec"],
        )
        for each in of_kind(objects, "Deployment", "StatefulSet", "Job")
    ]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def relative(start: Path, target: Path) -> str:
    """The path from a folder to another."""
    return str(Path(*([".."] * (len(start.resolve().parts) - 1)), *target.parts[1:]))
