"""A service over a database, and the plans of what it has executed."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from tests.plans.plan import Plan
from tests.plans.recorder import FILE_VARIABLE
from tests.services import ServiceProcess, serving


class RecordedService(ServiceProcess):
    """A service whose statements are recorded while it runs."""

    def __init__(
        self, package: str, database_url: str, file: Path, *, variables: Mapping[str, str] | None = None
    ) -> None:
        """Start the service and return when it listens."""
        prefix = package.upper()
        settings = {
            f"{prefix}_LISTEN": "127.0.0.1:0",
            f"{prefix}_DATABASE_URL": database_url,
            FILE_VARIABLE: str(file),
            **(variables or {}),
        }
        super().__init__("tests.plans.recorder", [package, "serve"], settings)
        self._file = file
        try:
            self.address: str = self.wait_for_event("serving")["address"]
        except BaseException:
            self.kill()
            raise

    def plans(self) -> Sequence[Plan]:
        """What it has executed so far."""
        lines = self._file.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [Plan(each["statement"], each["plan"]) for each in found]


@asynccontextmanager
async def recorded_service(
    package: str, database_url: str, file: Path, *, variables: Mapping[str, str] | None = None
) -> AsyncIterator[RecordedService]:
    """Give a healthy recorded service; it is killed afterwards."""
    service = await asyncio.to_thread(RecordedService, package, database_url, file, variables=variables)
    try:
        async with grpc.aio.insecure_channel(service.address) as channel:
            await serving(channel)
        yield service
    finally:
        await asyncio.to_thread(service.kill)
