"""Stops a stack, and what runs beside it, at the end of a command."""

from typing import Protocol

from flywheel.stack.stack import Stack
from flywheel.system.signals import StopSignal, ignore_stop_signals


class Client(Protocol):
    """Something that uses the stack."""

    def stop(self, grace_seconds: float | None = None) -> None:
        """Stop it; kill what takes longer than `grace_seconds`. After an interruption it can be called again and continues."""


def end_stack(stack: Stack, *clients: Client) -> None:
    """Stop everything in order, clients first; a signal meanwhile kills all of it, and later ones are ignored."""
    parts: tuple[Client, ...] = (*clients, stack)
    try:
        for part in parts:
            part.stop()
    except StopSignal:
        ignore_stop_signals()
        for part in parts:
            part.stop(grace_seconds=0.0)
