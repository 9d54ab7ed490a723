"""The soak: hostile clients of many kinds together for a long time, with good clients beside, against quiet times in between.

Quiet turns are spread over the whole run, so that both sides have the same share of the other load of the machine.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hostile.field import Field
from hostile.good import Seen

# Of the counts that an attack has alone: several run together, on a machine that they share with the services.
SCALE = 0.1
_TURN_SECONDS = 10.0
# A quiet turn before every third one with attacks.
_QUIET_EVERY = 3
# What an attack leaves behind counts as its own.
_AFTER_SECONDS = 2.0
_TOGETHER = 2
_SETTLE_SECONDS = 5.0
# Beyond the write timeout of the services: answers that attackers left unread are given up, and the memory is free again.
_RELEASE_SECONDS = 40.0
_MIB = 1 << 20
# Of memory, between the first turns of all attacks and the end: Python and PostgreSQL's driver keep some of what they used.
_FLAT_BYTES = 64 * _MIB
_LATENCY_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class SoakResult:
    """What was measured."""

    seconds: float
    attacks: Mapping[str, int]
    quiet: Seen
    hostile: Seen
    # Of the turns in which each attack took part.
    by_attack: Mapping[str, Seen]
    memory_start: Mapping[str, int]
    memory_settled: Mapping[str, int]
    memory_end: Mapping[str, int]

    @property
    def ratio(self) -> float:
        """The p99 of good clients beside hostile ones, over that without."""
        return self.hostile.quantile(0.99) / max(self.quiet.quantile(0.99), 1e-9)

    @property
    def growth(self) -> int:
        """What the service that grew most has grown by since all attacks had a turn."""
        return max(self.memory_end[name] - self.memory_settled[name] for name in self.memory_end)

    @property
    def holds(self) -> bool:
        """Whether memory stayed flat, good clients were served as before, and every service was SERVING."""
        return self.growth <= _FLAT_BYTES and self.ratio <= _LATENCY_RATIO and not self.hostile.not_serving

    def _by_attack(self) -> str:
        worst = sorted(self.by_attack.items(), key=lambda item: item[1].quantile(0.99), reverse=True)
        return ", ".join(
            f"{name} {seen.quantile(0.99) * 1000:.0f} ({self.attacks[name]})" for name, seen in worst
        )

    def markdown(self) -> str:
        """Return it as a table."""
        rows: list[tuple[str, ...]] = [("", "quiet", "hostile")]
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            rows.append(
                (
                    f"{name} of good clients, ms",
                    *(f"{seen.quantile(share) * 1000:.1f}" for seen in (self.quiet, self.hostile)),
                )
            )
        rows.append(
            ("calls of good clients", str(len(self.quiet.latencies)), str(len(self.hostile.latencies)))
        )
        rows.append(("their errors", _counts(self.quiet.errors), _counts(self.hostile.errors)))
        rows.append(("NOT_SERVING", str(self.quiet.not_serving), str(self.hostile.not_serving)))
        lines = ["| " + " | ".join(cells) + " |" for cells in rows]
        lines.insert(1, "|---|---:|---:|")
        memory = ", ".join(
            f"{name} {self.memory_start[name] // _MIB} → {self.memory_settled[name] // _MIB} → {size // _MIB}"
            for name, size in self.memory_end.items()
        )
        lines += [
            "",
            f"{self.seconds / 60:.1f} minutes. p99 ratio {self.ratio:.2f} (at most {_LATENCY_RATIO:g}).",
            f"Memory, MiB (start → every attack had a turn → end): {memory}.",
            f"Grown by {self.growth / _MIB:.0f} MiB since every attack had a turn (at most {_FLAT_BYTES // _MIB}).",
            f"p99 of good clients by attack, with others beside it, ms (turns): {self._by_attack()}.",
            "It holds." if self.holds else "It does not hold.",
        ]
        return "\n".join(lines) + "\n"


async def run(field: Field, names: Sequence[str], seconds: float) -> SoakResult:
    """Run the attacks in random order, several at a time, with quiet turns in between."""
    started = time.monotonic()
    memory_start = field.stack.memory()
    # Connections, caches and the allocator settle, so that both sides are measured on the same process.
    await asyncio.sleep(_SETTLE_SECONDS)
    field.good.take()
    quiet = Seen()
    hostile: dict[str, Seen] = {name: Seen() for name in names}
    together = Seen()
    attacks: Counter[str] = Counter()
    turns = itertools.chain(names, _shuffled(names))
    until = started + seconds
    settled: dict[str, int] = {}
    for number in itertools.count():
        if number % _QUIET_EVERY == 0:
            field.step("quiet")
            await asyncio.sleep(min(_TURN_SECONDS, seconds / 4))
            quiet.add(field.good.take())
        left = until - time.monotonic()
        if left <= 0:
            break
        turn = list(itertools.islice(turns, _TOGETHER))
        field.step(" + ".join(turn))
        turn_seconds = min(_TURN_SECONDS, max(1.0, left))
        await asyncio.gather(*(field.attack(name, seconds=turn_seconds, scale=SCALE) for name in turn))
        await asyncio.sleep(_AFTER_SECONDS)
        seen = field.good.take()
        together.add(seen)
        for name in turn:
            attacks[name] += 1
            hostile[name].add(seen)
        if not settled and all(attacks[name] for name in names):
            settled.update(await _released_memory(field))
            field.good.take()
    memory_end = await _released_memory(field)
    return SoakResult(
        time.monotonic() - started,
        attacks,
        quiet,
        together,
        hostile,
        memory_start,
        settled or memory_end,
        memory_end,
    )


async def _released_memory(field: Field) -> Mapping[str, int]:
    field.step("release")
    await asyncio.sleep(_RELEASE_SECONDS)
    return field.stack.memory()


def _shuffled(names: Sequence[str]) -> "itertools.chain[str]":
    def rounds() -> "itertools.chain[str]":
        return itertools.chain.from_iterable(
            random.sample(list(names), len(names)) for _ in itertools.count()
        )

    return rounds()


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "0"
