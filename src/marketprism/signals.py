"""The signals that ask us to end: what they do before there is anything to stop, and after.

While the collector runs it heeds them itself, in order (`stopping.py`). Imports nothing
that takes time: it is the first of ours to run.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType


def end_at_once(code: int, first: Callable[[], object] = lambda: None) -> None:
    """From now on a signal that asks us to end does so at once, with that exit code: there is
    nothing to take care of but what `first` does.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        # An exception could be raised anywhere in here, and swallowed or shown there.
        first()
        os._exit(code)

    for number in asking():
        signal.signal(number, end)
    if signal.SIGHUP not in asking():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def asking() -> tuple[signal.Signals, ...]:
    """Those that ask us to end. A hang-up does where there is a terminal that can, unless whoever
    started us (`nohup`) had it ignored; elsewhere it says nothing to us.
    """
    always = (signal.SIGTERM, signal.SIGINT)
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return always if ignored or not _has_terminal() else (*always, signal.SIGHUP)


def _has_terminal() -> bool:
    """Whether there is a terminal that controls us."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
