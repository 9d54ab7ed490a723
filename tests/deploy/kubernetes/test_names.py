"""That what a manifest names exists: pods, ports, hosts, certificates, Secrets."""

import re
from pathlib import Path

import pytest

from tests.deploy.kubernetes.rendered import (
    NAME,
    OVERLAYS,
    SETTINGS,
    matches,
    named,
    of_kind,
    overlay,
    render,
    workloads,
)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_selector_selects_one_kind_of_pod_by_its_name(name: str) -> None:
    objects = overlay(name)
    pods = workloads(objects)
    for kind, path in (("Service", ()), ("PodDisruptionBudget", ("matchLabels",))):
        for each in of_kind(objects, kind):
            selector = each["spec"]["selector"]
            labels = selector[path[0]] if path else selector
            assert [pod.name for pod in pods if labels.items() <= pod.labels.items()] == [labels[NAME]]
    for each in of_kind(objects, "Deployment", "StatefulSet"):
        selected = [pod.name for pod in pods if matches(each["spec"]["selector"], pod.labels)]
        assert selected == [each["metadata"]["name"]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_port_of_a_service_is_one_of_its_pods(name: str) -> None:
    objects = overlay(name)
    pods = {pod.name: pod for pod in workloads(objects)}
    for each in of_kind(objects, "Service"):
        ports = pods[each["spec"]["selector"][NAME]].ports
        for port in each["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    headless = {
        each["metadata"]["name"]
        for each in of_kind(objects, "Service")
        if each["spec"].get("clusterIP") == "None"
    }
    # Over those gRPC clients balance by themselves.
    assert headless == {"incident", "approval"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_host_that_a_service_calls_is_a_name_of_its_certificate(name: str) -> None:
    objects = overlay(name)
    names = {
        certificate["spec"]["secretName"]: set(certificate["spec"].get("dnsNames", ()))
        for certificate in of_kind(objects, "Certificate")
    }
    for pod in workloads(objects):
        for variable, value in pod.variables.items():
            for host, port in (
                re.findall(r"(?:^|=)([a-z-]+):(\d+)", value) if not variable.endswith("LISTEN") else ()
            ):
                service = named(objects, "Service", host)["spec"]
                assert int(port) in {each["port"] for each in service["ports"]}, variable
                assert host in names[f"{host}-tls"], variable


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_service_shows_a_certificate_that_says_which_one_it_is(name: str) -> None:
    for service in SETTINGS:
        certificate = named(overlay(name), "Certificate", service)["spec"]
        assert certificate["uris"] == [f"spiffe://awoooi/{service}"]
        # No name of another: its certificate could serve as that one's.
        assert {each.partition(".")[0] for each in certificate["dnsNames"]} == {service}
        assert certificate["privateKey"] == {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_secret_that_is_used_is_made_and_every_one_that_is_made_is_used(
    name: str, secrets: Path
) -> None:
    objects = overlay(name)
    made: dict[str, set[str]] = {each["metadata"]["name"]: set(each["data"]) for each in render(secrets)}
    by_cert_manager = {
        each["spec"]["secretName"]: {"tls.crt", "tls.key", "ca.crt"}
        for each in of_kind(objects, "Certificate")
    }
    by_operator = {f"{each['metadata']['name']}-ca": {"ca.crt"} for each in of_kind(objects, "Cluster")}
    keys = {**made, **by_cert_manager, **by_operator}
    used: dict[str, set[str]] = {}
    for pod in workloads(objects):
        for _, secret in pod.secrets():
            items = {item["key"] for item in secret.get("items", ())} or keys[secret["secretName"]]
            used.setdefault(secret["secretName"], set()).update(items)
    for monitor in of_kind(objects, "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            for key in (endpoint["authorization"]["credentials"], endpoint["tlsConfig"]["ca"]["secret"]):
                used.setdefault(key["name"], set()).add(key["key"])
    for cluster in of_kind(objects, "Cluster"):
        roles = {
            cluster["spec"]["bootstrap"]["initdb"]["secret"]["name"]: cluster["spec"]["bootstrap"]["initdb"][
                "owner"
            ]
        }
        roles |= {
            role["passwordSecret"]["name"]: role["name"] for role in cluster["spec"]["managed"]["roles"]
        }
        for secret_name, role in roles.items():
            used.setdefault(secret_name, set()).update({"username", "password"})
            assert secrets.joinpath(f"{role}_database_url").read_text().startswith(f"postgresql://{role}:")
    for secret_name, names in used.items():
        assert names <= keys[secret_name], secret_name
    optional = {"flywheel-receivers"} | ({"postgres-passwords"} if name == "production" else set())
    assert made.keys() - used.keys() == optional
