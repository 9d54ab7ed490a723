"""A Prometheus and an Alertmanager on loopback: an alert for each queue that does not drain, posted to the intake."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from flywheel.demo.surroundings import without_settings
from flywheel.programs.debian import working_folder
from flywheel.programs.monitoring import MonitoringPrograms
from flywheel.stack.addresses import Address, reserve_all
from flywheel.stack.orphans import mark
from flywheel.stack.readiness import http_is_ready
from flywheel.stack.service import Service

ALERT = "QueueDoesNotDrain"

_ANY = Address("127.0.0.1", 0)
_RULES = {
    "groups": [
        {
            "name": "demo",
            "rules": [
                {
                    "alert": ALERT,
                    "expr": "demo_queue_length > 100",
                    "labels": {"severity": "critical"},
                    "annotations": {
                        "summary": "The queue {{ $labels.queue }} does not drain",
                        "description": "It has {{ $value }} messages.",
                    },
                }
            ],
        }
    ]
}
# Changes are posted at once; each alert is a group, so that none waits for another.
_ROUTE = {
    "receiver": "flywheel",
    "group_by": ["..."],
    "group_wait": "0s",
    "group_interval": "1s",
    "repeat_interval": "4h",
}
# An alert that Prometheus reports has ended for Alertmanager after four times as long without another report.
_RESEND_SECONDS = 5
# How long an Alertmanager must have run before an alert that it does not list is gone.
SETTLE_SECONDS = _RESEND_SECONDS + 1


class Monitoring:
    """Both programs, with their data in a stack's folder."""

    def __init__(self, programs: MonitoringPrograms, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._reserved = reserve_all({"Prometheus": _ANY, "Alertmanager": _ANY})
        self._addresses = [reserved.address for reserved in self._reserved]
        self._programs = programs
        self._services: list[Service] = []

    @property
    def prometheus(self) -> str:
        """The address of Prometheus."""
        return str(self._addresses[0])

    @property
    def alertmanager(self) -> str:
        """The address of Alertmanager."""
        return str(self._addresses[1])

    @property
    def services(self) -> list[Service]:
        """Both, once they are launched."""
        return self._services

    def launch(self, *, target: str, gateway: str, intake: str) -> None:
        """Start both, and return at once."""
        scrapes = [
            {"job_name": name, "static_configs": [{"targets": [address]}]}
            for name, address in (("shop", target), ("flywheel", gateway))
        ]
        alertmanagers = [{"static_configs": [{"targets": [self.alertmanager]}]}]
        seconds = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        prometheus = {
            "global": seconds,
            "rule_files": ["rules.yml"],
            "alerting": {"alertmanagers": alertmanagers},
            "scrape_configs": scrapes,
        }
        webhook = {"url": f"http://{intake}/alertmanager", "send_resolved": True}
        alertmanager = {
            "route": _ROUTE,
            "receivers": [{"name": "flywheel", "webhook_configs": [webhook]}],
        }
        self._launch(
            "alertmanager",
            self._programs.alertmanager,
            "--storage.path",
            "--cluster.listen-address=",  # one, which forms no cluster
            address=self._addresses[1],
            files={"alertmanager.yml": alertmanager},
        )
        self._launch(
            "prometheus",
            self._programs.prometheus,
            "--storage.tsdb.path",
            f"--rules.alert.resend-delay={_RESEND_SECONDS}s",
            address=self._addresses[0],
            files={"prometheus.yml": prometheus, "rules.yml": _RULES},
        )

    def stop(self, grace_seconds: float | None = None) -> None:
        """Stop both; kill each after `grace_seconds`. After an interruption it can be called again and continues."""
        for service in reversed(self._services):
            service.stop(grace_seconds)
        while self._reserved:
            self._reserved.pop().release()

    def _launch(
        self,
        name: str,
        program: str,
        storage: str,
        *arguments: str,
        address: Address,
        files: Mapping[str, object],
    ) -> None:
        folder = self._data_dir / name
        folder.mkdir()
        for file, content in files.items():
            # JSON is YAML.
            (folder / file).write_text(json.dumps(content, indent=2))
        removed = without_settings(os.environ)
        service = Service(
            name,
            command=[
                program,
                f"--config.file={folder / name}.yml",
                f"{storage}={folder / 'data'}",
                f"--web.listen-address={address}",
                *arguments,
            ],
            # With the mark of the stack, which ends what an interrupted start did not record.
            environment={
                **{name: value for name, value in os.environ.items() if name not in removed},
                **mark(self._data_dir),
            },
            address=address,
            probe=http_is_ready,
            log_path=folder / "log",
            folder=working_folder(program) or folder,
        )
        self._services.append(service)
        service.launch()
