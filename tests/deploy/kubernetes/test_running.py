"""The services as the manifests of the trial start them: probes, migration, calls of each other, scrapes, alerts."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.alert_intake.notifications import body
from tests.databases import empty_database
from tests.deploy.kubernetes.rendered import Object, overlay, workloads
from tests.deploy.kubernetes.running import Installation, Pod, metrics_token, module_of
from tests.metrics_gateway.scrapes import read_text
from tests.services import TIMEOUT_SECONDS, serving
from tests.tls_clients import client_context

pytestmark = pytest.mark.asyncio(loop_scope="module")


def trial() -> Sequence[Object]:
    return overlay("trial")


class World:
    """The pods of the trial that have been started. Each test starts what it needs and the tests before have not."""

    def __init__(self, installation: Installation) -> None:
        self._workloads = {each.name: each for each in workloads(trial())}
        self.installation = installation
        self.pods: dict[str, Pod] = {}

    async def start(self, name: str) -> Pod:
        """Start a pod, unless it has been."""
        if name not in self.pods:
            workload = self._workloads[name]
            self.pods[name] = await asyncio.to_thread(Pod, workload, self.installation.variables(workload))
            addresses = await self.pods[name].addresses()
            # A port that the pod declares is one that its service has opened.
            assert addresses.keys() == set(workload.ports.values())
            self.installation.hosts |= {f"{name}:{port}": address for port, address in addresses.items()}
        return self.pods[name]

    async def migrate(self, name: str) -> int:
        """Run the migration of a service and return its exit code."""
        [job] = [each for each in self._workloads.values() if (each.kind, each.service) == ("Job", name)]
        pod = self.pods[job.name] = await asyncio.to_thread(Pod, job, self.installation.variables(job))
        return await pod.ended()

    async def ready(self, name: str) -> None:
        """Return when a service is ready, after its migration, which is run unless it has been."""
        if not any(pod.workload.kind == "Job" and pod.workload.service == name for pod in self.pods.values()):
            assert await self.migrate(name) == 0
        await ready(await self.start(name))

    def end(self) -> None:
        """End them all."""
        for pod in self.pods.values():
            pod.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The trial over empty databases."""
    async with AsyncExitStack() as stack:
        databases = {
            name: await stack.enter_async_context(empty_database()) for name in ("incident", "approval")
        }
        found = World(Installation(trial(), secrets, tmp_path_factory.mktemp("files"), databases))
        stack.callback(found.end)
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that trusts the authority of the installation."""
    context = client_context(tmp_path)
    async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=TIMEOUT_SECONDS) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def probed(pod: Pod, kind: str) -> bool:
    """What the kubelet finds: over gRPC in plain text, over HTTPS without a look at the certificate."""
    probe: Any = pod.workload.container[f"{kind}Probe"]
    addresses = await pod.addresses()
    if "grpc" in probe:
        async with grpc.aio.insecure_channel(addresses[probe["grpc"]["port"]]) as channel:
            stub: Any = HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
            response = await stub.Check(request, timeout=TIMEOUT_SECONDS)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)
    get = probe["httpGet"]
    address = addresses[pod.workload.ports[get["port"]]]
    async with httpx2.AsyncClient(verify=unverified(), trust_env=False) as client:
        response = await client.get(
            f"{get['scheme'].lower()}://{address}{get['path']}", timeout=TIMEOUT_SECONDS
        )
    return bool(response.status_code == httpx2.codes.OK)


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def ready(pod: Pod) -> None:
    """Return when the readiness probe succeeds."""
    address = (await pod.addresses())[pod.workload.container["readinessProbe"]["grpc"]["port"]]
    async with grpc.aio.insecure_channel(address) as channel:
        await serving(channel)


@pytest.mark.parametrize("name", ["incident", "approval"])
async def test_a_service_is_alive_and_not_ready_until_its_migration_has_run(name: str, world: World) -> None:
    if name == "approval":
        await world.start("incident")
    pod = await world.start(name)
    assert await probed(pod, "startup")
    assert await probed(pod, "liveness")
    assert not await probed(pod, "readiness")
    assert await world.migrate(name) == 0
    await ready(pod)
    assert await probed(pod, "readiness")


@pytest.mark.parametrize("name", ["gateway", "intake"])
async def test_the_probes_of_an_http_service_succeed(name: str, world: World) -> None:
    for each in ("incident", "approval", name):
        await world.start(each)
    for probe in ("startup", "liveness", "readiness"):
        assert await probed(world.pods[name], probe)


async def test_the_gateway_shows_prometheus_both_services(
    world: World, secrets: Path, client: httpx2.AsyncClient
) -> None:
    for name in ("incident", "approval"):
        await world.ready(name)
    await world.start("gateway")
    address = world.installation.hosts["gateway:9464"]
    response = await client.get(f"https://{address}/metrics", headers=bearer(metrics_token(trial(), secrets)))
    assert response.status_code == httpx2.codes.OK
    up = read_text(response.text).labelled("awoooi_flywheel_source_up")
    assert up == {("incident",): 1.0, ("approval",): 1.0}


async def test_prometheus_reads_every_process_and_no_caller_without_its_token(
    world: World, secrets: Path, client: httpx2.AsyncClient
) -> None:
    for name, port in (("incident", 9465), ("approval", 9466), ("intake", 9465)):
        await world.start(name)
        url = f"https://{world.installation.hosts[f'{name}:{port}']}/metrics"
        read = await client.get(url, headers=bearer(metrics_token(trial(), secrets)))
        refused = await client.get(url)
        assert (read.status_code, refused.status_code) == (httpx2.codes.OK, httpx2.codes.UNAUTHORIZED)


async def test_an_alert_of_alertmanager_opens_an_incident(
    world: World, secrets: Path, client: httpx2.AsyncClient
) -> None:
    for name in ("incident", "approval"):
        await world.ready(name)
    await world.start("intake")
    response = await client.post(
        f"https://{world.installation.hosts['intake:9465']}/alertmanager",
        content=body(),
        headers={**bearer((secrets / "alertmanager.token").read_text()), "Content-Type": "application/json"},
    )
    assert (response.status_code, response.json()) == (200, {"alerts": {"reported": 1}})


async def test_the_doctor_finds_that_all_is_well(world: World) -> None:
    for name in ("incident", "approval"):
        await world.ready(name)
    await world.start("gateway")
    [doctor] = [each for each in workloads(trial()) if each.service == "cli"]
    # There is no Prometheus here.
    variables = {**world.installation.variables(doctor), "FLYWHEEL_PROMETHEUS": ""}
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            module_of(doctor.service),
            *world.installation.arguments(doctor),
            "--timeout=60",
        ),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
