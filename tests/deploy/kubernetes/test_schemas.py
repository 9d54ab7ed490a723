"""Every object has the form that the API of Kubernetes, or the operator whose resource it is, takes."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

import pytest
from jsonschema.validators import Draft202012Validator
from referencing import Registry, Resource

from tests.deploy.kubernetes.custom_resources import SPECS
from tests.deploy.kubernetes.rendered import OVERLAYS, Object, of_kind, overlay

# The oldest version that docs/kubernetes.md promises, and the newest one that the package has.
VERSIONS = ("1.30", "1.37")
_SCHEMAS = files("kubernetes_validate") / "kubernetes-json-schema"


@cache
def schema(version: str, name: str) -> Any:
    """A file of the package's schemas: those without unknown fields."""
    return json.loads((_SCHEMAS / f"v{version}.0-local-strict" / name).read_text(encoding="utf-8"))


@cache
def definitions(version: str) -> Any:
    """What the schemas of all kinds refer to: read once, for it is large."""
    resource = Resource.from_contents(schema(version, "_definitions.json"))
    return Registry().with_resource("_definitions.json", resource).crawl()


@cache
def validator(version: str, api_version: str, kind: str) -> Draft202012Validator:
    group, _, number = api_version.rpartition("/")
    file = "-".join(filter(None, [kind.lower(), group.partition(".")[0], number])) + ".json"
    return Draft202012Validator(schema(version, file), registry=definitions(version))


def problems(version: str, each: Object) -> list[str]:
    api_version, kind = each["apiVersion"], each["kind"]
    spec = SPECS.get((api_version, kind))
    if spec is not None:
        assert each.keys() == {"apiVersion", "kind", "metadata", "spec"}
        found = Draft202012Validator(spec).iter_errors(each["spec"])
    else:
        found = validator(version, api_version, kind).iter_errors(each)
    name = each["metadata"]["name"]
    return [f"{kind} {name}: {error.json_path}: {error.message[:300]}" for error in found]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version: str) -> None:
    objects = list(overlay("production"))
    # What both overlays have is looked at once.
    objects += [each for each in overlay("trial") if each not in objects]
    assert [problem for each in objects for problem in problems(version, each)] == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["Deployment", "NetworkPolicy", "Certificate", "Cluster", "ServiceMonitor"])
def test_a_field_that_does_not_exist_is_found(kind: str, version: str) -> None:
    each = of_kind(overlay("production"), kind)[0]
    assert problems(version, {**each, "spec": {**each["spec"], "replica": 1}})


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_two_objects_have_one_name(name: str) -> None:
    found = [(each["kind"], each["metadata"]["name"]) for each in overlay(name)]
    assert len(found) == len(set(found))
