"""A Standard Hot-Plug Controller as ``shpchp`` has it: its registers, its interrupt, and what ``ctrl`` shows.

Source: ``drivers/pci/hotplug/shpchp_{hpc,sysfs}.c`` (6.12).
"""

from __future__ import annotations

import errno

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.pci import shpc
from pyvfio.pci.shpc import Mask, SlotEvent
from pyvfio_backends.software.linux.irq_line import IrqAction, IrqLine
from pyvfio_backends.software.linux.kernel_log import ERROR, INFO, say
from pyvfio_backends.software.linux.pci_device import RESOURCES, PciDevice
from pyvfio_backends.software.linux.pci_hotplug import add_slot, remove_slot
from pyvfio_backends.software.linux.pcie_bus import PcieBus
from pyvfio_backends.software.linux.pcie_function import PcieFunction
from pyvfio_backends.software.linux.resource import ResourceFlag
from pyvfio_backends.software.linux.shpchp_slot import ShpcSlot
from pyvfio_backends.software.linux.vfs import Attribute, fail

__all__ = ["ShpcController"]

_EVENT_MASKS, _SYSTEM_MASKS = 0x1F << 24, 0x60 << 24
_RESERVED_SLOT, _RESERVED_MASKS = 1 << 15 | 7 << 21, 0xFFFC0000
_SPEEDS = {0: "33 MHz PCI", 1: "66 MHz PCI", 2: "66 MHz PCI-X", 3: "100 MHz PCI-X", 4: "133 MHz PCI-X"}
_UNKNOWN = "Unknown"


