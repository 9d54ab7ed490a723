"""What the commands of docs/kubernetes.md name exists. They need a cluster, so no test runs them."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.deploy.kubernetes.rendered import NAMESPACE, ROOT, Object, of_kind, overlay, render

_TEXT = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```sh\n(.*?)^```", _TEXT, re.MULTILINE | re.DOTALL)
COMMANDS: Sequence[str] = [line for block in _BLOCKS for line in block.splitlines()]


def named(objects: Sequence[Object], kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in of_kind(objects, kind)}


@pytest.mark.parametrize("command", sorted({each for each in COMMANDS if " apply -" in each}))
def test_what_is_applied_can_be_rendered(command: str, secrets: Path) -> None:
    path = command.rsplit(maxsplit=1)[-1].strip('"')
    folder = secrets if path == "$SECRETS" else ROOT / path
    assert render(folder) if " -k " in command else folder.is_file()


def test_objects_that_are_named_exist() -> None:
    objects = overlay("production")
    jobs = {re.sub(r"-[^-]+$", "-$TAG", name) for name in named(objects, "Job")}
    assert jobs >= set(re.findall(r"job/([\w$-]+)", _TEXT))
    assert named(objects, "Service") >= set(re.findall(r"service/([a-z]+)", _TEXT))
    deployments = re.findall(r"rollout status deployment (.+)$", "\n".join(COMMANDS), re.MULTILINE)
    assert {name for line in deployments for name in line.split()} == named(objects, "Deployment")
    assert set(re.findall(r"kubectl -n (\w+)", _TEXT)) == {NAMESPACE, "monitoring"}


def test_the_table_of_secrets_is_complete(secrets: Path) -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| (`[^|]+) \|", _TEXT.partition("### Secrets")[2], re.MULTILINE)
    documented = {name for names, _ in rows for name in re.findall(r"`([a-z-]+)`", names)}
    assert documented == named(render(secrets), "Secret")


def test_the_tables_name_every_port_that_something_may_connect_to() -> None:
    table = _TEXT.partition("## What may connect")[2]
    policies = of_kind(overlay("production"), "NetworkPolicy")
    ports = {
        str(port["port"])
        for each in policies
        for direction in ("ingress", "egress")
        for rule in each["spec"].get(direction, ())
        for port in rule["ports"]
    }
    assert {port for port in ports if not re.search(rf"\b{port}\b", table)} == set()
