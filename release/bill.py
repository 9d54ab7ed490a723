"""The bill of materials of a release: its wheels, and every dependency that the locks pin. CycloneDX 1.6.

The same wheels and locks give the same bytes: there is no timestamp, and the serial number is one of the content.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Of what runs: the services with all their extras, and the command.
LOCKS = ("requirements.lock", "requirements-services.lock")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)((?:.*\\\n)*.*)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_SERIAL_NUMBERS = uuid.UUID("8c0a8f0e-3c5c-5a57-9d8f-52d6a0c1b7f4")


def bill_of_materials(version: str, wheels: Sequence[Path], locks: Sequence[Path]) -> str:
    """Return the SBOM as JSON."""
    components = {each["bom-ref"]: each for each in [*map(_wheel, wheels), *_dependencies(locks)]}
    content: dict[str, Any] = {
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "flywheel",
                "name": "flywheel",
                "version": version,
            }
        },
        "components": [components[reference] for reference in sorted(components)],
    }
    serial = uuid.uuid5(_SERIAL_NUMBERS, json.dumps(content, sort_keys=True))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
    }
    return json.dumps({**document, **content}, indent=1) + "\n"


def _wheel(wheel: Path) -> dict[str, Any]:
    name, version, *_ = wheel.name.split("-")
    component = _component(name.replace("_", "-"), version)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return component | {"hashes": [{"alg": "SHA-256", "content": digest}]}


def _dependencies(locks: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for lock in locks:
        for name, version, rest in _PINNED.findall(lock.read_text(encoding="utf-8")):
            # Of each file that the lock allows; which one is installed depends on the platform.
            component = _component(name.lower(), version)
            files: dict[str, Any] = {"type": "distribution", "url": component["purl"]}
            hashes = [{"alg": "SHA-256", "content": digest} for digest in sorted(set(_HASH.findall(rest)))]
            yield component | {"externalReferences": [files | ({"hashes": hashes} if hashes else {})]}


def _component(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
