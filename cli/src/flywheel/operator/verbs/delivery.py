"""`flywheel delivery`."""

from typing import Annotated

import typer

from awoooi.approval.v1 import approval_pb2
from awoooi.client.values import enum_values
from flywheel.lazy import group
from flywheel.operator import flags
from flywheel.operator.choices import DeliveryState, DeliveryTopic, names
from flywheel.operator.session import Session
from flywheel.operator.verb import verb
from flywheel.operator.verbs.retrying import retry_each_or_all
from flywheel.operator.views.waiting import DELIVERY, delivery_state

app = group(
    "What approvals have caused, and what waits of it: resolves, timeline events, executions, messages."
)

_Topics = Annotated[
    list[DeliveryTopic] | None,
    typer.Option("--topic", case_sensitive=False, help="Of this topic; may be repeated."),
]
_Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[DELIVERY]...", help="Ids; - reads them from standard input, one a line."),
]


@verb(app, "list")
def list_(
    session: Session,
    *,
    states: Annotated[
        list[DeliveryState] | None,
        typer.Option("--state", case_sensitive=False, help="In this state; may be repeated."),
    ] = None,
    topics: _Topics = None,
    approval_id: flags.OfApproval = "",
    limit: flags.Limit = 50,
) -> None:
    """List deliveries, newest first: the resolves, and what is PARKED (dead-lettered) or DISMISSED of every topic."""
    found = session.approvals.list_deliveries(
        states=enum_values(approval_pb2.Delivery.State, "STATE_", names(states)),
        topics=enum_values(approval_pb2.Delivery.Topic, "TOPIC_", names(topics)),
        approval_id=approval_id,
    )
    session.printer.items(found, DELIVERY, limit=limit)


@verb(app)
def retry(
    session: Session,
    delivery_ids: _Ids = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that are PARKED.")] = False,
    topics: _Topics = None,
) -> None:
    """Re-queue PARKED (dead-lettered) deliveries, once the cause is corrected."""

    def one(delivery_id: str) -> None:
        _print(session, session.approvals.retry_delivery(delivery_id))

    def some() -> tuple[int, bool]:
        wanted = enum_values(approval_pb2.Delivery.Topic, "TOPIC_", names(topics))
        response = session.approvals.retry_deliveries(topics=wanted)
        for each in response.deliveries:
            _print(session, each)
        return len(response.deliveries), response.has_more

    retry_each_or_all(session, delivery_ids, every=every, one=one, some=some)


@verb(app, asks=True)
def dismiss(
    session: Session,
    delivery_ids: Annotated[
        list[str],
        typer.Argument(metavar="DELIVERY...", help="Ids; - reads them from standard input, one a line."),
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why; kept on record.")],
) -> None:
    """Give PARKED (dead-lettered) deliveries up for good."""

    def act(delivery_id: str) -> None:
        session.confirm(f"Dismiss {delivery_id} for good?")
        _print(session, session.approvals.dismiss_delivery(delivery_id, reason=reason))

    session.each(delivery_ids, act)


def _print(session: Session, delivery: approval_pb2.Delivery) -> None:
    session.printer.result(
        delivery, f"{delivery.delivery_id} is {delivery_state(delivery.state)}", delivery.delivery_id
    )
