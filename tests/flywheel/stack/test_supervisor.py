"""Restarts with backoff, and the error of a part that keeps ending."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flywheel.errors import FlywheelError
from flywheel.stack.supervisor import Supervisor


@dataclass
class Ending:
    """A part that ends on request, or right after each start."""

    log_path: Path
    name: str = "incident"
    ended: bool = False
    keeps_ending: bool = False
    failures: list[Exception] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)

    def exit_status(self) -> str | None:
        return "exit status 1" if self.ended else None

    def exit_reason(self) -> str:
        return self.log_path.read_text().strip() if self.log_path.exists() else ""

    def restart(self) -> None:
        self.restarts.append(self.now)
        self.now += self.restart_seconds
        if self.failures:
            raise self.failures.pop(0)
        self.ended = self.keeps_ending

    now: float = 0.0
    restart_seconds: float = 0.0


@pytest.fixture
def part(tmp_path: Path) -> Ending:
    log = tmp_path / "incident.log"
    log.write_text("the reason\n")
    return Ending(log)


def watch(supervisor: Supervisor, part: Ending, seconds: float) -> None:
    """Advance the clock in tenths of a second."""
    end = part.now + seconds
    while part.now < end:
        part.now = round(part.now + 0.1, 1)
        supervisor.check()


def test_a_running_part_is_not_restarted(part: Ending) -> None:
    logged: list[str] = []
    watch(Supervisor([part], logged.append, lambda: part.now), part, 10)
    assert (part.restarts, logged) == ([], [])


def test_the_first_restart_is_immediate(part: Ending) -> None:
    logged: list[str] = []
    part.ended = True
    watch(Supervisor([part], logged.append, lambda: part.now), part, 10)
    assert part.restarts == [0.1]
    assert logged == ["incident ended (exit status 1); starting it again: the reason"]


def test_restarts_back_off_and_finally_fail_with_the_log(part: Ending) -> None:
    logged: list[str] = []
    part.ended = part.keeps_ending = True
    with pytest.raises(FlywheelError, match="incident keeps ending") as caught:
        watch(Supervisor([part], logged.append, lambda: part.now), part, 60)
    assert part.restarts == pytest.approx([0.1, 0.7, 1.8, 3.9, 8.0])
    assert "    the reason" in caught.value.details
    assert logged[-1] == "incident ended (exit status 1); starting it again in 4.0 s: the reason"


def test_occasional_ends_never_exhaust_the_restarts(part: Ending) -> None:
    supervisor = Supervisor([part], lambda _line: None, lambda: part.now)
    for _ in range(20):
        part.ended = True
        watch(supervisor, part, 15)
    assert len(part.restarts) == 20


def test_backoff_of_one_part_does_not_delay_another(part: Ending, tmp_path: Path) -> None:
    other = Ending(tmp_path / "approval.log", name="approval", ended=True)
    part.ended = part.keeps_ending = True
    with pytest.raises(FlywheelError):
        watch(Supervisor([part, other], lambda _line: None, lambda: part.now), part, 60)
    assert len(other.restarts) == 1


def test_a_part_that_is_stopped_during_backoff_is_not_restarted(part: Ending) -> None:
    supervisor = Supervisor([part], lambda _line: None, lambda: part.now)
    part.ended = part.keeps_ending = True
    watch(supervisor, part, 0.2)
    part.ended = False
    watch(supervisor, part, 10)
    assert len(part.restarts) == 1


@pytest.mark.parametrize(
    "failure",
    [
        FlywheelError("PostgreSQL did not start"),
        OSError(28, "No space left on device"),
        subprocess.CalledProcessError(1, "sh"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failed_restart_is_repeated_with_backoff(part: Ending, failure: Exception) -> None:
    logged: list[str] = []
    part.ended = True
    part.failures = [failure] * 4
    watch(Supervisor([part], logged.append, lambda: part.now), part, 30)
    assert part.restarts == pytest.approx([0.1, 0.6, 1.6, 3.6, 7.6])
    assert not part.ended
    reason = failure.message if isinstance(failure, FlywheelError) else str(failure)
    assert logged[1] == f"incident ended (its restart failed); starting it again in 0.5 s: {reason}"


@pytest.mark.parametrize("seconds", [0.0, 65.0])
def test_restarts_that_keep_failing_finally_fail_with_the_log(part: Ending, seconds: float) -> None:
    part.ended, part.restart_seconds = True, seconds
    part.failures = [FlywheelError("PostgreSQL did not start")] * 100
    with pytest.raises(FlywheelError, match="incident keeps ending") as caught:
        watch(Supervisor([part], lambda _line: None, lambda: part.now), part, 1_000)
    assert len(part.restarts) == 5
    assert "    the reason" in caught.value.details
