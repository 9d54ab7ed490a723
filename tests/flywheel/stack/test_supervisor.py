"""Restarts with backoff, and the error of a part that keeps ending."""

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
    restarts: list[float] = field(default_factory=list)

    def exit_status(self) -> str | None:
        return "exit status 1" if self.ended else None

    def exit_reason(self) -> str:
        return self.log_path.read_text().strip() if self.log_path.exists() else ""

    def restart(self) -> None:
        self.ended = self.keeps_ending
        self.restarts.append(self.now)

    now: float = 0.0


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
