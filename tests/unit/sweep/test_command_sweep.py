"""Each call that a command makes fails in turn with each errno, and hangs: the host ends as it was or as it was wanted,
and the message says which.

The calls are all that cross the seam from the command's start to its end: planning, probes, journal, steps.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
from rig import DEVICE, FUNCTION, Rig, differences

from pyvfio import binding
from pyvfio.binding.patience import Patience, Pending
from pyvfio.host import Host
from pyvfio_backends.software.faults import Hang
from pyvfio_tools import options
from pyvfio_tools.cli import run

UUID = "66826a94-72c4-557f-beca-d135a70628e9"
CODES = (errno.EIO, errno.ENODEV, errno.EBUSY, errno.EACCES)
HANG = 0
"""Not an errno: the call does not come back until it is let go."""
IN_TURN = -1
"""One of the errnos for each call, the next for the next."""
ALL = os.environ.get("PYVFIO_SWEEP") == "all"
"""Every call with every errno, as `make sweep` does; else every third call, with one errno and as a hang."""
STRIDE = 1 if ALL else 3


def _name(code: int) -> str:
    return {HANG: "hang", IN_TURN: "in-turn"}.get(code) or errno.errorcode[code]


PHYSICAL = "0033:00:00.0"
BIND = ["bind", FUNCTION]
TAKE = ["ccw", "take", DEVICE, "--uuid", UUID]
TYPE = "vfio_ccw-io"
DEFINE = ["mdev", "define", UUID, "--parent", "0.0.0005", "--type", TYPE]
COMMANDS: dict[str, tuple[list[list[str]], list[str]]] = {
    "bind": ([], BIND),
    "bind two": ([], ["bind", FUNCTION, "0022:00:00.0"]),
    "bind back": ([BIND], ["bind", FUNCTION, "--to", "virtio-pci"]),
    "unbind": ([], ["unbind", FUNCTION]),
    "sriov": ([], ["sriov", PHYSICAL, "2", "--no-autoprobe"]),
    "grant": ([BIND], ["grant", FUNCTION, "--user", "1000", "--iommu", "--install"]),
    "define": ([], ["define", FUNCTION]),
    "define again": ([["define", FUNCTION]], ["define", FUNCTION, "--to", "none"]),
    "undefine": ([["define", FUNCTION]], ["undefine", FUNCTION]),
    "apply": ([["define", FUNCTION]], ["apply", FUNCTION]),
    "apply mdev": ([TAKE, DEFINE, ["mdev", "remove", UUID]], ["apply", UUID]),
    "mdev create": ([TAKE, ["mdev", "remove", UUID]], ["mdev", "create", "--auto", TYPE, "--uuid", UUID]),
    "mdev remove": ([TAKE], ["mdev", "remove", UUID]),
    "mdev define": ([], DEFINE),
    "mdev modify": ([DEFINE], ["mdev", "modify", UUID, "--start", "auto", "--attr", "a=1"]),
    "mdev undefine": ([DEFINE], ["mdev", "undefine", UUID]),
    "install-units": ([], ["install-units", "--program", "/usr/bin/pyvfio"]),
    "release": ([BIND], ["release", FUNCTION]),
    "ccw take": ([], TAKE),
    "chccwdev": ([], ["chccwdev", "-d", "-a", "erplog=1", DEVICE]),
    "chchp": ([], ["chchp", "-v", "0", "--force=mounted", "0.00"]),
    "zpci disable": ([], ["zpci", "disable", FUNCTION]),
    "zpci disable taken": ([BIND], ["zpci", "disable", "fid=10"]),
    "zpci enable": ([["zpci", "disable", FUNCTION]], ["zpci", "enable", "10"]),
    "zpci reset": ([BIND], ["zpci", "reset", FUNCTION]),
    "ccw give-back": ([TAKE], ["ccw", "give-back", DEVICE, "--online"]),
}
"""What is done before, and the command whose calls fail."""


class Sweep:
    """One command, again and again; a machine is made anew when one was changed."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before, self.command = COMMANDS[name]
        monkeypatch.setattr(options, "open_host", lambda *words: Host(self.rig.backend))
        self.rig = Rig(self._prepare)
        log = self.rig.faults.log = []
        assert run(self.command) == 0
        self.rig.faults.log = None
        self.calls = list(log)
        self.wanted = self.rig.state()
        self.renew()
        self.counts: Counter[str] = Counter()

    def _prepare(self, host: Host) -> None:
        self.rig = getattr(self, "rig", None) or _Booting(host)  # type: ignore[assignment]
        for command in self.before:
            saved, self.rig = self.rig, _Booting(host)  # type: ignore[assignment]
            assert run(command) == 0
            self.rig = saved

    def renew(self) -> None:
        """A machine in the state of before."""
        self.rig.close()
        self.rig = Rig(self._prepare)

    def fail(self, number: int, code: int) -> int:
        """Run the command while call `number` fails or hangs; its exit code."""
        faults = self.rig.faults
        if code != HANG:
            faults.fail("*", code, nth=number)
            try:
                return run(self.command)
            finally:
                faults.clear()
        hang = faults.hang("*", nth=number)
        try:
            with _deadline_of(hang):
                return run(self.command)
        finally:
            hang.release()
            faults.clear()


