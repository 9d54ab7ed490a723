"""The soak's turns: quiet ones are spread over the run, and each call of a good client counts on the right side."""

from typing import Any

import pytest

from hostile import soak
from hostile.good import Seen

NAMES = ["1 one", "2 two", "3 three", "4 four"]


class Field:
    """Good clients of whom each turn sees one call: of 1 ms when it is quiet, of 3 ms beside attacks."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.good = self.stack = self

    def step(self, text: str) -> None:
        """Take note of a step."""
        self.steps.append(text)

    def take(self) -> Seen:
        """Return what was seen in the current turn."""
        return Seen(latencies=[0.001 if self.steps[-1:] == ["quiet"] else 0.003])

    def memory(self) -> dict[str, int]:
        """Return the memory of a service."""
        return {"incident": 1}

    async def attack(self, _name: str, *, seconds: float, scale: float) -> str:
        """Attack."""
        return f"{seconds} {scale}"


async def test_quiet_turns_alternate_with_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SETTLE_SECONDS", "_TURN_SECONDS", "_AFTER_SECONDS", "_RELEASE_SECONDS"):
        monkeypatch.setattr(soak, name, 0.001)
    field: Any = Field()

    result = await soak.run(field, NAMES, 0.2)

    turns = [step for step in field.steps if step != "release"]
    assert len(turns) > 4
    assert [number for number, step in enumerate(turns) if step == "quiet"] == list(range(0, len(turns), 4))
    assert field.steps[1:3] == ["1 one + 2 two", "3 three + 4 four"]
    assert set(result.quiet.latencies) == {0.001}
    assert set(result.hostile.latencies) == {0.003}
    assert result.ratio == pytest.approx(3)
    assert not result.holds
