"""A slot of a Standard Hot-Plug Controller: its files, its power and its button.

Source: ``drivers/pci/hotplug/shpchp_{core,ctrl}.c`` (6.12).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from pyvfio.pci import shpc
from pyvfio.pci.shpc import Indicator, SlotState
from pyvfio_backends.software.linux.pci_host import HotplugSlot
from pyvfio_backends.software.linux.pci_hotplug import simple_byte
from pyvfio_backends.software.linux.vfs import Attribute, Directory, StaticDirectory, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.shpchp_controller import ShpcController

__all__ = ["ShpcSlot"]

_BLINKING = 5.0
_FUNCTIONS = 8
_POWER_SHIFT, _ATTENTION_SHIFT, _BITS = 2, 4, 0x3
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


class ShpcSlot(HotplugSlot):
    """A slot: `index` in the registers, `number` for people, `name` of its directory."""

    def __init__(self, controller: ShpcController, index: int, number: int) -> None:
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
