"""Steps that reset PCI functions by sysfs: one by a method, or all behind a bridge.  Nothing takes a reset back."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass

from pyvfio.abi import pci_regs as regs
from pyvfio.address import PciAddress
from pyvfio.binding.step import Step, journaled
from pyvfio.devices import PciFunction
from pyvfio.errors import NotAvailable, PyvfioError
from pyvfio.sysfs import Sysfs

__all__ = ["ResetBehind", "ResetPci"]

_NOBODY = 0xFFFF


def _function(sysfs: Sysfs, name: str) -> PciFunction:
    return PciFunction(sysfs, PciAddress.parse(name))


def _silent(function: PciFunction) -> str:
    """Why a function does not answer now; empty when it does.  A virtual one cannot say who it is."""
    if not function.exists:
        return f"{function.name} is not there any more"
    place = regs.PCI_COMMAND if function.sysfs.exists(f"{function.path}/physfn") else regs.PCI_VENDOR_ID
    data = function.sysfs.read_at(f"{function.path}/config", place, 2)
    if int.from_bytes(data, "little") == _NOBODY:
        return f"the configuration space of {function.name} reads as ones: it does not answer"
    return ""


class _Reset(Step):
    """What both have in common."""

    __slots__ = ()

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "nothing brings back what it knew"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`: there is nothing to undo."""
        return


@journaled("pci-reset")
@dataclass(frozen=True, slots=True)
class ResetPci(_Reset):
    """Reset function `name`; with `method` by that one alone, after which the methods are `before` again."""

    name: str
    method: str = ""
    before: str = ""

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"reset {self.name}" + (f" by {self.method} alone" if self.method else "")

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        path = f"/sys/bus/pci/devices/{self.name}"
        return (f"{path}/reset_method", f"{path}/reset") if self.method else (f"{path}/reset",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        function = _function(sysfs, self.name)
        chooses = bool(self.method) and self.method != self.before
        if chooses:
            self._choose(function)
        try:
            self._reset(function)
        finally:
            if chooses:
                with contextlib.suppress(PyvfioError):  # what the reset came to is more important
                    function.write("reset_method", self.before or "\n")

    def _reset(self, function: PciFunction) -> None:
        try:
            function.write("reset", "1")
        except PyvfioError as error:
            if error.errno != errno.ENOTTY:
                raise
            cause = "no method works now; by its bus a function is reset only while no other one is on that bus"
            next_step = f"pyvfio reset {self.name} --how subordinate resets all that is behind the same bridge"
            with contextlib.suppress(PyvfioError):
                if silent := _silent(function):
                    cause, next_step = silent, "see whether it is still there; remove and rescan find it again if it is"
            raise NotAvailable(
                f"reset by {self.method}" if self.method else "reset PCI function",
                self.name,
                path=self.paths[-1],
                errno=error.errno,
                cause=cause,
                next_step=next_step,
            ) from error

    def _choose(self, function: PciFunction) -> None:
        try:
            function.write("reset_method", self.method)
        except PyvfioError as error:
            if error.errno != errno.EINVAL:
                raise
            raise NotAvailable(
                f"reset by {self.method}",
                self.name,
                path=self.paths[0],
                errno=error.errno,
                cause=f"the function cannot be reset by {self.method}",
                next_step=f"methods in use: {self.before or 'none'}",
            ) from error

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`: no reset is taken back, but a run that was killed may have left `method` alone in use."""
        function = _function(sysfs, self.name)
        now = function.attribute("reset_method")
        if self.method and now is not None and now.split() != self.before.split():
            function.write("reset_method", self.before or "\n")

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        function = _function(sysfs, self.name)
        now = function.attribute("reset_method")
        if self.method and now is not None and now.split() != self.before.split():
            return f"its reset methods are {now or 'none'}, not {self.before} as before"
        return _silent(function)


@journaled("pci-reset-behind")
@dataclass(frozen=True, slots=True)
class ResetBehind(_Reset):
    """Reset everything behind a bridge, which are these `functions`."""

    bridge: str
    functions: tuple[str, ...]

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"reset the bus behind {self.bridge}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/pci/devices/{self.bridge}/reset_subordinate",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        sysfs.write_text(self.paths[0], "1")

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return next((why for name in self.functions if (why := _silent(_function(sysfs, name)))), "")
