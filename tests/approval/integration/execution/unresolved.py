"""An incident service in the same process."""

import asyncio

from approval.delivery.model import FoundIncident, IncidentCheck, TimelineEntry


class UnresolvedIncidents:
    """An incident directory in which every incident is unresolved; with `away` no operation can be announced."""

    def __init__(self, *, away: bool = False) -> None:
        self._away = away
        self.announced = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def find(self, incident_id: str) -> FoundIncident:
        return FoundIncident(IncidentCheck.UNRESOLVED)

    async def announce(self, entry: TimelineEntry, *, opening: int) -> IncidentCheck:
        self.announced.set()
        await self.may_answer.wait()
        return IncidentCheck.UNREACHABLE if self._away else IncidentCheck.UNRESOLVED
