"""`flywheel approval`."""

from datetime import timedelta
from typing import Annotated, Final

import typer

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1.approval_service_pb2 import ListRequest
from awoooi.client import CallError
from awoooi.client.values import enum_value, enum_values
from flywheel.lazy import group
from flywheel.operator import flags
from flywheel.operator.choices import ApprovalOrder, ApprovalState, OperationKind, Recovery, Risk, names
from flywheel.operator.exits import ExitStatus
from flywheel.operator.moments import span
from flywheel.operator.session import Session
from flywheel.operator.verb import verb
from flywheel.operator.views.approval import APPROVAL, EXECUTION, change, state
from flywheel.operator.views.plan import missing_executor, needs_executor, print_plan, would_run

app = group("Propose actions, decide about them and execute them.")

_States = Annotated[
    list[ApprovalState] | None,
    typer.Option("--state", case_sensitive=False, help="In this state; may be repeated."),
]
_AutoExecute = Annotated[
    bool,
    typer.Option(
        "--auto-execute/--no-auto-execute",
        help="Whether it is executed as soon as it is approved, or waits for execute.",
    ),
]

_HINT_TIMEOUT_SECONDS: Final = 2.0


@verb(app, "list")
def list_(
    session: Session,
    *,
    states: _States = None,
    incident_id: flags.OfIncident = "",
    risks: Annotated[
        list[Risk] | None, typer.Option("--risk", case_sensitive=False, help="Of this risk; may be repeated.")
    ] = None,
    operation_kinds: Annotated[
        list[OperationKind] | None,
        typer.Option("--kind", case_sensitive=False, help="An operation of this kind; may be repeated."),
    ] = None,
    recoveries: Annotated[
        list[Recovery] | None,
        typer.Option("--recovery", case_sensitive=False, help="With this recovery; may be repeated."),
    ] = None,
    incident_unknown: Annotated[
        bool,
        typer.Option("--incident-unknown", help="Whose incident the incident service does not know."),
    ] = False,
    create_time_start: flags.Since = None,
    create_time_end: flags.Until = None,
    order: Annotated[
        ApprovalOrder, typer.Option(case_sensitive=False, help="The order.")
    ] = ApprovalOrder.CREATE_TIME_DESC,
    limit: flags.Limit = 50,
) -> None:
    """List approvals that match every given filter, newest first."""
    found = session.approvals.list(
        states=enum_values(approval_pb2.Approval.State, "STATE_", names(states)),
        incident_id=incident_id,
        risks=enum_values(approval_pb2.Risk, "RISK_", names(risks)),
        operation_kinds=enum_values(approval_pb2.Operation.Kind, "KIND_", names(operation_kinds)),
        recoveries=enum_values(approval_pb2.Recovery, "RECOVERY_", names(recoveries)),
        incident_unknown=incident_unknown,
        create_time_start=create_time_start,
        create_time_end=create_time_end,
        order=enum_value(ListRequest.Order, "ORDER_", order.name),
    )
    session.printer.items(found, APPROVAL, limit=limit)


@verb(app)
def show(session: Session, approval_id: flags.ApprovalId) -> None:
    """Show all of one approval."""
    approval = session.approvals.get(approval_id)
    session.printer.item(approval, APPROVAL)
    _warn_without_executor(session, approval)


@verb(app)
def propose(
    session: Session,
    incident_id: flags.IncidentId,
    action: Annotated[
        str, typer.Argument(help='Such as "RESTART deployment/api -n prod"; see docs/actions.md.')
    ],
    *,
    risk: Annotated[Risk, typer.Option(case_sensitive=False, help="How dangerous it is.")],
    rationale: Annotated[str, typer.Option(help="Why.")] = "",
    confidence: Annotated[float | None, typer.Option(help="How sure you are, 0 to 1.")] = None,
    ttl: Annotated[
        timedelta | None,
        typer.Option(
            parser=span, metavar="SPAN", help="When it expires, such as 2h; by default after a day."
        ),
    ] = None,
    required_approvals: Annotated[
        int, typer.Option("--quorum", help="How many have to approve, without you.")
    ] = 1,
    auto_execute: _AutoExecute = True,
    supersedes: Annotated[
        str, typer.Option(metavar="APPROVAL", help="The PENDING one that it replaces.")
    ] = "",
    request_id: Annotated[
        str, typer.Option(help="The idempotency key: the same one again proposes nothing else.")
    ] = "",
) -> None:
    """Propose an action for an incident."""
    approval = session.approvals.propose(
        incident_id,
        action=action,
        risk=enum_value(approval_pb2.Risk, "RISK_", risk.name),
        rationale=rationale,
        confidence=confidence,
        ttl=ttl,
        required_approvals=required_approvals,
        auto_execute=auto_execute,
        supersedes=supersedes,
        request_id=request_id,
    )
    if approval.parse_error:
        session.printer.note(f"the action cannot be parsed, and will fail: {approval.parse_error}")
    _print(session, approval)
    _warn_without_executor(session, approval)


