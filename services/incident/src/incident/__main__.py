"""The incident service: the only composer of its parts, read from top to bottom."""

import sys
from datetime import timedelta
from functools import partial

from prometheus_client import CollectorRegistry

from awoooi.flywheel.v1 import flywheel_stats_service_pb2
from awoooi.flywheel.v1.flywheel_stats_service_pb2_grpc import add_FlywheelStatsServiceServicer_to_server
from awoooi.incident.v1 import incident_service_pb2
from awoooi.incident.v1.incident_service_pb2_grpc import add_IncidentServiceServicer_to_server
from incident.audited import READING, TARGETS
from incident.effects.dead_letters import DeadLetterUseCases
from incident.effects.external.handler import disabled_effects, open_external_systems
from incident.effects.topics import load_template, topics
from incident.effects.use_cases import SideEffectUseCases
from incident.importing.importer import IncidentImporter
from incident.knowledge.use_cases import KnowledgeUseCases
from incident.lifecycle.canary import CanaryUseCase
from incident.lifecycle.resolve import ResolveUseCase
from incident.lifecycle.retention import remove_old
from incident.lifecycle.use_cases import IncidentUseCases
from incident.roles import ROLES
from incident.servicer import HEAVY_READS, IncidentServicer, StatsServicer
from incident.settings import IncidentSettings
from incident.stats.repository import read_stats
from incident.status_codes import ERRORS
from incident.tables import metadata
from incident.watch.changes import Change
from incident.watch.repository import IncidentChanges
from servicekit.audit.log import AuditLog
from servicekit.audit.unchanged import UnchangedCalls
from servicekit.command_line import run_service
from servicekit.database.engine import close_engine
from servicekit.http.process_metrics import process_metrics
from servicekit.http.tls import http_tls
from servicekit.identity.authentication import open_authentication
from servicekit.identity.certificate_store import CertificateStore
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.throttle import BackgroundThrottle
from servicekit.outbox.transaction import Transactions
from servicekit.outbox.worker import OutboxWorker, WorkerSettings
from servicekit.process.addresses import require_protection
from servicekit.process.background import run_until_stopped
from servicekit.process.periodic import run_periodically
from servicekit.process.signals import stop_event
from servicekit.retention import keep_removing
from servicekit.rpc.audited import AuditedMethods
from servicekit.rpc.in_flight import InFlightCalls
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

_HEALTH_CHECK_EVERY = timedelta(seconds=1)
# How often entries of knowledge that an older version has written are looked for, and the pause between batches of them.
_INDEX_EVERY = timedelta(minutes=1)
_INDEX_PAUSE = timedelta(milliseconds=20)
# With so many RPCs in flight, side effects are held back.
_BUSY_CALLS = 8


async def serve(settings: IncidentSettings, migrate_first: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = stop_event()
    registry = CollectorRegistry()
    authentication = open_authentication(
        settings, registry, certificates=settings.tls_client_ca_file is not None
    )
    calls = InFlightCalls()
    certificates = CertificateStore()
    registry.register(certificates)
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
        calls=calls,
        audited=AuditedMethods(READING, TARGETS, unchanged),
    )
    require_protection(
        settings.metrics_listen,
        insecure=settings.insecure,
        tls=settings.tls_cert_file is not None,
        authenticated=authentication is not None,
        setting="METRICS_LISTEN",
    )
    template = load_template(settings)
    external = open_external_systems(settings)
    engine = await SERVICE.open_database(settings, migrate=migrate_first, stop=stop)
    read_engine = SERVICE.open_reads(settings)
    sessions = SERVICE.open_sessions(settings, engine)
    migrations = SERVICE.migrations

    outbox = Outbox()
    transactions = Transactions(engine, outbox, sessions=sessions)
    # For what grows with the stored data: Lists, searches, stats, retention.
    reads = Transactions(read_engine, outbox)
    audit_log = AuditLog(unchanged, engine, transactions.chains)
    effects = topics(transactions, settings, template, external)
    worker = OutboxWorker(
        transactions,
        list(dict.fromkeys(effects.values())),
        WorkerSettings(),
        throttle=BackgroundThrottle(partial(calls.was_busy, _BUSY_CALLS)),
    )
    skip_reasons = disabled_effects(external)
    changes = IncidentChanges()
    feed: Feed[Change] = Feed(max_watchers=settings.watch_max_streams)
    epochs = Epochs(transactions, changes.table)
    knowledge = KnowledgeUseCases(transactions, reads=reads)
    page_tokens = PageTokens()
    servicer = IncidentServicer(
        incidents=IncidentUseCases(transactions, reads=reads, stuck_after=settings.stuck_after),
        resolve=ResolveUseCase(
            transactions, effects={effect: skip_reasons.get(effect) for effect in effects}
        ),
        canaries=CanaryUseCase(transactions),
        side_effects=SideEffectUseCases(transactions, reads=reads),
        dead_letters=DeadLetterUseCases(transactions),
        knowledge=knowledge,
        watch=WatchUseCase(transactions, changes, feed, epochs, reads=reads),
        page_tokens=page_tokens,
        errors=ERRORS,
    )

    server = (
        server_builder.add(
            add_IncidentServiceServicer_to_server,
            servicer,
            incident_service_pb2.DESCRIPTOR.services_by_name["IncidentService"].full_name,
            heavy_reads=HEAVY_READS,
        )
        .add(
            add_FlywheelStatsServiceServicer_to_server,
            StatsServicer(
                StatsUseCase(reads, partial(read_stats, stuck_after=settings.stuck_after)),
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
            "watch": Tailer(transactions, changes, feed, epochs).run(stop),
            "retention": keep_removing(
                reads,
                None if settings.retention is None else partial(remove_old, keep=settings.retention),
                records="incidents",
            ),
            "knowledge": run_periodically(
                "knowledge_index", knowledge.index_batch, every=_INDEX_EVERY, pause=_INDEX_PAUSE
            ),
            "health": watch_health(server, ready, every=_HEALTH_CHECK_EVERY),
            **own_metrics,
            **({} if authentication is None else authentication.background()),
        },
    )
    await audit_log.close()
    await external.close()
    for each in (read_engine, sessions, engine):
        await close_engine(each)


SERVICE = Service("incident", IncidentSettings, serve, IncidentImporter, metadata)


def main() -> None:
    """Run the command line."""
    sys.exit(run_service(SERVICE))


if __name__ == "__main__":
    main()
