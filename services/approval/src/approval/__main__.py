"""The approval service. The only place where its parts are put together, read from top to bottom."""

import os
import sys
from datetime import timedelta
from functools import partial

from prometheus_client import CollectorRegistry

from approval.audited import READING, TARGETS
from approval.delivery import client as incident_client
from approval.delivery.client import IncidentClient
from approval.delivery.comparison import Comparison
from approval.delivery.dead_letters import DeadLetterUseCases
from approval.delivery.reconcile import Reconciler
from approval.delivery.use_cases import DeliveryUseCases
from approval.execution.abandoned import mark_abandoned
from approval.execution.log_use_cases import ExecutionLogUseCase
from approval.execution.plan import PlanUseCase
from approval.execution.runner import OperationRunner
from approval.execution.start import OperationStarts
from approval.execution.targets import remove_idle
from approval.execution.use_cases import ExecuteUseCase
from approval.executors.registry import load_executors
from approval.importing.importer import ApprovalImporter
from approval.lifecycle.canary import CanaryUseCase
from approval.lifecycle.expiry import expire
from approval.lifecycle.propose import ProposeUseCase
from approval.lifecycle.retention import Retention
from approval.lifecycle.use_cases import ApprovalUseCases
from approval.notification.instructions import Instructions
from approval.notification.opening import open_notifications
from approval.policy.switch import AutoApproval
from approval.recovery.use_cases import Verification
from approval.replay.command import commands as policy_commands
from approval.roles import ROLES
from approval.servicer import HEAVY_READS, ApprovalServicer, StatsServicer
from approval.settings import ApprovalSettings
from approval.stats.model import WINDOW
from approval.stats.repository import read_stats
from approval.status_codes import ERRORS
from approval.tables import metadata
from approval.topics import topics
from approval.verifiers.registry import load_verifier
from approval.watch.changes import Change
from approval.watch.repository import ApprovalChanges
from awoooi.approval.v1 import approval_service_pb2
from awoooi.approval.v1.approval_service_pb2_grpc import add_ApprovalServiceServicer_to_server
from awoooi.flywheel.v1 import flywheel_stats_service_pb2
from awoooi.flywheel.v1.flywheel_stats_service_pb2_grpc import add_FlywheelStatsServiceServicer_to_server
from servicekit.audit.log import AuditLog
from servicekit.audit.unchanged import UnchangedCalls
from servicekit.command_line import run_service
from servicekit.database.engine import close_engine
from servicekit.database.migrations import Migrations
from servicekit.http.process_metrics import process_metrics
from servicekit.http.tls import http_tls
from servicekit.identity.authentication import open_authentication
from servicekit.identity.certificate_store import CertificateStore
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.outbox.worker import OutboxWorker, WorkerSettings
from servicekit.process.addresses import require_protection
from servicekit.process.background import run_until_stopped
from servicekit.process.periodic import run_periodically
from servicekit.process.signals import stop_event
from servicekit.retention import keep_removing
from servicekit.rpc.audited import AuditedMethods
from servicekit.rpc.channel import channel_tls, open_channel
from servicekit.rpc.limits_from_settings import server_limits
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.server import watch_health
from servicekit.rpc.server_builder import ServerBuilder
from servicekit.rpc.tls import server_tls
from servicekit.service import Service
from servicekit.stats import StatsUseCase
from servicekit.watch.epoch import Epochs
from servicekit.watch.feed import Feed
from servicekit.watch.tailer import Tailer
from servicekit.watch.use_cases import WatchUseCase

# How long running operations may go on after the server has stopped; then they are INDETERMINATE.
_DRAIN_OPERATIONS = timedelta(seconds=10)
# How often rows of targets that are not operated on any more are looked for.
_TARGETS_EVERY = timedelta(hours=1)
_ABANDONED_CHECK_EVERY = timedelta(seconds=1)
_RECOVERY_CHECK_EVERY = timedelta(seconds=1)
_HEALTH_CHECK_EVERY = timedelta(seconds=1)
# Between two batches of a reconciliation: it delays no caller.
_RECONCILE_PAUSE = timedelta(milliseconds=100)
# Done deliveries are the history of the last week; the approval itself keeps when its incident was resolved.
_KEEP_DONE_DELIVERIES = timedelta(days=7)


