"""The software bill of materials of an image."""

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

SCRIPT = Path(__file__).parents[2] / "deploy/docker/sbom.py"
STATUS = """Package: libssl3
Status: install ok installed
Architecture: amd64
Version: 3.0.11-1~deb12u2
Description: Secure Sockets Layer toolkit
 Homepage: none

Package: removed
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: libstdc++6
Status: hold ok installed
Architecture: amd64
Version: 1:12.2.0+dfsg-14
"""


def sbom() -> Any:
    spec = importlib.util.spec_from_file_location("sbom", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_the_sbom_is_valid_cyclonedx_and_names_each_distribution_with_its_version() -> None:
    text = printed("awoooi-incident").stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    purls = {component["purl"] for component in json.loads(text)["components"]}
    for name in ("grpcio", "awoooi-incident", "awoooi-servicekit", "sqlalchemy"):
        assert f"pkg:pypi/{name}@{version(name)}" in purls
    assert f"pkg:generic/python@{sys.version.split()[0]}" in purls


def test_the_sbom_of_the_same_image_is_the_same_to_the_byte() -> None:
    assert printed("awoooi-approval").stdout == printed("awoooi-approval").stdout
    assert printed("awoooi-approval").stdout != printed("awoooi-incident").stdout


def test_an_installed_debian_package_is_a_component_and_a_removed_one_is_not() -> None:
    found = list(sbom().debian_packages(STATUS))
    assert [(each["name"], each["version"]) for each in found] == [
        ("libssl3", "3.0.11-1~deb12u2"),
        ("libstdc++6", "1:12.2.0+dfsg-14"),
    ]
    assert found[1]["purl"] == "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2.0%2Bdfsg-14?arch=amd64"


@pytest.mark.parametrize("arguments", [(), ("awoooi-incident", "more")], ids=["none", "two"])
def test_the_usage_is_printed_for_a_wrong_number_of_arguments(arguments: tuple[str, ...]) -> None:
    run = printed(*arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert "usage: sbom.py DISTRIBUTION" in run.stderr


@pytest.mark.parametrize("target", ["incident", "approval", "intake", "gateway", "cli"])
def test_every_image_contains_the_sbom_of_all_it_consists_of(target: str) -> None:
    stages = (SCRIPT.parent / "Dockerfile").read_text().split("\nFROM ")
    (image,) = [stage for stage in stages if stage.startswith(f"{target}-content AS {target}\n")]
    assert f"COPY --from={target}-sbom /tmp/sbom.cdx.json /opt/flywheel/\n" in image
    (listed,) = [stage for stage in stages if stage.startswith(f"{target}-content AS {target}-sbom\n")]
    assert "RUN python /tmp/sbom.py " in listed
    # Nothing is added to an image after it was listed, but the list.
    assert image.count("COPY") == 1
    assert "RUN" not in image
