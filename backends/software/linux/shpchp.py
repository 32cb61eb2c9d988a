"""``shpchp``: hot-plug of conventional PCI by a Standard Hot-Plug Controller.

Source: ``drivers/pci/hotplug/shpchp_{core,ctrl,hpc,pci}.c`` (6.12).

It holds the bridge that has the controller, and says nothing about DMA: it keeps all behind the bridge from programs.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from enum import Enum

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.pci import shpc
from pyvfio.pci.shpc import Indicator, Mask, SlotEvent, SlotState
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.irq_line import IrqAction, IrqLine
from pyvfio_backends.software.linux.kernel_log import ERROR, INFO, say
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pci_device import RESOURCES, PciDevice
from pyvfio_backends.software.linux.pci_driver import ANY, PciDriver, PciId
from pyvfio_backends.software.linux.pci_host import HotplugSlot
from pyvfio_backends.software.linux.pci_hotplug import add_slot, remove_slot, simple_byte
from pyvfio_backends.software.linux.pcie_bus import PcieBus
from pyvfio_backends.software.linux.pcie_function import PcieFunction
from pyvfio_backends.software.linux.resource import ResourceFlag
from pyvfio_backends.software.linux.vfs import Attribute, Directory, StaticDirectory, fail

__all__ = ["ShpcSlot", "ShpchpDriver"]

_BRIDGE_CLASS = 0x060400
_BLINKING = 5.0
_FUNCTIONS = 8
_POWER_SHIFT, _ATTENTION_SHIFT, _BITS = 2, 4, 0x3
_EVENT_MASKS, _SYSTEM_MASKS = 0x1F << 24, 0x60 << 24
_RESERVED_SLOT, _RESERVED_MASKS = 1 << 15 | 7 << 21, 0xFFFC0000
_SPEEDS = {0: "33 MHz PCI", 1: "66 MHz PCI", 2: "66 MHz PCI-X", 3: "100 MHz PCI-X", 4: "133 MHz PCI-X"}
_UNKNOWN = "Unknown"
_POWER = {SlotState.POWER_ONLY: 2, SlotState.ENABLED: 1, SlotState.DISABLED: 0}
_ATTENTION = {Indicator.ON: 1, Indicator.BLINK: 2, Indicator.OFF: 0}
_OTHER = 0xFF


class _Phase(Enum):
    """``slot->state``."""

    STATIC = 0
    BLINKING_ON = 1
    BLINKING_OFF = 2
    POWERING_ON = 3
    POWERING_OFF = 4


class ShpchpDriver(PciDriver):
    """The driver; it knows every bridge, and takes those with the capability."""

    table = (PciId(class_code=_BRIDGE_CLASS, class_mask=ANY),)

    def __init__(self, bus: PciBus) -> None:
        super().__init__(bus, "shpchp")
        self.controllers: dict[PciDevice, _Controller] = {}

    def probe(self, device: Device) -> None:
        """See `Driver.probe`.  Raise OSError ENODEV for a bridge without a controller."""
        self._take(device, quiet=False)

    def _take(self, device: Device, *, quiet: bool) -> None:
        function = device.sysdata if isinstance(device, PciDevice) else None
        at = device.find_capability(regs.PCI_CAP_ID_SHPC) if isinstance(device, PciDevice) else 0
        if not isinstance(device, PciDevice) or not isinstance(function, PcieFunction) or not at:
            raise fail(errno.ENODEV)
        if function.subordinate is None:
            raise fail(errno.ENODEV)
        self.controllers[device] = _Controller(device, function, at, quiet=quiet)

    def boot(self, devices: Sequence[PciDevice]) -> None:
        """Hold those of the devices that it knows, as after boot, without events."""
        for device in devices:
            if device.driver is None and self.bus.match(device, self) and device.find_capability(regs.PCI_CAP_ID_SHPC):
                device.driver = self
                self.devices[device.name] = device
                self._take(device, quiet=True)

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, PciDevice):
            self.controllers.pop(device).stop()
            device.msi.driver_left()
            device.disable()


class _Controller:
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
        """Have a message, or else the pin (``shpc_init``)."""
        msi = self.device.msi
        try:
            msi.allocate(1, 1, msix=False)
            msi.request(0, self._interrupt, "shpchp")
        except OSError:
            self.say("Can't get msi for the hotplug controller")
            self.say("Use INTx for the hotplug controller")
            self._line = self.device.sysdata.irq_line()
            if self._line is not None:
                self._action = self._line.request(self._pin, "shpchp")
            return
        self.device.set_master(True)

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


class ShpcSlot(HotplugSlot):
    """A slot: `index` in the registers, `number` for people, `name` of its directory."""

    def __init__(self, controller: _Controller, index: int, number: int) -> None:
        self.controller = controller
        self.index = index
        self.number = number
        self.name = ""
        self.device_number = controller.first_device + index
        self.phase = _Phase.STATIC
        self._press = 0

    @property
    def word(self) -> int:
        """Its register."""
        return self.controller.load(shpc.SLOTS + 4 * self.index)

    def write(self, word: int) -> None:
        """Write its register."""
        self.controller.store(shpc.SLOTS + 4 * self.index, word)

    @property
    def power(self) -> int:
        """0: off, 1: on, 2: power only."""
        return _POWER.get(SlotState(self.word & _BITS), _OTHER)

    @property
    def attention(self) -> int:
        """The indicator; 0: off, 1: on, 2: blinking."""
        return _ATTENTION.get(Indicator(self.word >> _ATTENTION_SHIFT & _BITS), _OTHER)

    @property
    def latch(self) -> int:
        """1: open."""
        return int(bool(self.word & shpc.SENSOR_OPEN))

    @property
    def adapter(self) -> int:
        """1: there is a card."""
        return int(self.word >> shpc.PRESENCE_SHIFT & _BITS != _BITS)

    def directory(self) -> Directory:
        """See `HotplugSlot.directory`."""
        controller = self.controller
        bus = controller.function.subordinate
        place = f"{controller.function.bridge.domain:04x}:{bus.number if bus is not None else 0:02x}"
        return StaticDirectory(
            {
                "address": Attribute(lambda: f"{place}:{self.device_number:02x}\n"),
                "adapter": Attribute(lambda: f"{self.adapter}\n"),
                "attention": Attribute(lambda: f"{self.attention}\n", self._store_attention),
                "cur_bus_speed": Attribute(lambda: f"{controller.speed}\n"),
                "latch": Attribute(lambda: f"{self.latch}\n"),
                "max_bus_speed": Attribute(lambda: f"{controller.most_speed}\n"),
                "power": Attribute(lambda: f"{self.power}\n", self._store_power),
            }
        )

    def _store_attention(self, data: bytes) -> None:
        codes = {0: Indicator.OFF, 1: Indicator.ON, 2: Indicator.BLINK}
        value = simple_byte(data)
        if value in codes:
            self._indicate(_ATTENTION_SHIFT, codes[value])

    def _indicate(self, shift: int, indicator: Indicator) -> None:
        """Set an indicator; that the controller refuses is only in the log."""
        try:
            self.controller.command(self, indicator << shift)
        except OSError:
            return

    # power (shpchp_sysfs_enable_slot, shpchp_sysfs_disable_slot)

    def _store_power(self, data: bytes) -> None:
        value = simple_byte(data)
        if value not in (0, 1):
            raise fail(errno.EINVAL)
        going = (_Phase.BLINKING_ON, _Phase.POWERING_ON), (_Phase.BLINKING_OFF, _Phase.POWERING_OFF)
        waiting, busy = going[0] if value else going[1]
        if self.phase not in (_Phase.STATIC, waiting):
            word = "enabled" if value else "disabled"
            text = f"Slot {self.name} is already in powering {'on' if value else 'off'} state"
            self.controller.say(text if self.phase is busy else f"Already {word} on slot {self.name}")
            raise fail(errno.ENODEV)
        self.cancel()
        self._run(busy, self._enable if value else self._disable)

    def _run(self, phase: _Phase, work: Callable[[], None]) -> None:
        self.phase = phase
        try:
            work()
        finally:
            self.phase = _Phase.STATIC

    def _ready(self, *, on: bool) -> None:
        """Raise OSError ENODEV unless there is a card in a closed slot that is not as wanted already."""
        cause = ""
        if not self.adapter:
            cause = f"No adapter on slot({self.name})"
        elif self.latch:
            cause = f"Latch open on slot({self.name})"
        elif bool(self.power) == on:
            cause = f"Already {'enabled' if on else 'disabled'} on slot({self.name})"
        if cause:
            self.controller.say(cause)
            raise fail(errno.ENODEV)

    def _enable(self) -> None:
        """``board_added``."""
        self._ready(on=True)
        controller, bus = self.controller, self.controller.function.subordinate
        controller.command(self, SlotState.POWER_ONLY)
        dark = Indicator.OFF << _ATTENTION_SHIFT
        controller.command(self, SlotState.ENABLED | Indicator.BLINK << _POWER_SHIFT | dark)
        if bus is not None:
            with controller.device.pci_bus.rescan_remove():
                bus.rescan()
        self._indicate(_POWER_SHIFT, Indicator.ON)

    def _disable(self) -> None:
        """``remove_board``: may block until its users let the device go."""
        self._ready(on=False)
        controller, bus = self.controller, self.controller.function.subordinate
        if bus is not None:
            with controller.device.pci_bus.rescan_remove():
                for device in reversed(bus.devices()):
                    if device.devfn // _FUNCTIONS == self.device_number:
                        controller.device.pci_bus.remove_device(device)
        off = SlotState.DISABLED | Indicator.OFF << _POWER_SHIFT | Indicator.ON << _ATTENTION_SHIFT
        controller.command(self, off)
        self._indicate(_ATTENTION_SHIFT, Indicator.OFF)

    # the button (handle_button_press_event)

    def cancel(self) -> None:
        """Whatever the button began is not done."""
        self._press += 1

    def pressed(self) -> None:
        """The button: five seconds later the slot is switched, unless it is pressed again."""
        controller = self.controller
        head = f"PCI slot #{self.name} -"
        if self.phase is _Phase.STATIC:
            on = bool(self.power)
            self.phase = _Phase.BLINKING_OFF if on else _Phase.BLINKING_ON
            controller.say(f"{head} powering {'off' if on else 'on'} due to button press")
            self._indicate(_POWER_SHIFT, Indicator.BLINK)
            self._indicate(_ATTENTION_SHIFT, Indicator.OFF)
            self._press += 1
            press = self._press
            controller.device.kernel.clock.schedule(_BLINKING, lambda: self._over(press))
        elif self.phase in (_Phase.BLINKING_ON, _Phase.BLINKING_OFF):
            controller.say(f"Button cancel on Slot({self.name})")
            self.cancel()
            was_on = self.phase is _Phase.BLINKING_OFF
            self._indicate(_POWER_SHIFT, Indicator.ON if was_on else Indicator.OFF)
            self._indicate(_ATTENTION_SHIFT, Indicator.OFF)
            controller.say(f"{head} action canceled due to button press")
            self.phase = _Phase.STATIC
        else:
            controller.say(f"Button ignore on Slot({self.name})")

    def _over(self, press: int) -> None:
        if press != self._press:
            return
        on = self.phase is _Phase.BLINKING_ON

        def work() -> None:
            try:
                self._run(_Phase.POWERING_ON if on else _Phase.POWERING_OFF, self._enable if on else self._disable)
            except OSError:
                if on:
                    self._indicate(_POWER_SHIFT, Indicator.OFF)

        self.controller.device.kernel.clock.run_apart(work, f"shpchp-{self.number}")
