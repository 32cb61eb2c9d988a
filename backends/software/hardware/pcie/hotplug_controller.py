"""The Standard Hot-Plug Controller of a bridge to conventional PCI; its registers are in `pyvfio.pci.shpc`.

It is QEMU's: a slot for every device number but 0, each with a button, a sensor of its latch, and two indicators.  A
command is done at once.  A slot that is switched off, with its power indicator off, lets its card go for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pyvfio.abi import pci_regs as regs
from pyvfio.pci import shpc
from pyvfio.pci.shpc import Indicator, Mask, SlotEvent, SlotState, Status
from pyvfio_backends.software.hardware.pci.bar import Unmapped
from pyvfio_backends.software.hardware.pci.register import Capability, Register
from pyvfio_backends.software.hardware.pcie.bridge import Bridge

__all__ = ["HotPlugController", "HotPlugWindow"]

_DWORD = 0xFFFFFFFF
_MOST = 31
_FUNCTIONS = 8
_STATE, _POWER_SHIFT, _ATTENTION_SHIFT, _INDICATORS = 0x3, 2, 4, 0x3
_EMPTY = 0x3
_SLOT_COMMANDS, _SPEEDS = range(0x40), range(0x40, 0x48)
_EVENTS, _SERRS = 0x1F, 0x60
_VALID_SPEED = 0


@dataclass(frozen=True)
class HotPlugWindow(Capability):
    """The capability: which register, and its word."""

    id: ClassVar[int] = regs.PCI_CAP_ID_SHPC

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        yield Register(shpc.DWORD_SELECT, 2, rw=0xFF)
        yield Register(shpc.DWORD_DATA, 4, rw=_DWORD)


class HotPlugController:
    """The controller of `bridge`, whose capability is at `at` of configuration space (implements `Registers`)."""

    def __init__(self, bridge: Bridge, at: int, slots: int = _MOST) -> None:
        self.bridge = bridge
        self.count = slots
        self._data = bytearray(shpc.SLOTS + 4 * slots)
        self._at = bridge.add(HotPlugWindow(), at)
        self._asserted = False
        self._states: dict[int, SlotState] = {}
        bridge.config.watch(self._at + shpc.DWORD_SELECT, 2, self._selected)
        bridge.config.watch(self._at + shpc.DWORD_DATA, 4, self._written)
        self.reset()

    # registers

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        if offset + length > len(self._data):
            raise Unmapped
        self._show_cards()
        return int.from_bytes(self._data[offset : offset + length], "little")

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return offset + length <= len(self._data)

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`: a write to the command is one, too."""
        if offset + length > len(self._data):
            raise Unmapped
        for place in range(offset, offset + length):
            byte, value = value & 0xFF, value >> 8
            writable, clears = self._masks(place)
            self._data[place] = (self._data[place] & ~writable | byte & writable) & ~(byte & clears)
        if offset <= shpc.TARGET and offset + length > shpc.COMMAND:
            self._command()
        self._interrupt()

    def _masks(self, place: int) -> tuple[int, int]:
        """The bits of a byte that can be written, and those that a one clears."""
        if place >= shpc.SLOTS:
            return {2: (0, _EVENTS), 3: (_EVENTS | _SERRS, 0)}.get(place % 4, (0, 0))
        detected = (Mask.COMMAND_DETECTED | Mask.ARBITER_DETECTED) >> 16
        masks = Mask.INTERRUPTS | Mask.SYSTEM_ERRORS | Mask.COMMAND | Mask.ARBITER
        found = {
            shpc.COMMAND: (0xFF, 0),
            shpc.TARGET: (shpc.NUMBER_MASK, 0),
            shpc.MASKS: (int(masks), 0),
            shpc.MASKS + 2: (0, int(detected)),
        }
        return found.get(place, (0, 0))

    def reset(self) -> None:
        """See `Registers.reset`: slots with a card are on."""
        self._data[:] = bytes(len(self._data))
        self._put(shpc.SLOTS_33, 4, self.count)
        first = 1
        numbers = self.count | first << shpc.FIRST_DEVICE_SHIFT | first << shpc.PHYSICAL_SHIFT
        self._put(shpc.CONFIGURATION, 4, numbers | shpc.UP | shpc.SENSOR | shpc.BUTTON)
        self._put(shpc.MASKS, 4, Mask.INTERRUPTS | Mask.SYSTEM_ERRORS | Mask.COMMAND | Mask.ARBITER)
        self._put(shpc.INTERFACE, 1, 1)
        self._states = {}
        for slot in range(self.count):
            self._put(shpc.SLOTS + 4 * slot + 3, 1, _EVENTS | _SERRS)
        self._show_cards()
        self._interrupt()

    def _get(self, offset: int, length: int) -> int:
        return int.from_bytes(self._data[offset : offset + length], "little")

    def _put(self, offset: int, length: int, value: int) -> None:
        self._data[offset : offset + length] = value.to_bytes(length, "little")

    # slots

    def occupied(self, slot: int) -> bool:
        """Whether a slot (from 0) has a card: the device of that number and one."""
        return any(devfn // _FUNCTIONS == slot + 1 for devfn in self.bridge.secondary.functions)

    def _show_cards(self) -> None:
        """Presence and latches as they are; a slot that no command was for is on if it has a card."""
        for slot in range(self.count):
            there = self.occupied(slot)
            word = self._word(slot) & ~(_EMPTY << shpc.PRESENCE_SHIFT | shpc.SENSOR_OPEN)
            if slot not in self._states:
                state = SlotState.ENABLED if there else SlotState.DISABLED
                power = Indicator.ON if there else Indicator.OFF
                word = state | power << _POWER_SHIFT | Indicator.OFF << _ATTENTION_SHIFT
            word |= 0 if there else _EMPTY << shpc.PRESENCE_SHIFT | shpc.SENSOR_OPEN
            self._put(shpc.SLOTS + 4 * slot, 2, word)

    def _word(self, slot: int) -> int:
        return self._get(shpc.SLOTS + 4 * slot, 2)

    def press(self, slot: int) -> None:
        """Press the button of a slot (from 0)."""
        self._event(slot, SlotEvent.BUTTON)
        self._interrupt()

    def _event(self, slot: int, events: SlotEvent) -> None:
        self._data[shpc.SLOTS + 4 * slot + 2] |= events

    # commands

    def _command(self) -> None:
        code, status = self._data[shpc.COMMAND], Status(0)
        if code in _SLOT_COMMANDS:
            status = self._change(self._data[shpc.TARGET] - 1, code)
        elif code in _SPEEDS:
            if code & shpc.SPEED_MASK != _VALID_SPEED:
                status = Status.INVALID_SPEED
        elif code in (shpc.Command.POWER_ALL, shpc.Command.ENABLE_ALL):
            status = self._change_all(SlotState.POWER_ONLY if code == shpc.Command.POWER_ALL else SlotState.ENABLED)
        else:
            status = Status.INVALID_COMMAND
        self._put(shpc.STATUS, 2, status)
        self._put(shpc.MASKS, 4, self._get(shpc.MASKS, 4) | Mask.COMMAND_DETECTED)

    def _change_all(self, state: SlotState) -> Status:
        self._show_cards()
        words = [self._word(slot) for slot in range(self.count)]
        if any(word & _STATE == SlotState.ENABLED for word in words):
            return Status.INVALID_COMMAND
        for slot, word in enumerate(words):
            closed = not word & shpc.SENSOR_OPEN
            power = Indicator.ON if closed else Indicator.OFF
            self._change(slot, (state if closed else SlotState.KEEP) | power << _POWER_SHIFT)
        return Status(0)

    def _change(self, slot: int, code: int) -> Status:
        if not 0 <= slot < self.count:
            return Status.INVALID_COMMAND
        self._show_cards()
        word = self._word(slot)
        before, state = SlotState(word & _STATE), SlotState(code & _STATE)
        if before is SlotState.ENABLED and state is SlotState.POWER_ONLY:
            return Status.INVALID_COMMAND
        for shift in (_POWER_SHIFT, _ATTENTION_SHIFT):
            wanted = code >> shift & _INDICATORS
            if wanted != Indicator.KEEP:
                word = word & ~(_INDICATORS << shift) | wanted << shift
        if state is not SlotState.KEEP:
            word = word & ~_STATE | state
        self._states[slot] = SlotState(word & _STATE)
        self._put(shpc.SLOTS + 4 * slot, 2, word)
        off = before in (SlotState.ENABLED, SlotState.POWER_ONLY) and state is SlotState.DISABLED
        if off and word >> _POWER_SHIFT & _INDICATORS == Indicator.OFF:
            self._let_go(slot)
        return Status(0)

    def _let_go(self, slot: int) -> None:
        bus = self.bridge.secondary
        for function in [one for devfn, one in bus.functions.items() if devfn // _FUNCTIONS == slot + 1]:
            bus.unplug(function)
        self._event(slot, SlotEvent.SENSOR | SlotEvent.PRESENCE)

    # interrupts, and the window

    def _interrupt(self) -> None:
        masks = self._get(shpc.MASKS, 4)
        pending = int(bool(masks & Mask.COMMAND_DETECTED and not masks & Mask.COMMAND))
        for slot in range(self.count):
            at = shpc.SLOTS + 4 * slot
            if self._data[at + 2] & ~self._data[at + 3]:
                pending |= 1 << slot + 1
        self._put(shpc.INTERRUPTS, 4, pending)
        level = bool(pending) and not masks & Mask.INTERRUPTS
        rises, self._asserted = level and not self._asserted, level  # before anybody acts on it
        if not self.bridge.messages_on:
            self.bridge.set_intx(level)
        elif rises:
            self.bridge.signal(0)

    def _selected(self, before: int, ones: int) -> None:
        config = self.bridge.config
        try:
            value = self.read(4 * config.read(self._at + shpc.DWORD_SELECT, 1), 4)
        except Unmapped:
            value = 0
        config.put(self._at + shpc.DWORD_DATA, 4, value)

    def _written(self, before: int, ones: int) -> None:
        config = self.bridge.config
        try:
            self.write(4 * config.read(self._at + shpc.DWORD_SELECT, 1), 4, config.read(self._at + shpc.DWORD_DATA, 4))
        except Unmapped:
            return
        self._selected(0, 0)