@verb(app, asks=True)
def approve(session: Session, approval_id: flags.ApprovalId, *, reason: flags.Reason = "") -> None:
    """Approve a proposed action. With auto-execute, and the quorum reached, it runs at once."""
    shown = session.confirmed("Approve it?", lambda: session.approvals.get(approval_id), APPROVAL)
    approval = session.approvals.approve(approval_id, reason=reason, etag=shown.etag if shown else "")
    _print(session, approval)
    _warn_without_executor(session, approval)


@verb(app, asks=True)
def reject(session: Session, approval_id: flags.ApprovalId, *, reason: flags.Reason = "") -> None:
    """Reject a proposed action: it never runs."""
    shown = session.confirmed("Reject it?", lambda: session.approvals.get(approval_id), APPROVAL)
    _print(session, session.approvals.reject(approval_id, reason=reason, etag=shown.etag if shown else ""))


@verb(app, asks=True)
def cancel(session: Session, approval_id: flags.ApprovalId, *, reason: flags.Reason = "") -> None:
    """Withdraw an action that has not run; close one whose outcome is INDETERMINATE."""
    shown = session.confirmed("Cancel it?", lambda: session.approvals.get(approval_id), APPROVAL)
    _print(session, session.approvals.cancel(approval_id, reason=reason, etag=shown.etag if shown else ""))


@verb(app, asks=True)
def execute(
    session: Session,
    approval_id: flags.ApprovalId,
    *,
    validate_only: flags.DryRun = False,
    resume_indeterminate: Annotated[
        bool,
        typer.Option(
            "--resume-indeterminate",
            help="Run one again whose outcome is INDETERMINATE: it may have taken effect already.",
        ),
    ] = False,
) -> None:
    """Execute an approved action, and wait for its outcome.

    With --dry-run the exit status is 1 when it would not run.
    """
    if validate_only:
        planned = session.approvals.execute(approval_id, validate_only=True)
        print_plan(session.printer, planned)
        if not would_run(planned):
            raise typer.Exit(ExitStatus.FAILED)
        return
    shown = session.confirmed("Execute it?", lambda: session.approvals.get(approval_id), APPROVAL)
    response = session.approvals.execute(
        approval_id, resume_indeterminate=resume_indeterminate, etag=shown.etag if shown else ""
    )
    approval = response.approval
    before = "was executed before and is" if response.already_executed else "is"
    outcome = f": {approval.outcome_message}" if approval.outcome_message else ""
    session.printer.result(response, f"{approval_id} {before} {state(approval)}{outcome}", approval_id)


@verb(app)
def executions(
    session: Session,
    *,
    approval_id: flags.OfApproval = "",
    incident_id: flags.OfIncident = "",
    succeeded: Annotated[
        bool | None, typer.Option("--succeeded/--failed", help="With this outcome alone.")
    ] = None,
    start_time_start: flags.Since = None,
    start_time_end: flags.Until = None,
    limit: flags.Limit = 50,
) -> None:
    """List what was run, newest first. A NO_ACTION runs nothing."""
    found = session.approvals.list_executions(
        approval_id=approval_id,
        incident_id=incident_id,
        succeeded=succeeded,
        start_time_start=start_time_start,
        start_time_end=start_time_end,
    )
    session.printer.items(found, EXECUTION, limit=limit)


@verb(app)
def watch(
    session: Session,
    approval_id: Annotated[str, typer.Argument(metavar="[APPROVAL]", help="This one alone.")] = "",
    *,
    states: _States = None,
    incident_id: flags.OfIncident = "",
    include_existing: flags.IncludeExisting = False,
    resume_token: flags.ResumeToken = "",
) -> None:
    """Show changes of approvals as they are committed, until Ctrl-C. A lost connection is opened again."""
    with session.approvals.watch(
        approval_id=approval_id,
        incident_id=incident_id,
        states=enum_values(approval_pb2.Approval.State, "STATE_", names(states)),
        include_existing=include_existing,
        resume_token=resume_token,
    ) as changes:
        session.printer.changes(changes, change)


def _print(session: Session, approval: approval_pb2.Approval) -> None:
    session.printer.result(approval, f"{approval.approval_id} is {state(approval)}", approval.approval_id)


def _warn_without_executor(session: Session, approval: approval_pb2.Approval) -> None:
    # Execute asks for the role operator. Where roles are checked, most callers would be refused, and that is audited.
    if session.connection.context.is_authenticated or not session.printer.is_for_people:
        return
    if not needs_executor(approval):
        return
    try:
        plan = session.approvals.execute(
            approval.approval_id, validate_only=True, timeout=_HINT_TIMEOUT_SECONDS
        )
    except CallError:
        # Only a hint: the command has had its effect.
        return
    if hint := missing_executor(plan):
        session.printer.note(hint)
