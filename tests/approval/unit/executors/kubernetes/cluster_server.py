"""A server of the Kubernetes API as far as operations need it: its paths, patches, conflicts, dry runs and roles."""

import copy
import json
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

Json = dict[str, Any]
Applied = Callable[[], web.Response]
Fault = Callable[[web.BaseRequest, Applied], Awaitable[web.StreamResponse]]

TOKEN = "service-account-token-of-the-tests"
_PLURALS = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "ReplicaSet": "replicasets",
    "ControllerRevision": "controllerrevisions",
    "Pod": "pods",
}
_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>apps)/v1)/namespaces/(?P<namespace>[^/]+)"
    r"/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>[a-z]+))?)?"
)
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class ApiError(Exception):
    """An error that the API returns as a Status object."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code

    def response(self) -> web.Response:
        """The response; its text has details that must not be disclosed."""
        return web.json_response(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": f"{self} by user system:serviceaccount:private-detail",
                "reason": _REASONS[self.code],
                "code": self.code,
            },
            status=self.code,
        )


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    query: Mapping[str, str]
    content_type: str
    body: Any

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing was to be changed."""
        return self.query.get("dryRun") == "All"


@dataclass
class ClusterServer:
    """What the cluster holds, how it goes on after a change, and what goes wrong."""

    # Rules of a Role; None allows everything.
    rules: Sequence[Json] | None = None
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    address: str = ""
    # What the next reads of a workload find in its status, after its spec was changed. The last one stays.
    steps: deque[Json] = field(default_factory=deque)
    # What the next reads of a deleted pod find; None is nothing.
    after_delete: deque[Json | None] = field(default_factory=lambda: deque([None]))
    faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    # A mutating admission webhook: from the patched workload to the one that is stored.
    admission: Callable[[Json], Json] = field(default=lambda patched: patched)
    _changed: set[tuple[str, str]] = field(default_factory=set)

    def add(self, *objects: Json) -> None:
        """Put objects into the cluster."""
        for each in objects:
            key = (_PLURALS[each["kind"]], each["metadata"]["name"])
            self.objects[key] = copy.deepcopy(each)

    def get(self, resource: str, name: str) -> Json:
        """An object as it is now."""
        return self.objects[resource, name]

    def fail(self, method: str, resource: str, *faults: Fault) -> None:
        """Let the next requests of this method for this resource go wrong, one a fault."""
        self.faults += [(method, resource, fault) for fault in faults]

    def changes(self) -> list[Seen]:
        """The requests that were to change something."""
        return [each for each in self.seen if each.method != "GET" and not each.is_dry_run]

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig for this server."""
        path = folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "approval"}}],
            "clusters": [{"name": "tests", "cluster": {"server": f"http://{self.address}"}}],
            "users": [{"name": "approval", "user": {"token": TOKEN}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        found = _PATH.fullmatch(request.path)
        content = await request.read()
        body = json.loads(content) if content else None
        self.seen.append(Seen(request.method, request.path, dict(request.query), request.content_type, body))
        try:
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise ApiError(401)
            if found is None:
                raise ApiError(404, "the server could not find the requested resource")
            self._authorize(request.method, found)

            def applied() -> web.Response:
                return web.json_response(self._apply(request, found, body))

            for each in self.faults:
                method, resource, fault = each
                if (method, resource) == (request.method, found["resource"]):
                    self.faults.remove(each)
                    return await fault(request, applied)
            return applied()
        except ApiError as exc:
            return exc.response()

    def _authorize(self, method: str, found: re.Match[str]) -> None:
        if self.rules is None:
            return
        verb = {"GET": "get" if found["name"] else "list", "PATCH": "patch", "DELETE": "delete"}[method]
        resource = "/".join(filter(None, [found["resource"], found["subresource"]]))
        for rule in self.rules:
            if (
                (found["group"] or "") in rule["apiGroups"]
                and resource in rule["resources"]
                and verb in rule["verbs"]
            ):
                return
        raise ApiError(403, f"cannot {verb} resource {resource}")

    def _apply(self, request: web.BaseRequest, found: re.Match[str], body: Any) -> Json:
        resource, name, dry_run = found["resource"], found["name"], request.query.get("dryRun") == "All"
        if not name:
            return self._list(resource, request.query.get("labelSelector", ""))
        key = (resource, name)
        if request.method == "GET" and key in self._changed:
            self._go_on(key)
        if key not in self.objects or self.objects[key]["metadata"]["namespace"] != found["namespace"]:
            raise ApiError(404, f'{resource} "{name}" not found')
        match request.method:
            case "GET":
                return self.objects[key]
            case "DELETE":
                return self._delete(key, body, dry_run=dry_run)
            case _:
                return self._patch(key, request.content_type, found["subresource"], body, dry_run=dry_run)

    def _list(self, resource: str, selector: str) -> Json:
        wanted = dict(part.split("=") for part in selector.split(",") if part)
        items = [
            each
            for (kind, _), each in self.objects.items()
            if kind == resource and wanted.items() <= each["metadata"]["labels"].items()
        ]
        return {"apiVersion": "apps/v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}

    def _go_on(self, key: tuple[str, str]) -> None:
        if key[0] == "pods":
            after = self.after_delete.popleft() if len(self.after_delete) > 1 else self.after_delete[0]
            self.objects.pop(key, None)
            if after is not None:
                self.objects[key] = copy.deepcopy(after)
        elif self.steps:
            step = self.steps.popleft() if len(self.steps) > 1 else self.steps[0]
            observed = {"observedGeneration": self.objects[key]["metadata"]["generation"]}
            self.objects[key]["status"].update({**observed, **step})

    def _delete(self, key: tuple[str, str], body: Any, *, dry_run: bool) -> Json:
        uid = self.objects[key]["metadata"]["uid"]
        if body["preconditions"]["uid"] != uid:
            raise ApiError(409, "the UID in the precondition does not match")
        if not dry_run:
            self.objects[key]["metadata"]["deletionTimestamp"] = "2026-05-07T12:00:00Z"
            self._changed.add(key)
        return self.objects[key]

    def _patch(
        self, key: tuple[str, str], content_type: str, subresource: str | None, body: Any, *, dry_run: bool
    ) -> Json:
        before = self.objects[key]
        if subresource == "scale" and content_type != "application/merge-patch+json":
            raise ApiError(400, "a scale has no strategic merge patch")
        after = self.admission(_PATCHES[content_type](copy.deepcopy(before), body))
        if after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
            raise ApiError(409, "the object has been modified")
        if after["spec"] != before["spec"]:
            after["metadata"]["generation"] += 1
        if not dry_run:
            self._changed.add(key)
        # A patch without a difference writes nothing.
        if not dry_run and after != before:
            after["metadata"]["resourceVersion"] = str(int(before["metadata"]["resourceVersion"]) + 1)
            self.objects[key] = after
        return _scale(after) if subresource == "scale" else after


def _scale(workload: Json) -> Json:
    metadata, status = workload["metadata"], workload["status"]
    named = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {**named, "creationTimestamp": metadata["creationTimestamp"]},
        "spec": {"replicas": workload["spec"]["replicas"]},
        "status": {"replicas": status["replicas"], "selector": "app.kubernetes.io/name=web"},
    }


def _merge(target: Json, patch: Json) -> Json:
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    for name, value in patch.items():
        if isinstance(value, dict):
            target[name] = _merge(target.get(name) or {}, value)
        elif value is None:
            target.pop(name, None)
        else:
            target[name] = value
    return target


def _json_patch(target: Json, patch: list[Json]) -> Json:
    for each in patch:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in each["path"].split("/")[1:]]
        place = target
        for name in parents:
            place = place[name]
        if each["op"] == "replace" and last not in place:
            raise ApiError(422, "the path does not exist")
        place[last] = each["value"]
    return target


_PATCHES: Mapping[str, Callable[[Json, Any], Json]] = {
    "application/strategic-merge-patch+json": _merge,
    "application/merge-patch+json": _merge,
    "application/json-patch+json": _json_patch,
}


@asynccontextmanager
async def cluster_server(
    rules: Sequence[Json] | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ClusterServer]:
    """A cluster's API on a free port, until the block ends."""
    cluster = ClusterServer(rules)
    # Requests that hang are cut off with their connection.
    runner = web.ServerRunner(web.Server(cluster.answer), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    cluster.address = f"{host}:{port}"
    try:
        yield cluster
    finally:
        await runner.cleanup()
