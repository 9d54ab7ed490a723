"""What callers do with timelines and with what a resolution left: one use case, one method, one transaction."""

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from incident.effects import jobs as side_effects
from incident.errors import (
    EventIdTakenError,
    IncidentNotFoundError,
    NeverResolvedError,
    PostmortemNotWrittenError,
    SideEffectEndedError,
    SideEffectNotFoundError,
)
from incident.knowledge import repository as knowledge
from incident.lifecycle import repository, timeline
from incident.model import (
    Effect,
    Event,
    EventType,
    KnowledgeMatch,
    NewEvent,
    Postmortem,
    ResolutionType,
    SideEffect,
    SideEffectState,
)
from servicekit.database.engine import autocommit
from servicekit.rpc.paging import cut_page, text_bytes


class TimelineUseCases:
    """Use cases on timelines, side effects and postmortems over one database."""

    def __init__(self, engine: AsyncEngine, *, wake_worker: Callable[[], None]) -> None:
        """`wake_worker` is called after a commit that put a side effect back."""
        self._engine = engine
        self._one_statement = autocommit(engine)
        self._wake_worker = wake_worker

    async def list_events(
        self, incident_id: str, *, types: Sequence[EventType], after: int, page_size: int
    ) -> tuple[Sequence[Event], int | None]:
        """Return a page of an incident's events behind sequence number `after`, and where the next one starts.

        Raises IncidentNotFoundError.
        """
        async with self._one_statement.connect() as connection:
            found = await timeline.list_events(
                connection, incident_id, types=types, after=after, limit=page_size + 1
            )
            if not found and await repository.get(connection, incident_id) is None:
                raise IncidentNotFoundError(incident_id)
        page, more = cut_page(
            found,
            page_size,
            lambda each: text_bytes(each.summary, *each.attributes, *each.attributes.values()),
        )
        return page, page[-1].sequence if more else None

    async def add_event(self, new: NewEvent) -> Event:
        """Append an event; the same one again is the stored event.

        Raises IncidentNotFoundError; EventIdTakenError when the id was used with other content.
        """
        async with self._engine.begin() as connection:
            # Under the incident's lock, so that its timeline's order is the order of commits.
            incident = await repository.get_for_update(connection, new.incident_id)
            if incident is None:
                raise IncidentNotFoundError(new.incident_id)
            event = await timeline.add_event(connection, incident, new)
            if event is None:
                event = await timeline.get_event(connection, new.event_id)
                if event is None or not new.is_same_as(event):
                    raise EventIdTakenError
            return event

    async def list_side_effects(
        self,
        *,
        incident_id: str,
        states: Sequence[SideEffectState],
        effects: Sequence[Effect],
        before: int | None,
        page_size: int,
    ) -> tuple[Sequence[SideEffect], int | None]:
        """Return a page of side effects older than the sequence number `before`, and where the next one starts.

        Raises IncidentNotFoundError when an incident is named and unknown.
        """
        async with self._one_statement.connect() as connection:
            of_incident = None
            if incident_id:
                incident = await repository.get(connection, incident_id)
                if incident is None:
                    raise IncidentNotFoundError(incident_id)
                of_incident = (incident_id, incident.resolution_number)
            found = await side_effects.list_side_effects(
                connection,
                of_incident=of_incident,
                states=states,
                effects=effects,
                before=before,
                limit=page_size + 1,
            )
        page = found[:page_size]
        return page, page[-1].sequence if len(found) > page_size else None

    async def retry_side_effect(self, incident_id: str, effect: Effect, resolution_number: int) -> SideEffect:
        """Put a PARKED side effect back to PENDING, due now; a PENDING one is returned as it is.

        `resolution_number` 0 means the latest. Raises IncidentNotFoundError, SideEffectNotFoundError,
        SideEffectEndedError.
        """
        async with self._engine.begin() as connection:
            incident = await repository.get(connection, incident_id)
            if incident is None:
                raise IncidentNotFoundError(incident_id)
            number = resolution_number or incident.resolution_number
            found = await side_effects.get_for_update(connection, incident_id, effect, number)
            if found is None:
                raise SideEffectNotFoundError(incident_id)
            if found.state in (SideEffectState.DONE, SideEffectState.SKIPPED):
                raise SideEffectEndedError(
                    incident_id, current=found.state, allowed=(SideEffectState.PARKED,)
                )
            if found.state is SideEffectState.PARKED:
                await side_effects.requeue(connection, incident_id, effect, number)
                found = await side_effects.get_for_update(connection, incident_id, effect, number) or found
        self._wake_worker()
        return found

    async def search_knowledge(
        self,
        query: str,
        *,
        types: Sequence[ResolutionType],
        after: tuple[float, int, str] | None,
        page_size: int,
    ) -> tuple[Sequence[KnowledgeMatch], tuple[float, int, str] | None]:
        """Return a page of what resolved similar incidents before, best first, and where the next one starts."""
        async with self._one_statement.connect() as connection:
            found = await knowledge.search(connection, query, types=types, after=after, limit=page_size + 1)
        page, more = cut_page(
            found,
            page_size,
            lambda each: text_bytes(each.entry.symptoms, each.entry.resolution, each.entry.action),
        )
        if not more:
            return page, None
        last = page[-1]
        return page, (last.rank, last.entry.success_count, last.entry.knowledge_id)

    async def get_postmortem(self, incident_id: str, resolution_number: int) -> Postmortem:
        """Return the postmortem of a RESOLVED transition; `resolution_number` 0 means the latest.

        Raises IncidentNotFoundError, NeverResolvedError, PostmortemNotWrittenError.
        """
        async with self._one_statement.connect() as connection:
            incident = await repository.get(connection, incident_id)
            if incident is None:
                raise IncidentNotFoundError(incident_id)
            if incident.resolution_number == 0:
                raise NeverResolvedError(incident_id)
            number = resolution_number or incident.resolution_number
            postmortem = await side_effects.get_postmortem(connection, incident_id, number)
        if postmortem is None:
            raise PostmortemNotWrittenError(incident_id)
        return postmortem
