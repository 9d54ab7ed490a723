"""A service that is killed and restarted, at one address."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from tests.services import RunningService
from tests.tcp_proxy import TcpProxy, tcp_proxy


class KilledService:
    """A service that is killed and restarted, always at the address of a proxy."""

    def __init__(
        self, package: str, database_url: str, proxy: TcpProxy, variables: Mapping[str, str]
    ) -> None:
        self._package = package
        self._variables = variables
        self._database_url = database_url
        self._proxy = proxy
        self._service: RunningService | None = None
        self.address = proxy.address

    async def start(self) -> None:
        """Start it, anew when it was killed."""
        self._service = await asyncio.to_thread(
            RunningService, self._package, self._database_url, variables=self._variables
        )
        self._proxy.target = self._service.address
        await self._service.healthy()

    async def kill(self) -> None:
        """Kill -9."""
        if self._service is not None:
            killed, self._service = self._service, None
            await asyncio.to_thread(killed.kill)


@asynccontextmanager
async def killed_service(
    package: str, database_url: str, variables: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[KilledService]:
    """A service that runs until it is killed, at the end of the block at the latest."""
    async with tcp_proxy() as proxy:
        service = KilledService(package, database_url, proxy, variables)
        try:
            await service.start()
            yield service
        finally:
            await service.kill()
