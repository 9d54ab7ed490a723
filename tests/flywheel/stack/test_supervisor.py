"""What ended is started again, ever later, and given up when it keeps ending."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flywheel.errors import FlywheelError
from flywheel.stack.supervisor import Supervisor


@dataclass
class Ending:
    """A part that ends whenever it is told to, or right after each start."""

    log_path: Path
    name: str = "incident"
    ended: bool = False
    keeps_ending: bool = False
    restarts: list[float] = field(default_factory=list)

    def how_it_ended(self) -> str | None:
        return "exit status 1" if self.ended else None

    def why_it_ended(self) -> str:
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
    """Let time pass in tenths of a second."""
    end = part.now + seconds
    while part.now < end:
        part.now = round(part.now + 0.1, 1)
        supervisor.check()


def test_what_runs_is_left_alone(part: Ending) -> None:
    said: list[str] = []
    watch(Supervisor([part], said.append, lambda: part.now), part, 10)
    assert (part.restarts, said) == ([], [])


def test_a_first_end_is_followed_by_a_restart_at_once(part: Ending) -> None:
    said: list[str] = []
    part.ended = True
    watch(Supervisor([part], said.append, lambda: part.now), part, 10)
    assert part.restarts == [0.1]
    assert said == ["incident ended (exit status 1); starting it again: the reason"]


def test_what_keeps_ending_is_restarted_ever_later_and_then_given_up_with_its_log(part: Ending) -> None:
    said: list[str] = []
    part.ended = part.keeps_ending = True
    with pytest.raises(FlywheelError, match="incident keeps ending") as caught:
        watch(Supervisor([part], said.append, lambda: part.now), part, 60)
    assert part.restarts == pytest.approx([0.1, 0.7, 1.8, 3.9, 8.0])
    assert "    the reason" in caught.value.details
    assert said[-1] == "incident ended (exit status 1); starting it again in 4.0 s: the reason"


def test_what_ends_now_and_then_is_never_given_up(part: Ending) -> None:
    supervisor = Supervisor([part], lambda _line: None, lambda: part.now)
    for _ in range(20):
        part.ended = True
        watch(supervisor, part, 15)
    assert len(part.restarts) == 20


def test_one_that_keeps_ending_does_not_keep_another_from_its_restart(part: Ending, tmp_path: Path) -> None:
    other = Ending(tmp_path / "approval.log", name="approval", ended=True)
    part.ended = part.keeps_ending = True
    with pytest.raises(FlywheelError):
        watch(Supervisor([part, other], lambda _line: None, lambda: part.now), part, 60)
    assert len(other.restarts) == 1


def test_what_was_stopped_on_purpose_while_waiting_for_its_restart_stays_stopped(part: Ending) -> None:
    supervisor = Supervisor([part], lambda _line: None, lambda: part.now)
    part.ended = part.keeps_ending = True
    watch(supervisor, part, 0.2)
    part.ended = False
    watch(supervisor, part, 10)
    assert len(part.restarts) == 1
