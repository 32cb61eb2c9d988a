"""Another program in the foreground of this one's terminal."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from types import FrameType

__all__ = ["run_program"]

_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""What the terminal sends to both; it is meant for the other program."""
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)
_KILLED = 128


def run_program(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program `words` with this process's descriptors, and return its status: 128 and more for a signal.

    Meanwhile Ctrl-C is the program's, and SIGTERM and SIGHUP are passed on to it.  Raise OSError when it cannot be
    started.
    """
    process = subprocess.Popen(list(words), env=dict(environment), close_fds=False)

    def leave(number: int, frame: FrameType | None) -> None:
        """A handler, and not SIG_IGN, which the program would inherit."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        return _status(process)
    before = {number: signal.signal(number, leave) for number in _TERMINAL}
    before |= {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        return _status(process)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(process: subprocess.Popen[bytes]) -> int:
    status = process.wait()
    return status if status >= 0 else _KILLED - status
