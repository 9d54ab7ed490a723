"""Objects as a cluster sends them."""

import uuid
from typing import Any

Json = dict[str, Any]

NAMESPACE = "shop"
_LABELS = {"app.kubernetes.io/name": "web"}
_REVISION = "deployment.kubernetes.io/revision"


def _metadata(name: str, **more: Any) -> Json:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        "resourceVersion": "4711",
        "creationTimestamp": "2026-05-07T08:00:00Z",
        "labels": dict(_LABELS),
        **more,
    }


def template(image: str, **labels: str) -> Json:
    """A pod template; `stopSignal` stands for a field that an older client does not know."""
    return {
        "metadata": {"creationTimestamp": None, "labels": {**_LABELS, **labels}},
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "lifecycle": {"stopSignal": "SIGUSR1"},
                }
            ],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
        },
    }


def _owner(kind: str, owner: Json) -> list[Json]:
    return _owned_by(kind, owner["metadata"]["name"], owner["metadata"]["uid"])


def _owned_by(kind: str, name: str, uid: str) -> list[Json]:
    return [
        {
            "apiVersion": "apps/v1",
            "kind": kind,
            "name": name,
            "uid": uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def deployment(name: str = "web", *, replicas: int = 3, image: str = "web:7", revision: int = 7) -> Json:
    """A Deployment that is healthy."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(
            name,
            generation=12,
            annotations={
                _REVISION: str(revision),
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "kubernetes.io/change-cause": "release 7",
            },
        ),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": dict(_LABELS)},
            "template": template(image),
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
            },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        },
        "status": {
            "observedGeneration": 12,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [
                {
                    "type": "Available",
                    "status": "True",
                    "reason": "MinimumReplicasAvailable",
                    "lastUpdateTime": "2026-05-07T08:00:09Z",
                    "lastTransitionTime": "2026-05-07T08:00:09Z",
                },
                progressing("NewReplicaSetAvailable"),
            ],
        },
    }


def progressing(reason: str, at: str = "2026-05-07T08:00:09Z") -> Json:
    """The Progressing condition of a Deployment."""
    return {
        "type": "Progressing",
        "status": "False" if reason == "ProgressDeadlineExceeded" else "True",
        "reason": reason,
        "lastUpdateTime": at,
        "lastTransitionTime": at,
    }


def replica_set(owner: Json, *, revision: int, image: str) -> Json:
    """A revision of a Deployment."""
    name = f"{owner['metadata']['name']}-{revision}"
    found = _metadata(
        name,
        generation=1,
        annotations={
            _REVISION: str(revision),
            "deployment.kubernetes.io/desired-replicas": "3",
            "deployment.kubernetes.io/max-replicas": "4",
            "kubernetes.io/change-cause": f"release {revision}",
        },
        ownerReferences=_owner("Deployment", owner),
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": found,
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {**_LABELS, "pod-template-hash": f"hash{revision}"}},
            "template": template(image, **{"pod-template-hash": f"hash{revision}"}),
        },
        "status": {"replicas": 0, "observedGeneration": 1},
    }


def stateful_set(name: str = "db", *, replicas: int = 2, image: str = "db:7") -> Json:
    """A StatefulSet that is healthy."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _metadata(name, generation=5),
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "selector": {"matchLabels": dict(_LABELS)},
            "template": template(image),
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
        "status": {
            "observedGeneration": 5,
            "replicas": replicas,
            "readyReplicas": replicas,
            "currentReplicas": replicas,
            "updatedReplicas": replicas,
            "currentRevision": "db-7",
            "updateRevision": "db-7",
            "collisionCount": 0,
        },
    }


def daemon_set(name: str = "agent", *, nodes: int = 4, image: str = "agent:7") -> Json:
    """A DaemonSet that is healthy."""
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": _metadata(name, generation=9),
        "spec": {
            "selector": {"matchLabels": dict(_LABELS)},
            "template": template(image),
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
            },
        },
        "status": {
            "observedGeneration": 9,
            "currentNumberScheduled": nodes,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": nodes,
            "numberReady": nodes,
            "updatedNumberScheduled": nodes,
            "numberAvailable": nodes,
        },
    }


def controller_revision(owner: Json, *, revision: int, image: str) -> Json:
    """A revision of a StatefulSet or DaemonSet: a strategic merge patch."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": _metadata(
            f"{owner['metadata']['name']}-{revision}", ownerReferences=_owner(owner["kind"], owner)
        ),
        "data": {"spec": {"template": {**template(image), "$patch": "replace"}}},
        "revision": revision,
    }


def ending(found: Json) -> Json:
    """The same object while it is being deleted."""
    return {**found, "metadata": {**found["metadata"], "deletionTimestamp": "2026-05-07T12:00:00Z"}}


def pod(name: str = "web-7-abcde", *, uid: str = "", is_owned: bool = True) -> Json:
    """A pod that runs, of a ReplicaSet or without an owner."""
    found = _metadata(name)
    if is_owned:
        found["ownerReferences"] = _owned_by(
            "ReplicaSet", "web-7", str(uuid.uuid5(uuid.NAMESPACE_DNS, "web-7"))
        )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**found, "uid": uid or found["uid"]},
        "spec": {**template("web:7")["spec"], "nodeName": "node-1"},
        "status": {"phase": "Running", "podIP": "10.0.0.7"},
    }
