"""`flywheel demo --alerts`: from a real alert to its incident's verified recovery, on a temporary stack.

A real Prometheus and a real Alertmanager report two alerts. One repair helps: its incident is resolved as verified. The
other does not: its incident stays open, and people are notified.
"""

import os
import tempfile
from pathlib import Path

from flywheel.demo.alert_story import AlertStory
from flywheel.demo.monitoring import SETTLE_SECONDS, Monitoring
from flywheel.demo.output import DemoOutput
from flywheel.demo.surroundings import without_settings
from flywheel.demo.target import Target
from flywheel.programs.monitoring import MonitoringPrograms, find_monitoring
from flywheel.stack.ending import end_stack
from flywheel.stack.service import wait_until_ready
from flywheel.stack.stack import Stack
from flywheel.system.signals import raise_stop_signals, wait_for_signal

# Of each queue, whether its repair helps.
_QUEUES = {"orders": True, "mails": False}
# Short, so that the repair that does not help is found out soon.
_WINDOW_SECONDS = 10
_STEP_SECONDS = 30.0


def run(
    *,
    prometheus: Path | None = None,
    alertmanager: Path | None = None,
    stays: bool = False,
    step_seconds: float = _STEP_SECONDS,
) -> None:
    """Run the demo; a signal ends it, and nothing that it started stays. With `stays` it runs on until a signal.

    Raises FlywheelError when a program is missing, or when a step takes longer than `step_seconds`.
    """
    raise_stop_signals()
    output = DemoOutput()
    programs = find_monitoring(prometheus=prometheus, alertmanager=alertmanager, working=output.working)
    with tempfile.TemporaryDirectory(prefix="flywheel-demo-") as folder, Target(_QUEUES) as target:
        _Run(Path(folder), target, programs, output, step_seconds).play(stays=stays)


class _Run:
    """The stack, with Prometheus and Alertmanager beside it, as long as the demo takes."""

    def __init__(
        self,
        folder: Path,
        target: Target,
        programs: MonitoringPrograms,
        output: DemoOutput,
        step_seconds: float,
    ) -> None:
        self._folder = folder.resolve()
        self._target = target
        self._programs = programs
        self._output = output
        self._step_seconds = step_seconds

    def play(self, *, stays: bool) -> None:
        """Start everything, run the demo, stop everything."""
        monitoring = Monitoring(self._programs, self._folder)
        stack = Stack(
            self._folder,
            incident_listen="127.0.0.1:0",
            approval_listen="127.0.0.1:0",
            gateway_listen="127.0.0.1:0",
            intake_listen="127.0.0.1:0",
            environment={**without_settings(os.environ), **self._settings(monitoring)},
        )
        try:
            with self._output.status("starting Prometheus, Alertmanager and a stack of its own"):
                self._start(stack, monitoring)
            AlertStory(
                stack, monitoring, self._target, self._output, self._step_seconds, queues=_QUEUES
            ).play()
            self._output.end(
                "The loop is closed: one repair has helped, and the other is not called a success."
            )
            if stays:
                self._output.note("Everything runs on, for a look at the pages; Ctrl-C stops it.")
                wait_for_signal()
        finally:
            with self._output.status("stopping"):
                end_stack(stack, monitoring)

    def _start(self, stack: Stack, monitoring: Monitoring) -> None:
        # The monitoring beside the stack: Prometheus takes seconds to its first scrape.
        addresses = stack.reserve()
        monitoring.launch(
            target=self._target.address, gateway=str(addresses["gateway"]), intake=str(addresses["intake"])
        )
        stack.start()
        wait_until_ready(monitoring.services)

    def _settings(self, monitoring: Monitoring) -> dict[str, str]:
        people = f"json://{self._target.address}/notify"
        return {
            "APPROVAL_EXECUTORS": "http",
            "APPROVAL_HTTP_HOOKS_FILE": str(self._target.write_hooks(self._folder)),
            "APPROVAL_NOTIFY_URLS": people,
            "APPROVAL_NOTIFY_INTERVAL": "100ms",
            "APPROVAL_VERIFIER": "alertmanager",
            "APPROVAL_VERIFIER_URL": f"http://{monitoring.alertmanager}",
            "APPROVAL_VERIFIER_INTERVAL": "1s",
            "APPROVAL_VERIFIER_WINDOW": f"{_WINDOW_SECONDS}s",
            "APPROVAL_VERIFIER_SETTLE": f"{SETTLE_SECONDS}s",
            "INCIDENT_NOTIFY_URLS": people,
        }