@contextlib.contextmanager
def _deadline_of(hang: Hang) -> Iterator[None]:
    """Let the deadline of the call that hangs pass at once, and that of no other, however busy this computer is."""
    hung: list[Pending] = []

    def give_up(patience: Patience, pending: Pending) -> None:
        while not pending.done.wait(0.0002):
            if hang.entered.is_set() and hung in ([], [pending]):
                hung[:] = [pending]
                if patience.on_wait is not None:
                    patience.on_wait(pending)
                raise TimeoutError(errno.ETIMEDOUT, "", pending.path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Patience, "_await", give_up)
        yield


class _Booting:
    """Stands for the rig while it is being made."""

    def __init__(self, host: Host) -> None:
        self.backend = host.backend

    def close(self) -> None:
        """Nothing to close yet."""


@pytest.fixture
def sweep(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    monkeypatch.setattr("pyvfio.binding.steps_online._PATIENCE", 1.0)  # nobody waits long for what cannot come
    made = Sweep(request.param, monkeypatch)
    yield made
    made.rig.close()


def _settled() -> None:
    """Wait until the calls that hung have come back."""
    limit = time.monotonic() + 10
    while any(thread.name == "pyvfio-call" for thread in threading.enumerate()):
        assert time.monotonic() < limit, "a call never came back"
        time.sleep(0.001)


@pytest.mark.parametrize("code", [*CODES, HANG] if ALL else [IN_TURN, HANG], ids=_name)
@pytest.mark.parametrize("sweep", COMMANDS, indirect=True)
def test_each_call_of_each_command(sweep: Sweep, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """One failure: an error and the old state, or none and the wanted state; a journal is left only after a hang."""
    capsys.readouterr()
    assert len(sweep.calls) > 20
    for number, (verb, path) in islice(enumerate(sweep.calls, 1), 0, None, STRIDE):
        now = CODES[number % len(CODES)] if code == IN_TURN else code
        words = f"call {number}: {verb} {path} {_name(now)}"
        status = sweep.fail(number, now)
        captured = capsys.readouterr()
        words += f" -> exit {status}: {captured.err}"
        _settled()
        host, state = sweep.rig.host, sweep.rig.state()
        left = binding.records(host.sysfs)
        if status == 0:
            assert not differences(state, sweep.wanted), words
            assert not left, words
            sweep.counts["finished"] += 1
        elif status == 9 and left:
            assert code == HANG, words
            assert "the kernel will still carry out this write" in captured.err, words
            for record in left:
                binding.restore(host.sysfs, record)
            assert not differences(sweep.rig.state(), sweep.rig.before), words
            sweep.counts["as before, after pyvfio restore"] += 1
        else:
            assert not differences(state, sweep.rig.before), words
            assert not left, words
            assert "nothing was changed" in captured.err or "as it was before" in captured.err, words
            assert status not in (1, 11), words
            sweep.counts["as before"] += 1
        if state != sweep.rig.before:
            sweep.renew()
            capsys.readouterr()
    with capsys.disabled():
        counts = ", ".join(f"{count} {what}" for what, count in sorted(sweep.counts.items()))
        tried = f"{sweep.counts.total()} of {len(sweep.calls)} calls ({_name(code)})"
        print(f"\n  {' '.join(sweep.command)}: {tried}: {counts}", end="")
