"""What was measured, as Markdown."""

from collections.abc import Sequence

from hostile.rounds import Round

_MIB = 1 << 20
_HEAD = "| attack | p50 ms | p99 ms | health p99 ms | NOT_SERVING | errors | memory +MiB | log KB/s | fault | what the attacker saw |"


def table(rounds: Sequence[Round]) -> str:
    """Return a row for each."""
    lines = [_HEAD, "|---|" + "---:|" * 7 + "---|---|", *map(_row, rounds)]
    return "\n".join(lines) + "\n"


def _row(measured: Round) -> str:
    seen = measured.seen
    checks = sorted(seen.check_latencies) or [0.0]
    errors = ", ".join(f"{count} {name}" for name, count in sorted(seen.errors.items())) or "0"
    cells = (
        measured.name,
        f"{seen.quantile(0.5) * 1000:.0f}",
        f"{seen.quantile(0.99) * 1000:.0f}",
        f"{checks[min(len(checks) - 1, int(0.99 * len(checks)))] * 1000:.0f}",
        str(seen.not_serving),
        errors,
        f"{measured.grown_bytes / _MIB:.0f}",
        f"{measured.log_bytes_per_second / 1000:.0f}",
        ", ".join(measured.faults) or "none",
        measured.said,
    )
    return "| " + " | ".join(cells) + " |"
