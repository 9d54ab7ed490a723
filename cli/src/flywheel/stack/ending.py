"""Stops a stack at the end of a command."""

from flywheel.stack.stack import Stack
from flywheel.system.signals import StopSignal, ignore_stop_signals


def end_stack(stack: Stack) -> None:
    """Stop everything in order; a signal meanwhile kills the services, and later ones are ignored."""
    try:
        stack.stop()
    except StopSignal:
        ignore_stop_signals()
        stack.stop(grace_seconds=0.0)
