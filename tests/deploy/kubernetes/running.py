"""Processes as the manifests start them: their arguments, their environment and their files, on free ports of this machine."""

import asyncio
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.authority import authority
from tests.deploy.kubernetes.rendered import ROOT, Object, Workload, named
from tests.preloaded import ForkedService
from tests.services import TIMEOUT_SECONDS, ServiceProcess

_ANYWHERE = "0.0.0.0:"


class Pod(ServiceProcess):
    """The container of a workload, without the container."""

    def __init__(self, workload: Workload, variables: Mapping[str, str]) -> None:
        """Start it; every port of `LISTEN` variables is a free one on loopback."""
        self.workload = workload
        self._declared = {
            name: value.removeprefix(_ANYWHERE)
            for name, value in variables.items()
            if value.startswith(_ANYWHERE)
        }
        anywhere = dict.fromkeys(self._declared, "127.0.0.1:0")
        super().__init__(module_of(workload.service), workload.container["args"], {**variables, **anywhere})

    def _start(
        self, package: str, arguments: Any, environment: Mapping[str, str]
    ) -> "subprocess.Popen[str] | ForkedService":
        if package in ("incident", "approval"):
            return ForkedService(package, arguments, environment)
        return super()._start(package, arguments, environment)

    async def addresses(self) -> Mapping[int, str]:
        """Where each port of the manifest is, once the service listens on all of them."""
        found: dict[str, str] = {}
        if any(name.endswith("_HEALTH_LISTEN") for name in self._declared):
            rpc = await self.logged("serving", client_certificate_required=False)
            found = {
                "LISTEN": rpc["address"],
                "MTLS_LISTEN": rpc["mtls_address"],
                "HEALTH_LISTEN": rpc["health_address"],
            }
            # The process's own metrics, whose line says nothing of certificates of clients.
            http = await self.logged_without("client_certificate_required")
            found["METRICS_LISTEN"] = http["address"]
        else:
            found["LISTEN"] = (await self.logged("serving"))["address"]
        prefix = f"{self.workload.service.upper()}_"
        return {int(port): found[name.removeprefix(prefix)] for name, port in self._declared.items()}

    async def logged_without(self, field: str) -> Mapping[str, Any]:
        """The line of a server without a field, as soon as it is logged."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not found:
                await asyncio.sleep(0.01)
                found = [line for line in self.events("serving") if field not in line]
        return found[0]


def module_of(service: str) -> str:
    """The module that the image of a service starts."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    stage = text.partition(f" AS {service}\n")[2].partition("\nFROM ")[0]
    found = re.search(r'^ENTRYPOINT \["python", "-m", "(\w+)"\]$', stage, re.MULTILINE)
    assert found is not None
    return found[1]


class Installation:
    """The files that the pods of an installation have."""

    def __init__(self, objects: Any, secrets: Path, folder: Path, databases: Mapping[str, str]) -> None:
        """`databases` are the URLs of the databases here, by service."""
        self._objects = objects
        self._secrets = secrets
        self._folder = folder
        self._databases = databases
        # Where the services are here, by host and port of the manifests.
        self.hosts: dict[str, str] = {}

    def variables(self, workload: Workload) -> Mapping[str, str]:
        """The environment of a pod, with the paths and addresses of this machine."""
        variables = dict(workload.variables)
        for mount, secret in workload.secrets():
            folder = self._mounted(secret)
            variables = {name: value.replace(f"{mount}/", f"{folder}/") for name, value in variables.items()}
        for host, address in self.hosts.items():
            variables = {
                name: re.sub(rf"(^|=){re.escape(host)}\b", rf"\g<1>{address}", value)
                for name, value in variables.items()
            }
        return variables

    def arguments(self, workload: Workload) -> Sequence[str]:
        """The arguments of a pod, with the paths of this machine."""
        arguments: Sequence[str] = workload.container["args"]
        for mount, secret in workload.secrets():
            folder = self._mounted(secret)
            arguments = [each.replace(f"{mount}/", f"{folder}/") for each in arguments]
        return arguments

    def _mounted(self, secret: Object) -> Path:
        name: str = secret["secretName"]
        folder = self._folder / name
        if folder.exists():
            return folder
        folder.mkdir()
        if name.endswith("-tls"):
            self._write_certificate(name.removesuffix("-tls"), folder)
        elif name == "flywheel-tokens":
            (folder / "tokens.json").write_bytes((self._secrets / "tokens.json").read_bytes())
        elif name == "flywheel-doctor":
            for key, token in (("operator", "doctor"), ("approver", "doctor-approver")):
                (folder / key).write_bytes((self._secrets / f"{token}.token").read_bytes())
        elif "-database" in name:
            (folder / "url").write_text(self._databases[name.partition("-")[0]])
        else:
            raise AssertionError(name)
        return folder

    def _write_certificate(self, certificate: str, folder: Path) -> None:
        spec = named(self._objects, "Certificate", certificate)["spec"]
        # Besides, the address that stands for those names here.
        pair = authority().sign(*spec["dnsNames"], "127.0.0.1", service=spec.get("uris", ()))
        pair.write(folder, "tls")
        (folder / "ca.crt").write_bytes(authority().certificate)


def metrics_token(objects: Any, secrets: Path) -> str:
    """The token of the ServiceMonitors, as Prometheus reads it."""
    generators = yaml.safe_load((secrets / "kustomization.yaml").read_text(encoding="utf-8"))[
        "secretGenerator"
    ]
    [endpoint] = named(objects, "ServiceMonitor", "gateway")["spec"]["endpoints"]
    wanted: Mapping[str, str] = endpoint["authorization"]["credentials"]
    [files] = [each["files"] for each in generators if each["name"] == wanted["name"]]
    file: str
    [file] = [each.partition("=")[2] for each in files if each.startswith(f"{wanted['key']}=")]
    return (secrets / file).read_text(encoding="utf-8")
