"""Steps for slots of PCI Express ports: power, and the attention button of a software machine.

A card that loses its power loses its functions, with their driver overrides; when they are there again they get the
overrides and the drivers that they had.  Sources: ``drivers/pci/hotplug/pciehp_ctrl.c``, ``pci_hotplug_core.c``, 6.12.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from pyvfio.backend import beyond
from pyvfio.binding.step import Step, journaled
from pyvfio.binding.steps_sriov import restore_driver
from pyvfio.errors import KernelRefused, NotAvailable, PyvfioError
from pyvfio.pci.slot import SLOTS, Slot
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["PressButton", "SwitchPower"]

_CAUSES = {
    errno.ENODEV: "the slot is not in the state for that any more, or it is empty",
    errno.EPERM: "the link of the card did not come up",
    errno.EIO: "the power controller of the slot found a fault",
}


@journaled("pci-slot-power")
@dataclass(frozen=True, slots=True)
class SwitchPower(Step):
    """Switch the slot called `name` on or off (``power``); before, it was the other way.

    `states` are address, override and driver (`steps_sriov.driver_state`) of the functions that go.  `held` are the
    nodes for whose users the kernel may wait.
    """

    name: str
    on: bool
    states: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """See `Step.text`."""
        going = ", ".join(state.split()[0] for state in self.states)
        return f"switch slot {self.name} {'on' if self.on else 'off'}" + (f", with {going}" if going else "")

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        drivers = ", and give its functions their drivers" if self.states else ""
        return "switch it off" if self.on else f"switch it on{drivers}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"{SLOTS}/{self.name}/power",)

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Step.nodes`."""
        return self.held

    def _write(self, sysfs: Sysfs, on: bool) -> None:
        try:
            Slot(sysfs, self.name).set_power(on)
        except PyvfioError as error:
            cause = _CAUSES.get(error.errno or 0)
            if cause is None:
                raise
            raise KernelRefused(
                f"switch slot {'on' if on else 'off'}",
                self.name,
                path=self.paths[0],
                errno=error.errno,
                cause=cause,
                next_step="pyvfio slot list shows its state, and the kernel's log what happened to it",
            ) from error

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        self._write(sysfs, self.on)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = Slot(sysfs, self.name).power
        return "" if now == self.on else f"the slot's power is {'unknown' if now is None else int(now)}"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        now = Slot(sysfs, self.name).power
        if now == (not self.on):
            return ""
        return "the slot is not there" if now is None else f"it is {'on' if now else 'off'} already"

    def takes_back(self, sysfs: Sysfs) -> list[SysfsDevice]:
        """See `Step.takes_back`."""
        return [one for one in Slot(sysfs, self.name).functions() if one.driver is not None] if self.on else []

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        if Slot(sysfs, self.name).power != (not self.on):
            self._write(sysfs, not self.on)
        for state in self.states if not self.on else ():
            restore_driver(sysfs, state)


@journaled("pci-slot-button")
@dataclass(frozen=True, slots=True)
class PressButton(Step):
    """Press the attention button of the slot called `name`, below the port with the address `port`."""

    name: str
    port: str

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"press the attention button of slot {self.name}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "nothing: it can be pressed again, within 5 s"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return ()

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        press = beyond(sysfs.backend, "press_button")
        if press is None:
            raise NotAvailable("press attention button", self.name, cause="a host has no call that does")
        press(self.port)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return ""

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
