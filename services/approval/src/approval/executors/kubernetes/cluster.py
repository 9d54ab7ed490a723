"""Calls of a cluster's API.

Objects are the JSON that the cluster sent: a template that is restored keeps fields that this client's release does not
know.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes_asyncio import client, config

from approval.model import Operation
from servicekit.process.files import why_unreadable

Json = Mapping[str, Any]

_FIELD_MANAGER = "awoooi-approval"
_METHOD_NAMES = {
    "deployment": "deployment",
    "statefulset": "stateful_set",
    "daemonset": "daemon_set",
    "pod": "pod",
}
_MERGE_PATCH = "application/merge-patch+json"
_SUCCESS, _SERVER_ERROR = range(200, 300), 500
_MESSAGES: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the cluster does not accept the service's credentials",
    HTTPStatus.FORBIDDEN: "forbidden: the service may not {verb} {what}",
    HTTPStatus.NOT_FOUND: "there is no {what}",
    HTTPStatus.CONFLICT: "conflict: {what} was changed at the same time",
    HTTPStatus.TOO_MANY_REQUESTS: "the cluster has too much to do to {verb} {what}",
}


class ClusterError(Exception):
    """A call of the cluster failed. The text quotes nothing that the cluster sent.

    `status` is that of the response, 0 when there was none.
    """

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status

    @property
    def is_transient(self) -> bool:
        """Whether a retry may succeed: there was no response, or it was temporary."""
        return self.status in (0, HTTPStatus.TOO_MANY_REQUESTS) or self.status >= _SERVER_ERROR


class Cluster:
    """One operation's connection to the cluster."""

    def __init__(self, api: client.ApiClient, operation: Operation, *, call_timeout: float) -> None:
        """`call_timeout` is how many seconds one call may take."""
        self._apps = client.AppsV1Api(api)
        self._core = client.CoreV1Api(api)
        self._kind = _METHOD_NAMES[operation.resource_kind]
        self._name = operation.name
        self._namespace = operation.namespace
        self._object = f"{operation.resource_kind}/{operation.name} in namespace {operation.namespace}"
        self._call_timeout = call_timeout
        # Whether a change was sent and has no response yet.
        self.is_change_unconfirmed = False

    async def read(self) -> Json:
        """Return the operation's object as it is now."""
        owner = self._core if self._kind == "pod" else self._apps
        method = getattr(owner, f"read_namespaced_{self._kind}")
        return await self._call("read", self._object, method, self._name, self._namespace)

    async def list_revisions(self, selector: str) -> Json:
        """Return the stored revisions: ReplicaSets of a Deployment, else ControllerRevisions."""
        stored_as = "replica_set" if self._kind == "deployment" else "controller_revision"
        method = getattr(self._apps, f"list_namespaced_{stored_as}")
        revisions = f"{stored_as.replace('_', '')}s in namespace {self._namespace}"
        return await self._call("list", revisions, method, self._namespace, label_selector=selector)

    async def patch(self, body: Json | list[Json], *, dry_run: bool) -> Json:
        """Patch the object, and return it: a mapping is a strategic merge patch, a list a JSON patch."""
        method = getattr(self._apps, f"patch_namespaced_{self._kind}")
        return await self._change("patch", method, body, dry_run=dry_run, field_manager=_FIELD_MANAGER)

    async def scale(self, replicas: int, *, dry_run: bool) -> Json:
        """Set the number of replicas, by the object's scale subresource, which is returned."""
        method = getattr(self._apps, f"patch_namespaced_{self._kind}_scale")
        return await self._change(
            "scale",
            method,
            {"spec": {"replicas": replicas}},
            dry_run=dry_run,
            field_manager=_FIELD_MANAGER,
            _content_type=_MERGE_PATCH,
        )

    async def delete_pod(self, uid: str, *, dry_run: bool) -> None:
        """Delete the pod if it is still the one with this uid; 409 when another has taken its name."""
        await self._change(
            "delete", self._core.delete_namespaced_pod, {"preconditions": {"uid": uid}}, dry_run=dry_run
        )

    async def _change(self, verb: str, method: Any, body: Any, *, dry_run: bool, **options: Any) -> Json:
        if dry_run:
            options["dry_run"] = "All"
        self.is_change_unconfirmed = not dry_run
        try:
            response = await self._call(
                verb,
                self._object,
                method,
                self._name,
                self._namespace,
                body=body,
                uncertain="" if dry_run else ": it may have happened",
                **options,
            )
        except ClusterError:
            # The error's text includes the uncertainty.
            self.is_change_unconfirmed = False
            raise
        self.is_change_unconfirmed = False
        return response

    async def _call(
        self, verb: str, what: str, method: Any, *arguments: str, uncertain: str = "", **options: Any
    ) -> Json:
        try:
            # Not preloaded: the body stays JSON, and no exception carries it.
            response = await method(
                *arguments, **options, _preload_content=False, _request_timeout=self._call_timeout
            )
            async with response:
                status, content = response.status, await response.read()
        except aiohttp.ClientConnectorError as exc:
            raise ClusterError(f"cannot connect to the cluster, {type(exc).__name__}") from None
        except TimeoutError:
            raise ClusterError(
                f"no answer of the cluster within {self._call_timeout:g} s when asked to {verb} {what}{uncertain}"
            ) from None
        except (aiohttp.ClientError, OSError) as exc:
            raise ClusterError(
                f"the connection to the cluster failed when it was asked to {verb} {what}, "
                f"{type(exc).__name__}{uncertain}"
            ) from None
        if status not in _SUCCESS:
            raise ClusterError(_message(verb, what, status, uncertain), status=status)
        try:
            found: Json = json.loads(content)
        except ValueError:
            raise ClusterError(
                f"the cluster's answer to {verb} {what} is no JSON{uncertain}", status=status
            ) from None
        return found


