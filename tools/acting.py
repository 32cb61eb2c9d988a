"""What commands that change a host share: they show their plan, refuse what is in use, act, and say how it ended."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import click

from pyvfio.binding import Event, Phase, Plan, Progress, run
from pyvfio.binding.journal import DIRECTORY
from pyvfio.binding.patience import Patience
from pyvfio.binding.running import DEADLINE
from pyvfio.errors import UNTOUCHED, DeviceInUse, PyvfioError, from_oserror
from pyvfio.host import Host
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.progress import show_plan, watcher

__all__ = ["PLANNING", "Acting", "acting_options", "force_option", "journal_directory", "terminated"]

PLANNING = "pyvfio.planning"
"""Set in the meta data of click's context by ``pyvfio plan``: nothing is done."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MACHINE = "pyvfio_backends.software."
_PAUSE, _TRIES = 0.01, 100
"""Seconds until a signal that came inside a call of a software machine is looked at again, and how often."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def journal_directory() -> str:
    """Where journals are kept.  Raise `click.UsageError` for a directory that is not named from the root."""
    directory = os.environ.get("PYVFIO_JOURNAL") or DIRECTORY
    if not directory.startswith("/"):
        raise click.UsageError(f"PYVFIO_JOURNAL={directory!r} is not an absolute path")
    return directory


def _inside_machine(frame: FrameType | None) -> bool:
    """Whether this process is in a call of a software machine: a signal must not tear it, nor does it a kernel's."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_MACHINE):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def terminated(rolling_back: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does, so that a rollback follows; it is not interrupted itself.

    A rollback waits for the kernel no longer than its deadlines, and half of it would be worse than either end.
    """
    stopped = False
    waiting: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped or rolling_back():
            return
        if _inside_machine(frame) and len(waiting) < _TRIES:
            again = threading.Timer(_PAUSE, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            waiting.append(again)
            return
        stopped = True
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for again in waiting:
            again.cancel()
            again.join()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _though_nobody_reads() -> Iterator[None]:
    """Carry on when the reader of the output has gone (``pyvfio bind ... | head -1``).

    What shall be done is done all the same, and what is refused still ends with the exit code that says so.
    """
    try:
        yield
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # the interpreter flushes it at the end  # noqa: SIM115


@dataclass(slots=True)
class Acting:
    """How a command acts: `dry_run` (nothing is done), `force` (probes overridden), `deadline` and `wait` (seconds)."""

    host: Host
    as_json: bool
    dry_run: bool
    force: tuple[str, ...]
    deadline: float
    wait: float | None
    begun: bool = False
    failed: bool = False
    done: bool = False

    def carry_out(self, plan: Plan, *, journaled: bool = True, **more: object) -> bool:
        """Show `plan` and do it; with ``--json`` print it as one document, with `more` keys.

        Whether something was done is returned.  Raise what `run` raises.
        """
        with _though_nobody_reads():
            if not self.as_json:
                show_plan(plan, self.force)
            elif self.dry_run:
                print_json({**plan.as_dict(), "done": False, **more})
        try:
            plan.refuse(self.force)
        except DeviceInUse as error:
            if not self.as_json:  # the evidence stands in the plan above
                error.cause = "\n         ".join(f"{one.device}: {one.probe}: {one.summary}" for one in error.findings)
            raise
        self.do(plan, journaled=journaled)
        if self.as_json and not self.dry_run:
            print_json({**plan.as_dict(), "done": True, **more})
        if not self.dry_run and not self.as_json and plan.steps:
            with contextlib.suppress(OSError), _though_nobody_reads():  # it is done: a full disk does not undo it
                click.echo(click.style("done", fg="green") + f": {plan.title}")
        return not self.dry_run and bool(plan.steps)

    def do(self, plan: Plan, *, journaled: bool = True, quiet: bool = False, progress: Progress | None = None) -> None:
        """Do `plan`, unless nothing shall be done, with `progress` (default: lines as usual) unless `quiet`.

        Raise what `run` raises.

        Without a journal (for another file system than the host's) a killed run cannot be undone.
        """
        if self.dry_run:
            return
        self.failed = False
        watch = watcher(self.as_json or quiet or progress is not None, self.begin)

        def tell(event: Event) -> None:
            self.failed = self.failed or event.phase is Phase.FAILED
            watch(event)
            if progress is not None:
                progress(event)

        with terminated(lambda: self.failed):
            run(
                plan,
                tell,
                force=self.force,
                journal=journal_directory() if journaled else None,
                deadline=self.deadline,
                wait=self.wait,
            )
        self.done = self.done or bool(plan.steps)

    def begin(self) -> None:
        """A step was begun."""
        self.begun = True


def _probes(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The names in ``--force``."""
    if value is None:
        return ()
    from pyvfio.binding.probes import PROBES

    names = tuple(name.strip() for name in value.split(",") if name.strip())
    unknown = [name for name in names if name not in PROBES]
    if not names or unknown:
        what = "--force alone is refused" if not names else f"there is no probe {unknown[0]!r}"
        raise click.BadParameter(f"{what}: name what is overridden, as in --force=mounted,swap ({', '.join(PROBES)})")
    return names


def _complete_probes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from pyvfio.binding.probes import PROBES

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in PROBES if name.startswith(last)]


def _finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not 0 < value <= threading.TIMEOUT_MAX:
        raise click.BadParameter(f"{value:g} is no number of seconds that can be waited; --wait waits for ever")
    return value


def force_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--force=PROBE[,PROBE]``: `force`, the names of probes."""
    return click.option(
        "--force",
        metavar="PROBE[,PROBE]",
        is_flag=False,
        flag_value="",
        default=None,
        callback=_probes,
        shell_complete=_complete_probes,
        help="Act although these in-use probes found something.",
    )(function)


def acting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a host and of acting; the function gets `host` and `acting`.

    An error that comes before the first step says that nothing was changed.
    """

    @click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
    @force_option
    @click.option(
        "--deadline",
        type=click.FloatRange(min=0, min_open=True),
        default=DEADLINE,
        show_default=True,
        metavar="SECONDS",
        callback=_finite,
        help="How long the kernel may take for one write; then those who hold the device are named.",
    )
    @click.option(
        "--wait",
        is_flag=True,
        help="After the deadline, wait on until they let go, instead of giving up and undoing.",
    )
    @host_options
    @functools.wraps(function)
    def wrapped(
        *args: Any,
        host: Host,
        as_json: bool,
        dry_run: bool,
        force: tuple[str, ...],
        deadline: float,
        wait: bool,
        **kwargs: Any,
    ) -> Any:
        planning = click.get_current_context().meta.get(PLANNING, False)
        acting = Acting(host, as_json, dry_run or planning, force, deadline, None if wait else 0.0)
        try:
            with Patience(host.backend, deadline) as patience:  # reading may wait in the kernel, too
                return function(*args, host=Host(patience), acting=acting, **kwargs)
        except PyvfioError as error:
            if not acting.begun and not error.host:
                error.host = UNTOUCHED
            raise
        except OSError as error:
            if error.errno not in _FULL:
                raise
            failure = from_oserror(error, "write the output", "standard output", cause="not all of it was written")
            failure.host = "what was asked for is done" if acting.done else UNTOUCHED
            raise failure from error

    return wrapped
