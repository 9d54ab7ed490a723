"""What a process loads: a library that serving does not need would be part of every start."""

import re
import signal

import pytest

from tests.approval.schemas import approval_database
from tests.databases import cloned_database
from tests.migrated import migrate_incident
from tests.services import ServiceProcess, healthy_service

# Python writes a line for every module that is imported.
WRITTEN = {"PYTHONPROFILEIMPORTTIME": "1"}
IMPORTED = re.compile(r"import time: +\d+ \| +\d+ \| *([\w.]+)")

# Each is for something that the settings here do not use; of a database, for one that is not up to date.
UNUSED = {
    "alembic",
    "apprise",
    "cryptography",
    "httpx2",
    "jwt",
    "kubernetes_asyncio",
    "mako",
    "starlette",
    "uvicorn",
}


def loaded(process: ServiceProcess) -> set[str]:
    """The packages that a process has loaded so far."""
    return {found[1].partition(".")[0] for line in process.lines if (found := IMPORTED.match(line))}


@pytest.mark.parametrize("package", ["incident", "approval"])
async def test_a_service_that_serves_has_loaded_no_library_without_a_use(package: str) -> None:
    databases = {"incident": cloned_database("incident", migrate_incident), "approval": approval_database()}
    async with databases[package] as url, healthy_service(package, url, variables=WRITTEN) as service:
        found = loaded(service)
    assert {"grpc", "sqlalchemy"} <= found
    assert not found & UNUSED


@pytest.mark.parametrize(
    ("package", "variables"),
    [
        ("metrics_gateway", {"GATEWAY_LISTEN": "127.0.0.1:0", "GATEWAY_SOURCES": "incident=127.0.0.1:1"}),
        (
            "alert_intake",
            {
                "INTAKE_LISTEN": "127.0.0.1:0",
                "INTAKE_INCIDENT_TARGET": "127.0.0.1:1",
                "INTAKE_APPROVAL_TARGET": "127.0.0.1:1",
            },
        ),
    ],
)
async def test_a_web_server_that_serves_has_loaded_no_library_without_a_use(
    package: str, variables: dict[str, str]
) -> None:
    process = ServiceProcess(package, ["serve"], {**variables, **WRITTEN})
    try:
        await process.logged("serving")
        found = loaded(process)
    finally:
        process.send(signal.SIGTERM)
        await process.ended()
    assert {"grpc", "starlette", "uvicorn"} <= found
    assert not found & {*(UNUSED - {"starlette", "uvicorn"}), "asyncpg", "protovalidate", "sqlalchemy"}
