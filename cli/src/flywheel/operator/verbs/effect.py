"""`flywheel effect`."""

from typing import Annotated

import typer

from awoooi.client.values import enum_values
from awoooi.incident.v1 import incident_pb2
from flywheel.lazy import group
from flywheel.operator import flags
from flywheel.operator.choices import Effect, EffectState, names
from flywheel.operator.session import Session
from flywheel.operator.verb import verb
from flywheel.operator.verbs.retrying import retry_each_or_all
from flywheel.operator.views.waiting import EFFECT, effect_state

app = group(
    "The side effects of resolutions, and what waits of them: postmortems, knowledge, webhooks, messages."
)

_Effects = Annotated[
    list[Effect] | None,
    typer.Option("--effect", case_sensitive=False, help="Of this kind; may be repeated."),
]
_Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[EFFECT]...", help="Ids; - reads them from standard input, one a line."),
]


@verb(app, "list")
def list_(
    session: Session,
    *,
    states: Annotated[
        list[EffectState] | None,
        typer.Option("--state", case_sensitive=False, help="In this state; may be repeated."),
    ] = None,
    effects: _Effects = None,
    incident_id: flags.OfIncident = "",
    limit: flags.Limit = 50,
) -> None:
    """List side effects, newest first."""
    found = session.incidents.list_side_effects(
        states=enum_values(incident_pb2.SideEffect.State, "STATE_", names(states)),
        effects=enum_values(incident_pb2.SideEffect.Effect, "EFFECT_", names(effects)),
        incident_id=incident_id,
    )
    session.printer.items(found, EFFECT, limit=limit)


@verb(app)
def retry(
    session: Session,
    delivery_ids: _Ids = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that are PARKED.")] = False,
    effects: _Effects = None,
) -> None:
    """Re-queue PARKED (dead-lettered) side effects, once the cause is corrected."""

    def one(delivery_id: str) -> None:
        _print(session, session.incidents.retry_side_effect(delivery_id=delivery_id))

    def some() -> tuple[int, bool]:
        wanted = enum_values(incident_pb2.SideEffect.Effect, "EFFECT_", names(effects))
        response = session.incidents.retry_side_effects(effects=wanted)
        for each in response.side_effects:
            _print(session, each)
        return len(response.side_effects), response.has_more

    retry_each_or_all(session, delivery_ids, every=every, one=one, some=some)


@verb(app, asks=True)
def dismiss(
    session: Session,
    delivery_ids: Annotated[
        list[str],
        typer.Argument(metavar="EFFECT...", help="Ids; - reads them from standard input, one a line."),
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why; kept on record.")],
) -> None:
    """Give PARKED (dead-lettered) side effects up for good."""

    def act(delivery_id: str) -> None:
        session.confirm(f"Dismiss {delivery_id} for good?")
        _print(session, session.incidents.dismiss_side_effect(delivery_id=delivery_id, reason=reason))

    session.each(delivery_ids, act)


def _print(session: Session, side_effect: incident_pb2.SideEffect) -> None:
    session.printer.result(
        side_effect,
        f"{side_effect.delivery_id} is {effect_state(side_effect.state)}",
        side_effect.delivery_id,
    )
