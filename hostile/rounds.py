"""One attack after the other: what each does to the services, and to good clients beside it."""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass

from hostile.field import Field
from hostile.good import Seen

_SAMPLE_SECONDS = 0.1
# Beyond what the services hold when nothing happens. Python keeps some of what it has used.
MEMORY_LIMIT_BYTES = 400 << 20


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how hard."""

    quiet_seconds: float
    attack_seconds: float
    recovery_seconds: float
    scale: float


SHORT = Effort(quiet_seconds=1.0, attack_seconds=1.0, recovery_seconds=0.5, scale=0.05)
FULL = Effort(quiet_seconds=10.0, attack_seconds=10.0, recovery_seconds=5.0, scale=1.0)


@dataclass(frozen=True, slots=True)
class Round:
    """What was measured of one attack."""

    name: str
    said: str
    seen: Seen
    # Of the service that grew most, over what it had before.
    grown_bytes: int
    log_bytes_per_second: float

    @property
    def faults(self) -> Sequence[str]:
        """What must not have happened."""
        faults = []
        if self.seen.not_serving:
            faults.append("NOT_SERVING")
        if self.grown_bytes > MEMORY_LIMIT_BYTES:
            faults.append("memory")
        if self.seen.errors:
            faults.append("errors")
        return faults


class Memory:
    """The most that each service held, sampled while the block runs."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self.before: Mapping[str, int] = field.stack.memory()
        self.peak = dict(self.before)

    async def sample(self) -> None:
        """Sample until cancelled."""
        while True:
            for name, size in self._field.stack.memory().items():
                self.peak[name] = max(self.peak[name], size)
            await asyncio.sleep(_SAMPLE_SECONDS)

    @property
    def grown(self) -> int:
        """What the service that grew most has grown by."""
        return max(self.peak[name] - self.before[name] for name in self.peak)


async def quiet(field: Field, effort: Effort) -> Round:
    """Measure good clients alone."""
    field.step("quiet")
    await asyncio.sleep(effort.recovery_seconds)
    return await _measured(field, "quiet", _nothing(effort.quiet_seconds), recovery_seconds=0.0)


async def attacked(field: Field, name: str, effort: Effort) -> Round:
    """Measure one attack, and the time after it."""
    field.step(name)
    attack = field.attack(name, seconds=effort.attack_seconds, scale=effort.scale)
    return await _measured(field, name, attack, recovery_seconds=effort.recovery_seconds)


async def _nothing(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return ""


async def _measured(field: Field, name: str, attack: Awaitable[str], *, recovery_seconds: float) -> Round:
    field.good.take()
    memory = Memory(field)
    sampling = asyncio.ensure_future(memory.sample())
    log_before, started = field.stack.log_bytes(), time.monotonic()
    try:
        said = await attack
        log_rate = (field.stack.log_bytes() - log_before) / (time.monotonic() - started)
        await asyncio.sleep(recovery_seconds)
    finally:
        sampling.cancel()
    return Round(name, said, field.good.take(), memory.grown, log_rate)