def _message(verb: str, what: str, status: int, uncertain: str) -> str:
    if status >= _SERVER_ERROR:
        return f"the cluster answered {status} when asked to {verb} {what}{uncertain}"
    text = _MESSAGES.get(status, "the cluster refused to {verb} {what}: status {status}")
    return text.format(verb=verb, what=what, status=status)


class Connector:
    """Connects to the cluster for each operation, with its current certificates and tokens."""

    def __init__(self, kubeconfig: Path | None, *, call_timeout: float) -> None:
        """With no `kubeconfig` the service account of the pod is used.

        Raises ValueError when that cannot be read, or the kubeconfig not be found.
        """
        self._kubeconfig = kubeconfig
        self._call_timeout = call_timeout
        if kubeconfig is None:
            try:
                config.load_incluster_config(client_configuration=client.Configuration())
            except (config.ConfigException, OSError):
                raise ValueError("not set, and this is no pod with a service account") from None
        else:
            try:
                kubeconfig.open("rb").close()
            except OSError as exc:
                raise ValueError(f"{kubeconfig}: {why_unreadable(exc)}") from None

    @asynccontextmanager
    async def connect(self, operation: Operation) -> AsyncIterator[Cluster]:
        """Return a connection for one operation. Raises ClusterError when there are no usable credentials."""
        settings = client.Configuration()
        try:
            if self._kubeconfig is None:
                config.load_incluster_config(client_configuration=settings)
            else:
                await config.load_kube_config(
                    config_file=str(self._kubeconfig), client_configuration=settings, persist_config=False
                )
            api = client.ApiClient(settings)
        except Exception as exc:
            # The library lets errors of files, YAML, certificates and plug-ins propagate. Their texts may quote secrets.
            reason = why_unreadable(exc) if isinstance(exc, OSError) else type(exc).__name__
            raise ClusterError(f"the credentials for the cluster cannot be used: {reason}") from None
        async with api:
            yield Cluster(api, operation, call_timeout=self._call_timeout)
