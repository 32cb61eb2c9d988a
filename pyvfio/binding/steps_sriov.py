"""Steps for SR-IOV: how many virtual functions there are, and whether drivers are sought for them.

The kernel goes from one number to another only by 0 (EBUSY, ``drivers/pci/iov.c``), and all virtual functions go with
that: whoever changes a number takes all of them away.
"""

from __future__ import annotations

import contextlib
import errno
import time
from dataclasses import dataclass

from pyvfio.address import PciAddress
from pyvfio.binding.facts import vfio_nodes
from pyvfio.binding.step import Step, journaled
from pyvfio.binding.steps import Bind, SetOverride, Unbind
from pyvfio.devices import PciFunction
from pyvfio.errors import NotAvailable, PyvfioError, Timeout
from pyvfio.pci.sriov import sriov, virtual_functions
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["SetAutoprobe", "SetNumber", "count", "driver_state", "restore_driver", "set_number", "why_not"]

_PATIENCE = 5.0
_LOOK_EVERY = 0.02
_NONE = "-"
VFIO_PARAMETER = "/sys/module/vfio_pci/parameters/enable_sriov"


def _function(sysfs: Sysfs, name: str) -> PciFunction:
    return PciFunction(sysfs, PciAddress.parse(name))


def why_not(function: PciFunction) -> tuple[str, str]:
    """Why the kernel will answer ENOENT to a new number (cause, next step); empty strings when nothing is seen."""
    driver = function.driver
    if driver is None:
        return "no driver has it, and a driver makes the virtual functions", f"pyvfio release {function}"
    if driver == "vfio-pci" and function.sysfs.attribute(VFIO_PARAMETER) == "N":
        return "vfio-pci makes virtual functions only with its parameter enable_sriov", f"echo Y > {VFIO_PARAMETER}"
    return "", ""


def driver_state(function: PciFunction) -> str:
    """Address, override and driver of a function, for `restore_driver`."""
    return f"{function.name} {function.override or _NONE} {function.driver or _NONE}"


def restore_driver(sysfs: Sysfs, state: str) -> None:
    """Give a function that has come again its override and its driver.  Raise `Timeout` when it does not come."""
    name, override, driver = state.split()
    function = _function(sysfs, name)
    deadline = time.monotonic() + _PATIENCE
    while not function.exists:
        if time.monotonic() >= deadline:
            raise Timeout("wait for the function", name, cause=f"it did not come back in {_PATIENCE:g} s")
        time.sleep(_LOOK_EVERY)
    wanted = None if driver == _NONE else driver
    now = function.driver
    if now is not None and now != wanted:
        Unbind("pci", name, now, None).do(sysfs)
    SetOverride("pci", name, None if override == _NONE else override, None).do(sysfs)
    if wanted is not None:
        Bind("pci", name, wanted).do(sysfs)


@journaled("sriov-number")
@dataclass(frozen=True, slots=True)
class SetNumber(Step):
    """Change ``sriov_numvfs`` of `name` from `before` to `number`; one of them is 0.

    `functions` are the virtual functions that go: ``address override driver``, ``-`` for none; the inverse gives them
    their overrides and drivers again.  `held` are the nodes for whose users the kernel may wait.
    """

    name: str
    number: int
    before: int
    functions: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """See `Step.text`."""
        if not self.number:
            return f"remove the {count(self.before)} of {self.name}"
        return f"make {count(self.number)} of {self.name}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return f"make {self.before} again" if self.before else "remove them"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/pci/devices/{self.name}/sriov_numvfs",)

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Step.nodes`."""
        return self.held

    def _write(self, sysfs: Sysfs, number: int) -> None:
        function = _function(sysfs, self.name)
        try:
            function.write("sriov_numvfs", str(number))
        except PyvfioError as error:
            if error.errno != errno.ENOENT:
                raise
            cause, step = why_not(function)
            raise NotAvailable(
                f"make {count(number)}",
                self.name,
                path=self.paths[0],
                errno=error.errno,
                cause=cause or f"driver {function.driver} does not make virtual functions",
                next_step=step,
            ) from error

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        self._write(sysfs, self.number)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = sriov(_function(sysfs, self.name))
        number = 0 if now is None else now.number
        return "" if number == self.number else f"it has {count(number)}, not {self.number}"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        now = sriov(_function(sysfs, self.name))
        number = 0 if now is None else now.number
        return "" if number == self.before else f"it has {count(number)}, not {self.before}"

    def takes_back(self, sysfs: Sysfs) -> list[SysfsDevice]:
        """See `Step.takes_back`."""
        function = _function(sysfs, self.name)
        now = sriov(function)
        return [] if now is None or now.number in (0, self.before) else list(virtual_functions(function).values())

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        now = sriov(_function(sysfs, self.name))
        if now is None:
            return
        if now.number != self.before:
            if now.number:
                self._write(sysfs, 0)
            if self.before:
                self._write(sysfs, self.before)
        for state in self.functions:  # also where the number is right: an undo may have been killed just before this
            restore_driver(sysfs, state)


def count(number: int) -> str:
    """``1 virtual function``, ``2 virtual functions``."""
    return f"{number} virtual function" + ("" if number == 1 else "s")


@journaled("sriov-autoprobe")
@dataclass(frozen=True, slots=True)
class SetAutoprobe(Step):
    """Let the kernel look for drivers for the virtual functions that come, or not."""

    name: str
    autoprobe: bool
    before: bool

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"{'seek' if self.autoprobe else 'seek no'} drivers for virtual functions of {self.name}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "seek them" if self.before else "seek none"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/pci/devices/{self.name}/sriov_drivers_autoprobe",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        _function(sysfs, self.name).write("sriov_drivers_autoprobe", str(int(self.autoprobe)))

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = sriov(_function(sysfs, self.name))
        return "" if now is not None and now.autoprobe == self.autoprobe else "sriov_drivers_autoprobe did not change"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        _function(sysfs, self.name).write("sriov_drivers_autoprobe", str(int(self.before)))


def set_number(function: PciFunction, number: int) -> list[Step]:
    """The steps from the number of now to `number`, by 0 if neither is 0; none when it is so already."""
    now = sriov(function)
    before = 0 if now is None else now.number
    steps: list[Step] = []
    if before == number:
        return steps
    if before:
        going = virtual_functions(function).values()
        nodes: list[str] = []
        for one in going:
            with contextlib.suppress(PyvfioError):
                nodes += vfio_nodes(one)
        steps.append(SetNumber(function.name, 0, before, tuple(map(driver_state, going)), tuple(nodes)))
    if number:
        steps.append(SetNumber(function.name, number, 0))
    return steps