class ShpcController:
    """A controller: its registers, and a slot for each of them (``struct controller``)."""

    def __init__(self, device: PciDevice, function: PcieFunction, at: int, *, quiet: bool) -> None:
        self.device = device
        self.function = function
        self._line: IrqLine | None = None
        self._action: IrqAction | None = None
        count = self._indirect(at, shpc.CONFIGURATION // 4) & shpc.NUMBER_MASK
        for number in range(shpc.SLOTS // 4 + count):
            self._indirect(at, number)
        self._base = self._indirect(at, shpc.BASE_OFFSET)
        for number in range(shpc.SLOTS // 4 + count):  # the select register is left at the last one
            self._indirect(at, number)
        self.say(
            f"HPC vendor_id {device.vendor:x} device_id {device.device_id:x} "
            f"ss_vid {device.subsystem_vendor:x} ss_did {device.subsystem_device:x}"
        )
        device.enable()
        configuration = self.load(shpc.CONFIGURATION)
        self.first_device = configuration >> shpc.FIRST_DEVICE_SHIFT & shpc.NUMBER_MASK
        first, step = configuration >> shpc.PHYSICAL_SHIFT & shpc.PHYSICAL_MASK, 1 if configuration & shpc.UP else -1
        self._mask(Mask.INTERRUPTS | Mask.SYSTEM_ERRORS | Mask.COMMAND | Mask.ARBITER, 0)
        self.slots = [ShpcSlot(self, number, first + step * number) for number in range(count)]
        for slot in self.slots:
            self.mask_slot(slot, _EVENT_MASKS | _SYSTEM_MASKS, 0)
        self._connect()
        speed = self.load(shpc.SPEED) & shpc.SPEED_MASK
        self.speed = _SPEEDS.get(speed, _UNKNOWN)
        self.most_speed = _SPEEDS[0] if self.load(shpc.SLOTS_33) & shpc.NUMBER_MASK else _UNKNOWN
        for slot in self.slots:
            self.mask_slot(slot, 0, _EVENT_MASKS)
        self._mask(0, Mask.INTERRUPTS | Mask.COMMAND)
        for slot in self.slots:
            slot.name = add_slot(device.pci_bus, str(slot.number), slot, quiet=quiet)
        device.driver_files["ctrl"] = Attribute(self._show_resources)

    def _connect(self) -> None:
        """Have a message, or else the pin (``shpc_init``).

        Raise OSError ENODEV: nobody can take the message, or somebody does not want to share the pin's line.  The
        message is given back then, which the kernel forgets.
        """
        msi = self.device.msi
        try:
            msi.allocate(1, 1, msix=False)
        except OSError:
            self.say("Can't get msi for the hotplug controller")
            self.say("Use INTx for the hotplug controller")
            self._line = self.device.sysdata.irq_line()
            number = 0 if self._line is None else self._line.number
        else:
            self.device.set_master(True)
            number = msi.irqs[0]
        try:
            if msi.irqs:
                msi.request(0, self._interrupt, "shpchp")
            elif self._line is not None:
                self._action = self._line.request(self._pin, "shpchp")
        except OSError:
            self.say(f"Can't get irq {number} for the hotplug controller", ERROR)
            msi.driver_left()
            raise fail(errno.ENODEV) from None

    def _pin(self) -> bool:
        pending = bool(self.load(shpc.INTERRUPTS))
        self._interrupt()
        return pending

    def say(self, text: str, level: int = INFO) -> None:
        """Write to the log."""
        say(self.device, level, text)

    # registers

    def _indirect(self, at: int, number: int) -> int:
        self.device.write_config(at + shpc.DWORD_SELECT, 1, number)
        return self.device.read_config(at + shpc.DWORD_DATA, 4)

    def load(self, offset: int) -> int:
        """A register, as 32 bits."""
        return self.device.load_bar(0, self._base + offset, 4)

    def store(self, offset: int, value: int, length: int = 4) -> None:
        """Write one."""
        self.device.store_bar(0, self._base + offset, length, value)

    def _mask(self, set_: int, clear: int) -> None:
        self.store(shpc.MASKS, (self.load(shpc.MASKS) | set_) & ~clear & ~_RESERVED_MASKS)

    def mask_slot(self, slot: ShpcSlot, set_: int, clear: int) -> None:
        """Change what a slot may tell; what it told is cleared."""
        slot.write((slot.word | set_) & ~clear & ~_RESERVED_SLOT)

    def command(self, slot: ShpcSlot, code: int) -> None:
        """Give a command for a slot (``shpc_write_cmd``).  Raise OSError EIO when it is refused."""
        self.store(shpc.COMMAND, slot.index + 1 << 8 | code, 2)
        status = self.load(shpc.STATUS & ~3) >> 16 & 0xF
        if status:
            self.say(f"Failed to issued command {code:#x} (error code = {status >> 1})", ERROR)
            raise fail(errno.EIO)

    def stop(self) -> None:
        """Give all slots up (``shpchp_release_ctlr``)."""
        self.device.driver_files.pop("ctrl", None)
        for slot in self.slots:
            self.mask_slot(slot, _EVENT_MASKS | _SYSTEM_MASKS, 0)
            slot.cancel()
            remove_slot(self.device.pci_bus, slot.name)
        self._mask(Mask.INTERRUPTS | Mask.SYSTEM_ERRORS | Mask.COMMAND | Mask.ARBITER, 0)
        if self._line is not None and self._action is not None:
            self._line.free(self._action)

    def _show_resources(self) -> str:
        """``ctrl``: the windows of the bridge, and the bus numbers that it has left (``show_ctrl``)."""
        windows = self.device.resources[RESOURCES:]
        memory = [one for one in windows if one.flags & ResourceFlag.MEM]
        kinds = {
            "memory": [one for one in memory if not one.flags & ResourceFlag.PREFETCH],
            "prefetchable memory": [one for one in memory if one.flags & ResourceFlag.PREFETCH],
            "IO": [one for one in windows if one.flags & ResourceFlag.IO],
        }
        text = ""
        for kind, found in kinds.items():
            text += f"Free resources: {kind}\n"
            text += "".join(f"start = {one.start:08x}, length = {one.size:08x}\n" for one in found)
        text += "Free resources: bus numbers\n"
        below, last = self.function.subordinate, self.device.read_config(bridge_regs.PCI_SUBORDINATE_BUS, 1)
        taken = {below.number, *_numbers(below)} if below is not None else set()
        free = next((number for number in range(min(taken, default=last), last + 1) if number not in taken), last)
        return text + (f"start = {free:08x}, length = {last - free:08x}\n" if free < last else "")

    # interrupts (shpc_isr)

    def _interrupt(self) -> None:
        pending = self.load(shpc.INTERRUPTS)
        if not pending:
            return
        self._mask(Mask.INTERRUPTS, 0)
        if pending & 1:
            masks = self.load(shpc.MASKS)
            self.store(shpc.MASKS, masks & ~_RESERVED_MASKS | Mask.COMMAND_DETECTED)
        pressed = []
        for slot in self.slots:
            if pending >> slot.index + 1 & 1:
                word = slot.word
                if word >> 16 & SlotEvent.BUTTON:
                    pressed.append(slot)
                slot.write(word & ~_RESERVED_SLOT)
        self._mask(0, Mask.INTERRUPTS)
        for slot in pressed:
            self.say(f"Button pressed on Slot({slot.name})")
            slot.pressed()


def _numbers(bus: PcieBus) -> set[int]:
    """The numbers of the buses behind a bus."""
    return {one.subordinate.number for one in bus.walk() if one.subordinate is not None}
