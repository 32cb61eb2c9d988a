"""What the runner shows while it works: stages, elapsed time, one moving line on a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class StepFailed(Exception):
    """A step of the runner failed; the message says which, why, and what to do next."""


class Progress:
    """A printer of stages.

    On a terminal the running stage is one line, rewritten in place. Elsewhere (a log of continuous
    integration) it is a line when the stage starts, one every `interval` seconds, and one at its end.
    """

    def __init__(self, stream: TextIO | None = None, interval: float = 20.0) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._live = self._stream.isatty()
        self._interval = interval
        self._start = time.monotonic()
        self._open = ""
        self._shown = 0.0
        self.times: list[tuple[str, float]] = []

    def say(self, text: str) -> None:
        """Print one line of its own, above the moving one."""
        self._clear()
        print(text, file=self._stream, flush=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[str, float | None], None]]:
        """Time a stage; the value is `update(text, fraction)`, with fraction 0..1 or None if unknown."""
        began = time.monotonic()
        self._shown = began
        if not self._live:
            self.say(f"[{self._clock(began)}] {name} ...")

        def update(text: str, fraction: float | None = None) -> None:
            now = time.monotonic()
            if now - self._shown < (0.2 if self._live else self._interval):
                return
            self._shown = now
            share = "" if fraction is None else f"{min(fraction, 1.0):4.0%} "
            line = f"[{self._clock(now)}] {name}: {share}{text}"
            if self._live:
                self._clear()
                line = line[:118]
                self._stream.write(line)
                self._stream.flush()
                self._open = line
            else:
                self.say(line)

        try:
            yield update
        except BaseException:
            self.say(f"[{self._clock()}] {name}: FAILED after {time.monotonic() - began:.1f} s")
            raise
        took = time.monotonic() - began
        self.times.append((name, took))
        self.say(f"[{self._clock()}] {name}: done in {took:.1f} s")

    def _clock(self, now: float | None = None) -> str:
        seconds = int((time.monotonic() if now is None else now) - self._start)
        return f"{seconds // 60:3d}:{seconds % 60:02d}"

    def _clear(self) -> None:
        if self._open:
            self._stream.write("\r" + " " * len(self._open) + "\r")
            self._open = ""


def run(
    command: Sequence[str | Path],
    log: Path,
    what: str,
    on_line: Callable[[str], None] | None = None,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> None:
    """Run a command with its output appended to `log` and given line by line to `on_line`.

    Raise StepFailed with the last lines of the output if it exits with a status other than 0.
    """
    tail: deque[str] = deque(maxlen=25)
    with open(log, "a", encoding="utf-8") as out:
        print("$", *command, file=out, flush=True)
        with subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as child:
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    out.write(line)
                    tail.append(line.rstrip("\n"))
                    if on_line is not None:
                        on_line(line)
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)  # make's own children too
                raise
    if child.returncode:
        shown = "\n".join("    " + line for line in tail)
        raise StepFailed(f"{what} failed (exit status {child.returncode}); its last lines:\n{shown}")