async def serve(settings: ApprovalSettings, migrate_first: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = stop_event()
    registry = CollectorRegistry()
    certificates = CertificateStore()
    registry.register(certificates)
    authentication = open_authentication(
        settings, registry, certificates=settings.tls_client_ca_file is not None
    )
    unchanged = UnchangedCalls()
    # First of all: a server that must not listen there must not migrate either.
    server_builder = ServerBuilder(
        settings.listen,
        errors=ERRORS,
        registry=registry,
        roles=ROLES,
        authenticator=None if authentication is None else authentication.authenticator,
        tls=server_tls(settings, certificates),
        insecure=settings.insecure,
        health_address=settings.health_listen,
        reflection_enabled=settings.reflection,
        limits=server_limits(settings),
        audited=AuditedMethods(READING, TARGETS, unchanged),
    )
    require_protection(
        settings.metrics_listen,
        insecure=settings.insecure,
        tls=settings.tls_cert_file is not None,
        authenticated=authentication is not None,
        setting="METRICS_LISTEN",
    )
    incident_tls = channel_tls(
        settings, certificates, "incident_tls", server_name=settings.incident_tls_server_name
    )
    notifications = open_notifications(settings, policy_file=settings.policy_file)
    auto_approval = AutoApproval(
        notifications.policy, switched_on=settings.auto_approve, switch_file=settings.auto_approve_file
    )
    await auto_approval.start()
    engine = await SERVICE.open_database(settings, migrate=migrate_first, stop=stop)
    read_engine = SERVICE.open_reads(settings)
    sessions = SERVICE.open_sessions(settings, engine)
    migrations = SERVICE.migrations

    names = [name.strip() for name in settings.executors.split(",") if name.strip()]
    executors = load_executors(names, os.environ)
    channel = open_channel(settings.incident_target, [incident_client.SERVICE], tls=incident_tls)
    verifier = load_verifier(settings.verifier, os.environ)
    incidents = IncidentClient(
        channel,
        check_timeout=settings.incident_check_timeout,
        resolve_timeout=settings.incident_resolve_timeout,
    )
    outbox = Outbox()
    transactions = Transactions(engine, outbox, sessions=sessions)
    # For what grows with the stored data: Lists, stats, the reconciler, retention.
    reads = Transactions(read_engine, outbox)
    audit_log = AuditLog(unchanged, engine, transactions.chains)
    runner = OperationRunner(
        transactions,
        OperationStarts(
            transactions,
            executors,
            incidents,
            limits=settings.operation_limits,
            notifications=notifications.jobs,
        ),
        limits=settings.operation_limits,
        recovery=None if verifier is None else settings.recovery_rules,
    )
    verification = Verification(
        transactions,
        verifier,
        incidents,
        settings.recovery_rules,
        check_timeout=settings.incident_check_timeout,
        notifications=notifications.jobs,
    )
    execute = ExecuteUseCase(transactions, runner)
    reconciler = Reconciler(reads, Comparison(reads, incidents))
    retention = None
    if settings.retention is not None:
        # What the success rate, the limits of targets and their cool-down are read from.
        retention = Retention(keep=settings.retention, keep_finished=max(WINDOW, settings.cooldown))
    changes = ApprovalChanges()
    feed: Feed[Change] = Feed(max_watchers=settings.watch_max_streams)
    epochs = Epochs(transactions, changes.table)
    page_tokens = PageTokens()
    worker = OutboxWorker(
        transactions,
        [
            *topics(transactions, execute, incidents, resolve_timeout=settings.incident_resolve_timeout),
            *notifications.topics(
                transactions,
                Instructions(
                    link=settings.notify_link,
                    address=settings.notify_target or settings.listen,
                    tls=settings.tls_cert_file is not None,
                    authenticated=authentication is not None,
                ),
            ),
        ],
        WorkerSettings(keep_done=_KEEP_DONE_DELIVERIES),
    )

    server = (
        server_builder.add(
            add_ApprovalServiceServicer_to_server,
            ApprovalServicer(
                propose=ProposeUseCase(
                    transactions,
                    incidents=incidents,
                    read_policy=auto_approval.policy,
                    executable=executors.kinds,
                    notifications=notifications.jobs,
                ),
                approvals=ApprovalUseCases(
                    transactions,
                    reads=reads,
                    executable=executors.kinds,
                    notifications=notifications.jobs,
                ),
                execute=execute,
                plan=PlanUseCase(transactions, executors),
                execution_log=ExecutionLogUseCase(reads),
                deliveries=DeliveryUseCases(reads),
                dead_letters=DeadLetterUseCases(transactions),
                canaries=CanaryUseCase(transactions),
                reconciler=reconciler,
                watch=WatchUseCase(transactions, changes, feed, epochs, reads=reads),
                page_tokens=page_tokens,
                default_ttl=settings.default_ttl,
            ),
            approval_service_pb2.DESCRIPTOR.services_by_name["ApprovalService"].full_name,
            heavy_reads=HEAVY_READS,
        )
        .add(
            add_FlywheelStatsServiceServicer_to_server,
            StatsServicer(
                StatsUseCase(reads, read_stats),
                min_samples=settings.min_samples,
                refused=server_builder.refused,
                unusable=() if authentication is None else authentication.unusable_sources,
                build=SERVICE.build,
            ),
            flywheel_stats_service_pb2.DESCRIPTOR.services_by_name["FlywheelStatsService"].full_name,
        )
        .build()
    )

    async def ready() -> bool:
        return await migrations.is_current(engine) and await page_tokens.loaded()

    own_metrics = process_metrics(
        settings.metrics_listen,
        registry,
        tls=http_tls(settings, certificates),
        authenticator=None if authentication is None else authentication.authenticator,
    )
    await server.start()
    await run_until_stopped(
        server.stop,
        stop,
        background={
            "outbox": worker.run(),
            "audit": audit_log.run(),
            "page_tokens": page_tokens.keep_loaded(engine),
            "certificates": certificates.keep_current(),
            "operations": run_periodically(
                "abandoned_check", partial(mark_abandoned, transactions), every=_ABANDONED_CHECK_EVERY
            ),
            "targets": run_periodically(
                "target_removal", partial(remove_idle, transactions), every=_TARGETS_EVERY
            ),
            "expiry": run_periodically(
                "expiry", partial(expire, transactions, notifications.jobs), every=settings.expire_every
            ),
            **notifications.background(transactions),
            "reconcile": run_periodically(
                "reconcile",
                reconciler.reconcile_batch,
                every=settings.reconcile_every,
                pause=_RECONCILE_PAUSE,
                delay_first=True,
            ),
            "watch": Tailer(transactions, changes, feed, epochs).run(stop),
            "retention": keep_removing(
                reads, None if retention is None else retention.remove_next, records="approvals"
            ),
            "recovery": run_periodically(
                "recovery",
                verification.look_batch,
                every=min(_RECOVERY_CHECK_EVERY, settings.verifier_interval),
            ),
            "recovery_restore": run_periodically(
                "recovery_restore", verification.restore, every=settings.reconcile_every, delay_first=True
            ),
            "health": watch_health(server, ready, every=_HEALTH_CHECK_EVERY),
            **own_metrics,
            **({} if authentication is None else authentication.background()),
        },
    )
    await runner.drain(_DRAIN_OPERATIONS)
    await audit_log.close()
    await executors.close()
    if verifier is not None:
        await verifier.close()
    await channel.close()
    for each in (read_engine, sessions, engine):
        await close_engine(each)


def _database_url() -> str:
    return ApprovalSettings.from_environment().session_url


SERVICE = Service(
    "approval",
    ApprovalSettings,
    serve,
    ApprovalImporter,
    metadata,
    policy_commands(
        Migrations("approval:migrations"),
        _database_url,
    ),
)


def main() -> None:
    """Run the command line."""
    sys.exit(run_service(SERVICE))


if __name__ == "__main__":
    main()
