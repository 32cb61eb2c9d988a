"""``pciehp``: native hot-plug of PCI Express (``drivers/pci/hotplug/pciehp_{ctrl,core,pci}.c``, 6.12, and the interrupt
handlers of ``pciehp_hpc.c``).

::

                        button                    5 s, or a card came
              +--> BLINKINGON ------------------------+
              |        | button                       v
    OFF ------+<-------+   power 1, card, link --> POWERON --> ON
     ^                                              | no link, fault, latch open      | button
     +----------------------------------------------+                                 v
     +--------- POWEROFF <------- 5 s, power 0, card or link gone ------------ BLINKINGOFF
                                                                               (button: ON)

The interrupt handler collects events; the thread that it wakes works them off, one set after the other.  It sleeps and
it waits until whoever uses a function lets it go: meanwhile events stay pending, and the state is POWEROFF.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from enum import Enum
from typing import TYPE_CHECKING

from pyvfio.abi import pci_express_regs as express
from pyvfio_backends.software.linux.kernel_log import ERROR, INFO, say
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_hotplug import add_slot, remove_slot
from pyvfio_backends.software.linux.pciehp_board import Board
from pyvfio_backends.software.linux.pciehp_port import EVENTS, HotplugPort, Sleeps
from pyvfio_backends.software.linux.pciehp_slot import PciehpSlot
from pyvfio_backends.software.linux.pciehp_thread import Result, SlotThread, Steps
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_bus import PcieBus

__all__ = ["Controller", "SlotPhase"]

_DISABLE = 1 << 16
"""An event that no slot reports: the slot is to be switched off (``DISABLE_SLOT``)."""
_BLINKING = 5.0
_CONTAINMENT, _POLL = 4.0, 0.01
"""Seconds: how long a button press can be taken back; how long containment is waited for, and how often."""
_PRESENCE, _LINK = express.PCI_EXP_SLTSTA_PDC, express.PCI_EXP_SLTSTA_DLLSC
_ON, _OFF, _BLINK = (
    express.PCI_EXP_SLTCTL_PWR_IND_ON,
    express.PCI_EXP_SLTCTL_PWR_IND_OFF,
    express.PCI_EXP_SLTCTL_PWR_IND_BLINK,
)
_ATTENTION_ON, _ATTENTION_OFF = express.PCI_EXP_SLTCTL_ATTN_IND_ON, express.PCI_EXP_SLTCTL_ATTN_IND_OFF
_ALL = EVENTS | express.PCI_EXP_SLTSTA_MRLSC
_ONES = 0xFFFF


class SlotPhase(Enum):
    """``ctrl->state``, with its numbers."""

    OFF = 0
    BLINKING_ON = 1
    BLINKING_OFF = 2
    POWERING_ON = 3
    POWERING_OFF = 4
    ON = 5


class Controller:
    """The hot-plug service of `device`, a port, for the bus `below` it (``struct controller``).

    `recovered` tells whether a link that went down came up again because containment was recovered from, None while
    that is not known; such a change means nothing.
    """

    def __init__(self, device: PciDevice, below: PcieBus, recovered: Callable[[], bool | None]) -> None:
        self.device = device
        self.below = below
        self.port = HotplugPort(device, lambda text: self.say(text))
        self.phase = SlotPhase.ON if below.devices() else SlotPhase.OFF
        self.thread = SlotThread(device.kernel.clock, self._handle)
        self.result = 0
        """What became of the last request: 0 or an errno."""
        self.name = ""
        self.recovered = recovered
        self._clock = device.kernel.clock
        self.fault_reported = False
        """Whether its power fault was told of, since it was switched on."""
        self._press = 0
        self._board = Board(self)
        self.speed = self.port.current_speed

    # coming and going of the service itself

    def start(self, *, quiet: bool) -> None:
        """Take the slot over (``pciehp_probe``); a card without function is brought in, one that left taken away."""
        port = self.port
        port.clear(_ALL)
        self.say(port.describe())
        self.name = add_slot(self.device.pci_bus, str(port.number), PciehpSlot(self), quiet=quiet)
        if self.controls_power and not port.occupied and port.powered:
            self._at_once(port.disable_notification())
            self._at_once(port.power_off())
        self._at_once(port.enable_notification())
        on = self.phase in (SlotPhase.ON, SlotPhase.BLINKING_OFF)
        if port.occupied != on:
            self.request(_PRESENCE)

    def stop(self) -> None:
        """Give the slot up (``pciehp_remove``).  What the thread is at ends first, unless it waits for somebody."""
        self.thread.close()
        remove_slot(self.device.pci_bus, self.name)
        self._at_once(self.port.disable_notification())
        self.thread.finish()
        self._press += 1  # a button that was pressed means nothing any more

    @property
    def controls_power(self) -> bool:
        """Whether software switches the slot's power."""
        return self.port.has(express.PCI_EXP_SLTCAP_PCP)

    def say(self, text: str, level: int = INFO) -> None:
        """Write to the log."""
        say(self.device, level, f"pciehp: {text}")

    def tell(self, text: str, level: int = INFO) -> None:
        """Write of the slot to the log."""
        self.say(f"Slot({self.name}): {text}", level)

    def _at_once(self, sleeps: Sleeps) -> None:
        """Do something that may sleep, for a caller who waits: the machine's time passes."""
        for seconds in sleeps:
            self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        over: list[bool] = []
        self._clock.schedule(seconds, lambda: over.append(True))
        self._clock.run_until(lambda: bool(over))

    # interrupts

    def interrupt(self) -> bool:
        """Take an interrupt (``pciehp_isr``): clear the events, and wake the thread unless only a command has ended.

        False when there was no event, or this service has interrupts off: it is somebody else's, who shares it.
        """
        if not self.port.listens:
            return False
        events = 0
        while True:
            status = self.port.status
            if status == _ONES:
                self.say("pciehp_isr: no response from device")
                return False
            status &= EVENTS
            if self.fault_reported:
                status &= ~express.PCI_EXP_SLTSTA_PFD
            elif status & express.PCI_EXP_SLTSTA_PFD:
                self.fault_reported = True
            if not status:
                break
            events |= status
            self.port.clear(status)
        if not events:
            return False
        if events & express.PCI_EXP_SLTSTA_CC:
            self.port.busy = False
            self._clock.notify()
            events &= ~express.PCI_EXP_SLTSTA_CC
        if events:
            self.request(events)
        return True

    def slot_reset(self) -> None:
        """The port was reset with all that was in error: the link's going is no event if it came back.

        Source: ``pciehp_slot_reset``.
        """
        if self.phase is SlotPhase.ON:
            self.port.clear(_LINK)
            if not self.port.link_active:
                self.request(_LINK)

    def request(self, events: int) -> None:
        """Have the thread do something (``pciehp_request``)."""
        self.thread.request(events)

    # the thread

    def _handle(self, events: int) -> Steps:
        """Work off what was pending (``pciehp_ist``)."""
        if events & express.PCI_EXP_SLTSTA_ABP:
            yield from self._button()
        if events & express.PCI_EXP_SLTSTA_PFD:
            self.tell("Power fault", ERROR)
            yield from self.port.set_indicators(_OFF, _ATTENTION_ON)
        if events & _LINK and self.phase is SlotPhase.ON and (yield from self._contained()):
            events &= ~_LINK
            self.thread.pending &= ~_LINK
            self.tell("Link Down/Up ignored (recovered by DPC)")
            if not self.port.link_active:
                self.request(_LINK)
        if events & _DISABLE:
            yield from self._disable_requested()
        elif events & (_PRESENCE | _LINK):
            yield from self._changed(events)

    def _contained(self) -> Generator[float, None, bool]:
        """Whether the link went down by containment that was recovered from; waits for that (``pci_dpc_recovered``)."""
        end = self._clock.now + _CONTAINMENT
        yield 0.0  # whoever handles it was told after the slot
        while (found := self.recovered()) is None and self._clock.now < end:
            yield _POLL
        return bool(found)

    def _button(self) -> Steps:
        """``pciehp_handle_button_press``."""
        phase = self.phase
        if phase in (SlotPhase.OFF, SlotPhase.ON):
            on = phase is SlotPhase.OFF
            self.phase = SlotPhase.BLINKING_ON if on else SlotPhase.BLINKING_OFF
            self.tell(f"Button press: will power {'on' if on else 'off'} in 5 sec")
            yield from self.port.set_indicators(_BLINK, _ATTENTION_OFF)
            self._press += 1
            press = self._press
            self._clock.schedule(_BLINKING, lambda: self._blinked(press))
        elif phase in (SlotPhase.BLINKING_ON, SlotPhase.BLINKING_OFF):
            self._press += 1
            on = phase is SlotPhase.BLINKING_ON
            self.phase = SlotPhase.OFF if on else SlotPhase.ON
            yield from self.port.set_indicators(_OFF if on else _ON, _ATTENTION_OFF)
            self.tell(f"Button press: canceling request to power {'on' if on else 'off'}")
        else:
            self.tell(f"Button press: ignoring invalid state {phase.value:#x}", ERROR)

    def _blinked(self, press: int) -> None:
        """Nobody took the button press back (``pciehp_queue_pushbutton_work``)."""
        if press != self._press:
            return
        if self.phase is SlotPhase.BLINKING_OFF:
            self.request(_DISABLE)
        elif self.phase is SlotPhase.BLINKING_ON:
            self.request(_PRESENCE)

    def _disable_requested(self) -> Steps:
        """``pciehp_handle_disable_request``."""
        if self.phase in (SlotPhase.BLINKING_ON, SlotPhase.BLINKING_OFF):
            self._press += 1
        self.phase = SlotPhase.POWERING_OFF
        self.result = yield from self._disable(orderly=True)

    def _changed(self, events: int) -> Steps:
        """A card or the link came or went (``pciehp_handle_presence_or_link_change``)."""
        if self.phase in (SlotPhase.BLINKING_OFF, SlotPhase.ON):
            self._press += 1
            self.phase = SlotPhase.POWERING_OFF
            if events & _LINK:
                self.tell("Link Down")
            if events & _PRESENCE:
                self.tell("Card not present")
            yield from self._disable(orderly=False)
        present, link = self.port.present, self.port.link_active
        if not present and not link:
            if self.phase is SlotPhase.BLINKING_ON:
                self.phase = SlotPhase.OFF
                self._press += 1
                yield from self.port.set_indicators(_OFF, None)
                self.tell("Card not present")
            return
        if self.phase in (SlotPhase.BLINKING_ON, SlotPhase.OFF):
            self._press += 1
            self.phase = SlotPhase.POWERING_ON
            if present:
                self.tell("Card present")
            if link:
                self.tell("Link Up")
            self.result = yield from self._enable()

    # on

    def _enable(self) -> Result:
        """``pciehp_enable_slot``; 0 or an errno."""
        error = yield from self._board.bring_in()
        if error and self.port.has(express.PCI_EXP_SLTCAP_ABP):
            yield from self.port.set_indicators(_OFF, None)
        self.phase = SlotPhase.OFF if error else SlotPhase.ON
        return error

    # off

    def _disable(self, *, orderly: bool) -> Result:
        """``pciehp_disable_slot``; 0 or an errno."""
        error = 0
        if self.controls_power and not self.port.powered:
            self.tell("Already disabled")
            error = errno.EINVAL
        else:
            yield from self._board.take_away(orderly=orderly)
        self.phase = SlotPhase.OFF
        return error

    # what a user asks for

    def enable(self) -> None:
        """Switch the slot on (``pciehp_sysfs_enable_slot``).  Raise OSError."""
        if self.phase in (SlotPhase.BLINKING_ON, SlotPhase.OFF):
            self.result = errno.ENODEV
            self.request(_PRESENCE)
            self._await_result()
            return
        powering = self.phase is SlotPhase.POWERING_ON
        self.tell("Already in powering on state" if powering else "Already enabled")
        raise fail(errno.ENODEV)

    def disable(self) -> None:
        """Switch the slot off (``pciehp_sysfs_disable_slot``); may block.  Raise OSError."""
        if self.phase in (SlotPhase.BLINKING_OFF, SlotPhase.ON):
            self.request(_DISABLE)
            self._await_result()
            return
        powering = self.phase is SlotPhase.POWERING_OFF
        self.tell("Already in powering off state" if powering else "Already disabled")
        raise fail(errno.ENODEV)

    def _await_result(self) -> None:
        self.thread.wait()
        if self.result:
            raise fail(self.result)

    def set_attention(self, value: int) -> None:
        """Set the attention indicator: 0 is off, 1 on, 2 blinks."""
        control = value << express.PCI_EXP_SLTCTL_ATTN_IND_SHIFT & express.PCI_EXP_SLTCTL_AIC
        self._at_once(self.port.set_indicators(None, control if value else _ATTENTION_OFF))
