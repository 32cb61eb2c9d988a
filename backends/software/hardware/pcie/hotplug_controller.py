"""The standard hot-plug controller (SHPC) of a bridge to conventional PCI: a slot for each device number behind it.

Its capability shows one of the working registers at a time, all of them are behind BAR 0::

    00 | data | pend. | select | next | id=0c |    00 base offset      04, 08 slots by speed
    04 | the register that is selected        |    0c | U| physical | first device | slots |
                                                   10 | interface | messages | bus speed |
    slot register (24 and on, 4 bytes each)        14 | status | command |   20 masks
    | masks | events | speeds | present(2) | 66 | latch | button | fault | attention(2) | power(2) | state(2) |

A slot that is taken is enabled with its power indicator on; an empty one is disabled, and its latch open.  Source: PCI
Standard Hot-Plug Controller and Subsystem Specification 1.0; what an empty slot shows is as QEMU 10.0 has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.pci_config import ConfigSpace
from pyvfio_backends.software.hardware.pci_register import Capability, Register

__all__ = ["CAPABILITY", "SLOTS", "HotplugController", "HotplugControllerCapability"]

SLOTS: Final = 31
"""Device numbers 1 to 31: 0 is the bridge's own."""
_SELECT, _DATA = 2, 4
_SLOTS_AT_33, _CONFIG, _SPEED, _COMMAND, _MASKS, _FIRST = 0x04, 0x0C, 0x10, 0x14, 0x20, 0x24
_UP, _LATCHES, _BUTTONS = 1 << 29, 1 << 30, 1 << 31
_PHYSICAL_SHIFT, _DEVICE_SHIFT = 16, 8
_ENABLED, _DISABLED = 2, 3
_POWER_ON, _POWER_OFF, _ATTENTION_OFF = 1 << 2, 3 << 2, 3 << 4
_LATCH_OPEN, _EMPTY, _SEVEN_WATTS = 1 << 8, 3 << 10, 2 << 10
_ALL_MASKED: Final = 0x7F << 24
_WRITABLE: Final = 0x7F << 24
_ONE: Final = 1 << 24


@dataclass(frozen=True)
class HotplugControllerCapability(Capability):
    """The capability: which register is selected, and its content."""

    id: ClassVar[int] = regs.PCI_CAP_ID_SHPC

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        yield Register(_SELECT, 1, rw=0xFF)
        yield Register(3, 1)
        yield Register(_DATA, 4)


CAPABILITY: Final = HotplugControllerCapability()


class HotplugController:
    """The working registers (implements `Registers`); `occupied` says whether a device number is taken."""

    def __init__(self, occupied: Callable[[int], bool]) -> None:
        self._occupied = occupied
        self._masks = [_ALL_MASKED] * SLOTS
        self._global = 0x0F

    def show_in(self, config: ConfigSpace, at: int) -> None:
        """Show the selected register in the capability at `at`."""

        def read() -> None:
            config.data[at + _DATA : at + _DATA + 4] = self._register(4 * config.data[at + _SELECT]).to_bytes(
                4, "little"
            )

        config.refresh = read
        config.live = (at + _DATA, at + _DATA + 4)

    def _register(self, offset: int) -> int:
        if offset == _SLOTS_AT_33:
            return SLOTS
        if offset == _CONFIG:
            return SLOTS | 1 << _DEVICE_SHIFT | 1 << _PHYSICAL_SHIFT | _UP | _LATCHES | _BUTTONS
        if offset == _SPEED:
            return _ONE  # programming interface 1; conventional PCI, 33 MHz
        if offset == _MASKS:
            return self._global
        number = (offset - _FIRST) // 4
        return self._slot(number) if 0 <= number < SLOTS else 0

    def _slot(self, number: int) -> int:
        if self._occupied(number + 1):
            return self._masks[number] | _SEVEN_WATTS | _ATTENTION_OFF | _POWER_ON | _ENABLED
        return self._masks[number] | _EMPTY | _LATCH_OPEN | _ATTENTION_OFF | _POWER_OFF | _DISABLED

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        word = self._register(offset & ~3)
        return word >> 8 * (offset & 3) & (1 << 8 * length) - 1

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return offset % length == 0

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`.  Commands are not modelled."""
        if offset == _MASKS:
            self._global = value & 0x0F
        elif offset >= _FIRST and length == 4 and (offset - _FIRST) // 4 < SLOTS:
            self._masks[(offset - _FIRST) // 4] = value & _WRITABLE
        elif offset == _COMMAND:
            raise NotModelled("commands of the hot-plug controller of a bridge to conventional PCI")

    def reset(self) -> None:
        """See `Registers.reset`."""
        self._masks = [_ALL_MASKED] * SLOTS
        self._global = 0x0F
