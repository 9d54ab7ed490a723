"""A signal to `flywheel demo` ends it, and nothing that it started stays."""

import signal
from pathlib import Path

import pytest

from tests.flywheel.demo.monitoring_stand_in import monitoring_stand_in
from tests.flywheel.demo.running_demo import nothing_is_left, running_demo, started_in
from tests.flywheel.stack.running_stack import TIMEOUT_SECONDS, eventually, stand_ins

_STACK = {"incident", "approval"}


@pytest.mark.parametrize(
    ("number", "alerts"), [(signal.SIGINT, False), (signal.SIGTERM, True), (signal.SIGHUP, True)]
)
def test_a_signal_during_the_start_stops_everything(
    tmp_path: Path, number: signal.Signals, alerts: bool
) -> None:
    temporary = tmp_path / "tmp"
    arguments = ["--alerts", *monitoring_stand_in(tmp_path)] if alerts else []
    environment = {**stand_ins(tmp_path), "STAND_IN_APPROVAL": "never_ready"}
    with running_demo(temporary, arguments, environment) as process:
        eventually(lambda: started_in(temporary).keys() >= _STACK)
        started = started_in(temporary)
        process.send_signal(number)
        out, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, out) == (128 + number, "")
    programs = [each for name, each in started.items() if name.isdecimal()]
    assert len(programs) >= 2 * alerts
    assert nothing_is_left(temporary, started)
