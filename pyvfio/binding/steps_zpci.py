"""Steps for PCI functions of IBM Z: the power of their slots, recovery, resets, reports to the machine.

A function that loses its power, or recovers, loses its device, with its driver override; when the device is there again
it gets the override and the driver that it had.

Sources: ``drivers/pci/hotplug/s390_pci_hpc.c``, ``recover_store`` and ``report_error_write`` in
``arch/s390/pci/pci_sysfs.c``, ``reset_store`` in ``drivers/pci/pci-sysfs.c``.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass

from pyvfio.binding.step import Step, journaled
from pyvfio.binding.steps_sriov import restore_driver
from pyvfio.devices import PciFunction, device_named
from pyvfio.errors import KernelRefused, NotAvailable, PyvfioError
from pyvfio.refusal import refusal
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice
from pyvfio.zpci.known import SLOTS, device_with
from pyvfio.zpci.report import ErrorReport, ReportAction

__all__ = ["Recover", "Report", "ResetFunction", "SwitchSlot"]

_ALL_ONES = b"\xff" * 4


def _power(sysfs: Sysfs, fid: int) -> bool | None:
    text = sysfs.attribute(f"{SLOTS}/{fid:08x}/power")
    return None if text is None else text == "1"


def _answers(device: PciFunction) -> bool:
    return device.sysfs.read_bytes(f"{device.path}/config", len(_ALL_ONES)) != _ALL_ONES


@journaled("zpci-slot")
@dataclass(frozen=True, slots=True)
class SwitchSlot(Step):
    """Configure a function (``power`` of its slot) or give it back to standby; before, it was the other way.

    `state` is its address, override and driver (`steps_sriov.driver_state`), empty for one that has no device.  `held`
    are the nodes for whose users the kernel may wait.
    """

    fid: int
    on: bool
    state: str = ""
    held: tuple[str, ...] = ()

    @property
    def _name(self) -> str:
        return f"function {self.fid:08x}" + (f" ({self.state.split()[0]})" if self.state else "")

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"configure {self._name}" if self.on else f"deconfigure {self._name}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "deconfigure it" if self.on else "configure it, with its driver"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"{SLOTS}/{self.fid:08x}/power",)

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Step.nodes`."""
        return self.held

    def _write(self, sysfs: Sysfs, on: bool) -> None:
        try:
            sysfs.write_text(self.paths[0], str(int(on)))
        except PyvfioError as error:
            what = "configure" if on else "deconfigure"
            if error.errno == errno.EBUSY:
                cause, step = "it has virtual functions", "pyvfio sriov DEV 0 removes them"
            elif error.errno == errno.EIO:
                cause = f"it is not in the state for that any more, or the machine did not {what} it"
                step = "pyvfio zpci show says its state; the machine's console says who has it"
            else:
                raise
            raise KernelRefused(
                f"{what} PCI function",
                self._name,
                path=self.paths[0],
                errno=error.errno,
                cause=cause,
                next_step=step,
            ) from error

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        self._write(sysfs, self.on)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = _power(sysfs, self.fid)
        return "" if now == self.on else f"the slot's power is {'unknown' if now is None else int(now)}"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        now = _power(sysfs, self.fid)
        if now == (not self.on):
            return ""
        return "the slot is not there" if now is None else f"it is {'configured' if now else 'in standby'} already"

    def takes_back(self, sysfs: Sysfs) -> list[SysfsDevice]:
        """See `Step.takes_back`."""
        device = device_with(sysfs, self.fid) if self.on else None
        return [] if device is None or device.driver is None else [device]

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        if _power(sysfs, self.fid) != (not self.on):
            self._write(sysfs, not self.on)
        if self.state and not self.on:
            restore_driver(sysfs, self.state)


class _Reset(Step):
    """What resets have in common: nothing brings back what a function knew, but it gets its driver again."""

    __slots__ = ()
    state: str

    @property
    def _device(self) -> str:
        return self.state.split()[0]

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        driver = self.state.split()[2]
        return "nothing brings back what it knew" + ("" if driver == "-" else f"; it has {driver} again")

    def _function(self, sysfs: Sysfs) -> PciFunction:
        found = device_named(sysfs, "pci", self._device)
        if not isinstance(found, PciFunction):
            raise NotAvailable("reset PCI function", self._device, cause="it is no PCI function")
        return found

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        device = self._function(sysfs)
        wanted = self.state.split()[2]
        if not device.exists:
            return "the device did not come back"
        if (device.driver or "-") != wanted:
            return f"its driver is {device.driver or 'none'}, not {wanted}"
        return "" if _answers(device) else "its configuration space reads as ones: the function does not answer"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        if self._function(sysfs).exists:
            restore_driver(sysfs, self.state)


@journaled("zpci-recover")
@dataclass(frozen=True, slots=True)
class Recover(_Reset):
    """Take the device away, reset the function, find the device again; it gets override and driver of `state` again.

    `held` are the nodes for whose users the kernel may wait.
    """

    state: str
    held: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """See `Step.text`."""
        driver = self.state.split()[2]
        again = "" if driver == "-" else f", with {driver} again"
        return f"take {self._device} away, reset it and find it{again}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/pci/devices/{self._device}/recover",)

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Step.nodes`."""
        return self.held

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        sysfs.write_text(self.paths[0], "1")
        restore_driver(sysfs, self.state)


@journaled("zpci-reset")
@dataclass(frozen=True, slots=True)
class ResetFunction(_Reset):
    """Disable and enable the function below its driver, and bring its configuration space back (``reset``)."""

    state: str

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"reset {self._device} below its driver"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/pci/devices/{self._device}/reset",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        sysfs.write_text(self.paths[0], "1")


@journaled("zpci-report")
@dataclass(frozen=True, slots=True)
class Report(_Reset):
    """Report an error of the function to the machine, which does `action` (`ReportAction`).

    With `optional`, a machine that takes no reports is no failure.  After a reset by the machine Linux recovers the
    function, for at most `seconds`.
    """

    state: str
    action: int
    optional: bool = False
    seconds: int = 30

    @property
    def text(self) -> str:
        """See `Step.text`."""
        words = {
            ReportAction.RESET: f"have the machine reset {self._device}, and report an error of it",
            ReportAction.REPAIR: f"have the machine take {self._device} away for repair",
        }
        return words.get(ReportAction(self.action), f"report an error of {self._device} to the machine") + (
            ", if it takes reports" if self.optional else ""
        )

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        if self.action == ReportAction.RESET:
            return "take the device away and find it again, if it does not answer"
        return "nothing takes a report back"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/pci/devices/{self._device}/report_error",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        data = ErrorReport(ReportAction(self.action), int(time.time())).to_bytes()
        backend = sysfs.backend
        try:
            fd = backend.open(self.paths[0], os.O_WRONLY | os.O_CLOEXEC)
            try:
                backend.write(fd, data)
            finally:
                backend.close(fd)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise refusal(backend, error, "report an error", path=self.paths[0]) from error
            if not self.optional:
                raise NotAvailable(
                    "report an error to the machine",
                    self._device,
                    path=self.paths[0],
                    errno=error.errno,
                    cause="this machine takes no reports of adapter errors (a guest's does not)",
                    next_step="pyvfio zpci reset --how recover resets it without the machine's help",
                ) from error

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        if self.action != ReportAction.RESET:
            return ""
        deadline = time.monotonic() + self.seconds
        while (problem := super(Report, self).verify(sysfs)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return problem

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        device = self._function(sysfs)
        if self.action == ReportAction.RESET and device.exists and not _answers(device):
            Recover(self.state).do(sysfs)
