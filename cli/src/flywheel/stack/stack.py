"""The local stack: database, incident service, approval service, alert intake, metrics gateway."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from flywheel.errors import FlywheelError
from flywheel.postgres.binaries import without_libpq_variables
from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.stack.addresses import Address, ReservedAddress, reserve_all
from flywheel.stack.orphans import mark, stop_orphans
from flywheel.stack.protection import OwnCertificate, own_certificate
from flywheel.stack.readiness import grpc_is_serving, http_is_ready
from flywheel.stack.service import Service, wait_until_ready
from flywheel.stack.supervisor import Supervisor
from flywheel.system.file_lock import FileLock
from flywheel.system.log_files import keep_previous, shorten

INCIDENT_LISTEN = "127.0.0.1:50051"
APPROVAL_LISTEN = "127.0.0.1:50052"
GATEWAY_LISTEN = "127.0.0.1:9464"
INTAKE_LISTEN = "127.0.0.1:9465"

_CHECK_SECONDS = 0.2


class Stack:
    """The stack with its data in `data_dir`; one process at a time can run it.

        with Stack(Path("data"), incident_listen="127.0.0.1:0") as stack:
            stack.incident.address  # its listen address
            stack.incident.stop()   # and start() again, on the same address
            stack.database          # its EmbeddedPostgres

    A database URL replaces the embedded database of that service. `environment` has settings of the services, and
    overrides what they inherit; None removes an inherited one. `on_step` is called with a text at each step. Failures raise FlywheelError, and leave
    nothing running.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        incident_listen: str = INCIDENT_LISTEN,
        approval_listen: str = APPROVAL_LISTEN,
        gateway_listen: str = GATEWAY_LISTEN,
        intake_listen: str = INTAKE_LISTEN,
        incident_database_url: str | None = None,
        approval_database_url: str | None = None,
        environment: Mapping[str, str | None] | None = None,
        durable: bool = True,
        on_step: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.database: EmbeddedPostgres | None = None
        self._listen = {
            "INCIDENT_LISTEN": Address.parse(incident_listen, variable="INCIDENT_LISTEN"),
            "APPROVAL_LISTEN": Address.parse(approval_listen, variable="APPROVAL_LISTEN"),
            "GATEWAY_LISTEN": Address.parse(gateway_listen, variable="GATEWAY_LISTEN"),
            "INTAKE_LISTEN": Address.parse(intake_listen, variable="INTAKE_LISTEN"),
        }
        self._database_urls = {"incident": incident_database_url, "approval": approval_database_url}
        self._environment = environment or {}
        self._durable = durable
        self._on_step = on_step
        self._lock = FileLock(self.data_dir / "lock")
        self._reserved: list[ReservedAddress] = []
        self._services: dict[str, Service] = {}

    @property
    def incident(self) -> Service:
        """The incident service of a started stack."""
        return self._services["incident"]

    @property
    def approval(self) -> Service:
        """The approval service of a started stack."""
        return self._services["approval"]

    @property
    def gateway(self) -> Service:
        """The metrics gateway of a started stack."""
        return self._services["gateway"]

    @property
    def intake(self) -> Service:
        """The alert intake of a started stack."""
        return self._services["intake"]

    def reserve(self) -> Mapping[str, Address]:
        """Take the folder and the addresses, for `start`; return these by the names of the services."""
        self._take_folder()
        try:
            stop_orphans(self.data_dir)
            self._reserved = reserve_all(self._listen)
        except BaseException:
            self.stop()
            raise
        names = ("incident", "approval", "gateway", "intake")
        return {
            name: reserved.address.connect_address
            for name, reserved in zip(names, self._reserved, strict=True)
        }

    def start(self) -> None:
        """Return when everything is ready."""
        if not self._lock.is_held:
            self.reserve()
        try:
            urls = self._start_databases()
            self._on_step("starting the services")
            self._make_services(urls)
            for service in self._services.values():
                keep_previous(service.log_path)
                service.launch()
            wait_until_ready(list(self._services.values()))
        except BaseException:
            self.stop()
            raise

    def stop(self, grace_seconds: float | None = None) -> None:
        """Stop everything in order, clients before their servers; kill each part after `grace_seconds`.

        After an interruption it can be called again and continues. Without effect when the stack was not started.
        """
        if not self._lock.is_held:
            return
        for name in ("gateway", "intake", "approval", "incident"):
            if name in self._services:
                self._on_step(f"stopping {name}")
                self._services[name].stop(grace_seconds)
        # Services that an interrupted start did not record.
        stop_orphans(self.data_dir)
        if self.database is not None:
            self._on_step("stopping PostgreSQL")
            self.database.stop()
        while self._reserved:
            self._reserved.pop().release()
        self._lock.release()

    def watch(self, log: Callable[[str], None]) -> None:
        """Keep everything running until interrupted; `log` gets a line for each restart."""
        parts = [*self._services.values()]
        supervisor = Supervisor(
            [_WatchedDatabase(self.database), *parts] if self.database is not None else parts, log
        )
        while True:
            supervisor.check()
            if self.database is not None:
                # PostgreSQL keeps its log open; the services rotate their own.
                shorten(self.database.log_path)
            time.sleep(_CHECK_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _take_folder(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            taken = self._lock.acquire()
        except OSError as exc:
            raise FlywheelError(
                f"the folder {self.data_dir} cannot be used: {exc.strerror}",
                advice="choose another place with --data-dir",
            ) from exc
        if not taken:
            pid = self._lock.holder()
            raise FlywheelError(
                f"a stack runs on {self.data_dir} already (process {pid})",
                advice=f"stop it: kill {pid}; or choose another place with --data-dir",
            )

    def _start_databases(self) -> dict[str, str]:
        embedded = [name for name, url in self._database_urls.items() if url is None]
        urls = {name: url for name, url in self._database_urls.items() if url is not None}
        if embedded:
            self.database = EmbeddedPostgres(
                self.data_dir / "postgres",
                durable=self._durable,
                log_path=self.data_dir / "log" / "postgres.log",
            )
            self._on_step(
                "starting PostgreSQL" if self.database.data_dir.exists() else "creating the database"
            )
            self.database.start()
            for name in embedded:
                self.database.create_database(name)
                urls[name] = self.database.url(name)
        return urls

    def _make_services(self, database_urls: Mapping[str, str]) -> None:
        incident, approval, gateway, intake = (reserved.address for reserved in self._reserved)
        targets = {
            "incident": self._target("INCIDENT_MTLS_LISTEN") or str(incident.connect_address),
            "approval": self._target("APPROVAL_MTLS_LISTEN") or str(approval.connect_address),
        }
        removed = {name: None for name, value in self._environment.items() if value is None}
        given = {name: value for name, value in self._environment.items() if value is not None}
        settings: dict[str, str | None] = {
            **removed,
            "INCIDENT_LISTEN": str(incident),
            "INCIDENT_DATABASE_URL": database_urls["incident"],
            "APPROVAL_LISTEN": str(approval),
            "APPROVAL_DATABASE_URL": database_urls["approval"],
            "APPROVAL_INCIDENT_TARGET": targets["incident"],
            "GATEWAY_LISTEN": str(gateway),
            "GATEWAY_SOURCES": ",".join(f"{name}={target}" for name, target in targets.items()),
            "INTAKE_LISTEN": str(intake),
            "INTAKE_INCIDENT_TARGET": targets["incident"],
            "INTAKE_APPROVAL_TARGET": targets["approval"],
            **given,
            **mark(self.data_dir),
        }

        def service(
            name: str,
            module: str,
            *arguments: str,
            address: Address,
            probe: Callable[[Address, OwnCertificate | None], bool],
        ) -> Service:
            embedded = name in self._database_urls and self._database_urls[name] is None
            inherited = without_libpq_variables(os.environ) if embedded else os.environ
            log_path = self.data_dir / "log" / f"{name}.log"
            settings[f"{name.upper()}_LOG_FILE"] = str(log_path)
            environment = {
                variable: value for variable, value in {**inherited, **settings}.items() if value is not None
            }
            certificate = own_certificate(name.upper(), environment)
            return Service(
                name,
                # -P: not a folder of that name in the working directory.
                command=[sys.executable, "-P", "-m", module, *arguments],
                environment=environment,
                address=address,
                probe=lambda at: probe(at, certificate),
                log_path=log_path,
            )

        self._services = {
            "incident": service(
                "incident", "incident", "serve", "--migrate", address=incident, probe=grpc_is_serving
            ),
            "approval": service(
                "approval", "approval", "serve", "--migrate", address=approval, probe=grpc_is_serving
            ),
            "gateway": service("gateway", "metrics_gateway", "serve", address=gateway, probe=http_is_ready),
            "intake": service("intake", "alert_intake", "serve", address=intake, probe=http_is_ready),
        }

    def _target(self, variable: str) -> str | None:
        """Return where other services call a service, if not at its first address: their certificates are taken there."""
        listen = {**os.environ, **self._environment}.get(variable)
        return str(Address.parse(listen, variable=variable).connect_address) if listen else None


class _WatchedDatabase:
    """The embedded database as a part of the supervisor."""

    name = "PostgreSQL"

    def __init__(self, database: EmbeddedPostgres) -> None:
        self._database = database
        self.log_path = database.log_path

    def exit_status(self) -> str | None:
        return None if self._database.is_running() else "its server process is gone"

    def exit_reason(self) -> str:
        return ""

    def restart(self) -> None:
        self._database.start()
