"""The approval service. The only place where its parts are put together, read from top to bottom."""

import os
import sys
from datetime import timedelta
from functools import partial

from prometheus_client import CollectorRegistry

from approval.delivery import client as incident_client
from approval.delivery.client import IncidentClient
from approval.delivery.handlers import topics
from approval.delivery.reconcile import Reconciler
from approval.execution.runner import OperationLimits, Operations
from approval.execution.use_cases import Executions
from approval.executors.registry import load_executors
from approval.importing.importer import ApprovalImporter
from approval.lifecycle.expiry import keep_expiring
from approval.lifecycle.use_cases import ApprovalUseCases
from approval.policy.switch import AutoApproval
from approval.servicer import ApprovalServicer, StatsServicer
from approval.settings import ApprovalSettings
from approval.stats.repository import read_figures
from approval.status_codes import ERRORS
from awoooi.approval.v1 import approval_service_pb2
from awoooi.approval.v1.approval_service_pb2_grpc import add_ApprovalServiceServicer_to_server
from awoooi.flywheel.v1 import flywheel_stats_service_pb2
from awoooi.flywheel.v1.flywheel_stats_service_pb2_grpc import add_FlywheelStatsServiceServicer_to_server
from servicekit.database.counters import choose_shard
from servicekit.database.engine import close_engine, create_engine
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.transaction import Transactions
from servicekit.outbox.worker import OutboxWorker, WorkerSettings
from servicekit.process.addresses import require_loopback
from servicekit.process.signals import stop_event
from servicekit.rpc.channel import open_channel
from servicekit.rpc.page_tokens import PageTokens
from servicekit.rpc.process_metrics import serve_process_metrics
from servicekit.rpc.server import ServerBuilder, run_until_stopped, watch_health
from servicekit.service import Service, run_service

# How long running operations may go on after the server has stopped; then they are INDETERMINATE.
_DRAIN_OPERATIONS = timedelta(seconds=10)
_HEALTH_CHECK_EVERY = timedelta(seconds=1)
# Done deliveries tell what happened last week; the approval itself keeps when its incident was resolved.
_KEEP_DONE_DELIVERIES = timedelta(days=7)


async def serve(settings: ApprovalSettings, migrate_first: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = stop_event()
    registry = CollectorRegistry()
    # First of all: a server that must not listen there must not migrate either.
    server_builder = ServerBuilder(
        settings.listen,
        errors=ERRORS,
        registry=registry,
        insecure=settings.insecure,
        reflection_enabled=settings.reflection,
    )
    require_loopback(settings.metrics_listen, insecure=settings.insecure)
    auto_approval = AutoApproval(
        settings.policy_file, switched_on=settings.auto_approve, switch_file=settings.auto_approve_file
    )
    await auto_approval.start()
    engine = create_engine(
        settings.database_url.get_secret_value(),
        application_name="approval-service",
        pool_size=settings.database_pool_size,
    )
    migrations = SERVICE.migrations
    if migrate_first:
        await SERVICE.migrate(settings)

    shard = choose_shard()
    names = [name.strip() for name in settings.executors.split(",") if name.strip()]
    executors = load_executors(names, os.environ)
    channel = open_channel(settings.incident_target, [incident_client.SERVICE])
    incidents = IncidentClient(
        channel,
        check_timeout=settings.incident_check_timeout,
        resolve_timeout=settings.incident_resolve_timeout,
    )
    outbox = Outbox()
    transactions = Transactions(engine, outbox)
    use_cases = ApprovalUseCases(
        engine,
        incidents=incidents,
        read_policy=auto_approval.policy,
        outbox=outbox,
        executable=executors.kinds,
        counter_shard=shard,
    )
    operations = Operations(
        engine,
        executors,
        incidents,
        outbox,
        limits=OperationLimits(
            timeout=settings.operation_timeout,
            cooldown=settings.cooldown,
            per_hour=settings.operations_per_hour,
        ),
        counter_shard=shard,
    )
    executions = Executions(engine, operations, outbox=outbox, executors=executors, counter_shard=shard)
    worker = OutboxWorker(
        transactions,
        topics(executions, incidents, resolve_timeout=settings.incident_resolve_timeout, counter_shard=shard),
        WorkerSettings(keep_done=_KEEP_DONE_DELIVERIES),
    )
    reconciler = Reconciler(engine, outbox)
    page_tokens = PageTokens()

    server = (
        server_builder.add(
            add_ApprovalServiceServicer_to_server,
            ApprovalServicer(
                use_cases, executions, reconciler, page_tokens, default_ttl=settings.default_ttl
            ),
            approval_service_pb2.DESCRIPTOR.services_by_name["ApprovalService"].full_name,
        )
        .add(
            add_FlywheelStatsServiceServicer_to_server,
            StatsServicer(partial(read_figures, engine), min_samples=settings.min_samples),
            flywheel_stats_service_pb2.DESCRIPTOR.services_by_name["FlywheelStatsService"].full_name,
        )
        .build()
    )

    async def ready() -> bool:
        return page_tokens.key is not None and await migrations.is_current(engine)

    serve_process_metrics(settings.metrics_listen, registry, insecure=settings.insecure)
    await server.start()
    await run_until_stopped(
        server,
        stop,
        background={
            "outbox": worker.run(),
            "page_tokens": page_tokens.keep_loaded(engine),
            "operations": operations.keep_marking_abandoned(),
            "expiry": keep_expiring(engine, every=settings.expire_every, counter_shard=shard),
            "reconcile": reconciler.keep_reconciling(every=settings.reconcile_every),
            "health": watch_health(server, ready, every=_HEALTH_CHECK_EVERY),
        },
    )
    await operations.drain(_DRAIN_OPERATIONS)
    await executors.close()
    await channel.close()
    await close_engine(engine)


SERVICE = Service("approval", ApprovalSettings, serve, ApprovalImporter)


def main() -> None:
    """Run the command line."""
    sys.exit(run_service(SERVICE))


if __name__ == "__main__":
    main()
