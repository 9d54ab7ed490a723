"""The signals that end a command, as an exception: what the command started is stopped on the way out."""

import signal
from types import FrameType
from typing import NoReturn

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal(BaseException):
    """A signal ends the command. Like KeyboardInterrupt it is no Exception."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def raise_stop_signals(*, once: bool = False) -> None:
    """Raise StopSignal in the main thread at each Ctrl-C, SIGTERM and SIGHUP.

    With `once` the later ones are ignored, so that they cannot interrupt the clean-up.
    """

    def raise_it(number: int, _frame: FrameType | None) -> NoReturn:
        if once:
            ignore_stop_signals()
        raise StopSignal(number)

    for number in _STOP_SIGNALS:
        # nohup ignores SIGHUP, so that the command outlives its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, raise_it)


def ignore_stop_signals() -> None:
    """Ignore them from now on."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def wait_for_signal() -> NoReturn:
    """Do nothing until a signal ends the command."""
    while True:
        signal.pause()
