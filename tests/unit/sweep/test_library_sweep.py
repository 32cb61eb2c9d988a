"""Each call that binding makes fails in turn: the host ends in its old state or the wanted one; the error says which.

The machine is small, so that all of its ``/sys`` and ``/dev`` can be compared after each failure.
"""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator

import pytest
from rig import DEVICE, FUNCTION, Action, Rig, differences

from pyvfio import binding
from pyvfio.binding import virtual
from pyvfio.errors import PyvfioError, RollbackFailed, StepFailed
from pyvfio.host import Host

UUID = "66826a94-72c4-557f-beca-d135a70628e9"
PHYSICAL, VIRTUAL = "0033:00:00.0", "0033:00:00.1"
CODES = (errno.EIO, errno.ENODEV, errno.EBUSY, errno.EACCES)


def _nothing(host: Host) -> None:
    """The machine as it is booted."""


def _bind(host: Host) -> object:
    return binding.bind(host.function(FUNCTION))


def _bind_back(host: Host) -> object:
    return binding.bind(host.function(FUNCTION), "virtio-pci")


def _unbind(host: Host) -> object:
    return binding.unbind(host.function(FUNCTION))


def _release(host: Host) -> object:
    return binding.release(host.function(FUNCTION))


def _take(host: Host) -> object:
    return binding.ccw_take(host, DEVICE, uuid=UUID)


def _give_back(host: Host) -> object:
    return binding.ccw_give_back(host, DEVICE, online=True)


def _two(host: Host) -> object:
    return virtual.set_virtual_functions(host.function(PHYSICAL), 2, autoprobe=False)


def _one(host: Host) -> object:
    return virtual.set_virtual_functions(host.function(PHYSICAL), 1)


def _one_for_vfio(host: Host) -> None:
    _one(host)
    binding.bind(host.function(VIRTUAL))


def _none(host: Host) -> object:
    return virtual.set_virtual_functions(host.function(PHYSICAL), 0)


OPERATIONS: dict[str, tuple[Action, Action]] = {
    "bind": (_nothing, _bind),
    "bind_back": (_bind, _bind_back),
    "unbind": (_nothing, _unbind),
    "release": (_bind, _release),
    "ccw_take": (_nothing, _take),
    "ccw_give_back": (_take, _give_back),
    "one_of_two_functions": (_two, _one),
    "no_functions": (_one_for_vfio, _none),
}
"""What is done before, and what is done while calls fail."""


class Sweep:
    """One operation, again and again; a machine is made anew when one was changed."""

    def __init__(self, name: str) -> None:
        self.prepare, self.action = OPERATIONS[name]
        rig = Rig(self.prepare)
        self.log = rig.calls(self.action)
        self.wanted = rig.state()
        rig.close()
        self.rig = Rig(self.prepare)
        gc.collect()  # what earlier tests left is not this one's
        self.descriptors = len(os.listdir("/proc/self/fd"))

    def fail(self, number: int, code: int, times: int) -> PyvfioError | None:
        """Do it while calls `number` to `number` + `times` - 1 (-1: all from there on) fail; the error."""
        self.rig.faults.fail("*", code, nth=number, times=times)
        try:
            self.action(self.rig.host)
        except PyvfioError as error:
            return error
        finally:
            self.rig.faults.clear()
        return None

    def end(self) -> dict[str, str]:
        """The state that the operation left; the next one begins anew if it changed anything."""
        state = self.rig.state()
        assert len(os.listdir("/proc/self/fd")) == self.descriptors, "a descriptor was left open"
        self.journals = len(binding.records(self.rig.host.sysfs))
        if state != self.rig.before:
            self.rig.close()
            self.rig = Rig(self.prepare)
        return state


@pytest.fixture
def sweep(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    monkeypatch.setattr("pyvfio.binding.steps_online._PATIENCE", 1.0)  # nobody waits long for what cannot come
    made = Sweep(request.param)
    yield made
    made.rig.close()


@pytest.mark.parametrize("sweep", OPERATIONS, indirect=True)
def test_each_call_fails_once(sweep: Sweep) -> None:
    """One failure: an error and the old state, or no error and the wanted state."""
    assert len(sweep.log) > 10
    for number, (verb, path) in enumerate(sweep.log, 1):
        writes = verb in ("write", "close")
        for code in CODES if writes else CODES[number % len(CODES) :][:1]:
            before, words = sweep.rig.before, f"call {number}: {verb} {path} {errno.errorcode[code]}"
            error = sweep.fail(number, code, 1)
            state = sweep.end()
            assert not sweep.journals, words
            if error is None:
                assert not differences(state, sweep.wanted), words
                continue
            words += f" -> {type(error).__name__}: {error}"
            assert not isinstance(error, RollbackFailed), words
            assert not differences(state, before), words
            if isinstance(error, StepFailed):
                assert "as it was before" in error.host, words
            assert str(error), words


@pytest.mark.parametrize("sweep", OPERATIONS, indirect=True)
def test_all_calls_fail_from_one_on(sweep: Sweep) -> None:
    """No call helps any more: the old state and an error, or a rollback that says what is left to do."""
    for number, (verb, path) in enumerate(sweep.log, 1):
        code = CODES[number % len(CODES)]
        before, words = sweep.rig.before, f"from call {number} on: {verb} {path} {errno.errorcode[code]}"
        error = sweep.fail(number, code, -1)
        state = sweep.end()
        changed = differences(state, before)
        assert error is not None, words
        words += f" -> {type(error).__name__}: {error}"
        if changed:
            assert isinstance(error, RollbackFailed), (words, changed)
            assert "not undone" in error.cause, words
        elif isinstance(error, StepFailed):
            assert "as it was before" in error.host, words
