"""Prints the software bill of materials (SBOM) of the image it runs in: CycloneDX 1.6, as JSON.

    python sbom.py DISTRIBUTION > sbom.cdx.json

DISTRIBUTION is the Python distribution that the image is for; the image has its name and version.

The components are the interpreter, the Python distributions that it finds, and the Debian packages of the image. The same
image gives the same bytes: there is no timestamp, and the serial number is one of the content.
"""

import json
import platform
import sys
import sysconfig
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

_DPKG_STATUS = Path("/var/lib/dpkg/status")
_LONGEST_NAME = 80
_SERIAL_NUMBERS = uuid.UUID("6f0f6f0e-6a6e-5e0e-9d7e-0f1d6c3d9a51")

Component = dict[str, Any]


def bill_of_materials(name: str, version: str, components: list[Component]) -> dict[str, Any]:
    """Return the SBOM of an image.

    Its components are in the order of their references, each once.
    """
    by_reference = {component["bom-ref"]: component for component in components}
    content = {
        "metadata": {
            "component": {"type": "container", "bom-ref": "image", "name": name, "version": version},
        },
        "components": [by_reference[reference] for reference in sorted(by_reference)],
    }
    serial = uuid.uuid5(_SERIAL_NUMBERS, json.dumps(content, sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **content,
        # What is listed is whole; what depends on what is not said.
        "compositions": [{"aggregate": "complete", "assemblies": ["image"]}],
    }


def interpreter() -> Component:
    """Return the component of the Python that runs this."""
    version = platform.python_version()
    return _component("application", "python", version, f"pkg:generic/python@{version}") | {
        "licenses": [{"license": {"id": "PSF-2.0"}}]
    }


def python_distributions() -> Iterator[Component]:
    """Yield the component of each distribution on the module path, and of those that the interpreter came with."""
    interpreters_own = sysconfig.get_path("purelib", vars={"base": sys.base_prefix})
    for each in distributions(path=[*sys.path, interpreters_own]):
        name, version = each.name, each.version
        normalized = name.lower().replace("_", "-").replace(".", "-")
        component = _component("library", name, version, f"pkg:pypi/{normalized}@{quote(version)}")
        licence = _licence(each)
        yield component | ({"licenses": [licence]} if licence else {})


def debian_packages(status: str) -> Iterator[Component]:
    """Yield the component of each package that dpkg's status file says is installed."""
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" installed"):
            name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"
            yield _component("library", name, version, purl)


def _component(kind: str, name: str, version: str, purl: str) -> Component:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _licence(found: Distribution) -> dict[str, Any] | None:
    expression = found.metadata.get("License-Expression")
    if expression:
        return {"expression": expression}
    # Older metadata has free text there, which may be the whole licence.
    text = (found.metadata.get("License") or "").strip()
    return {"license": {"name": text}} if text and len(text) <= _LONGEST_NAME and "\n" not in text else None


def main() -> int:
    """Print the SBOM of this image."""
    if len(sys.argv) != 2:
        print("usage: sbom.py DISTRIBUTION", file=sys.stderr)
        return 2
    image = distribution(sys.argv[1])
    packages = _DPKG_STATUS.read_text(encoding="utf-8") if _DPKG_STATUS.exists() else ""
    components = [interpreter(), *python_distributions(), *debian_packages(packages)]
    json.dump(
        bill_of_materials(image.name, image.version, components), sys.stdout, indent=1, ensure_ascii=False
    )
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
