"""What pciehp does to the registers of its port (``drivers/pci/hotplug/pciehp_hpc.c``, 6.12).

A function that has to wait is a generator of the seconds that it sleeps; who drives it lets the machine's time pass.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["ENABLES", "EVENTS", "Asks", "HotplugPort", "Sleeps"]

Sleeps = Generator[float, None, None]
"""The seconds between the steps of something that waits."""
Asks = Generator[float, None, bool]
"""The same, of something that has an answer at the end."""
_SLTCTL, _SLTSTA, _LNKSTA = express.PCI_EXP_SLTCTL, express.PCI_EXP_SLTSTA, regs.PCI_EXP_LNKSTA
EVENTS: Final = (
    express.PCI_EXP_SLTSTA_ABP
    | express.PCI_EXP_SLTSTA_PFD
    | express.PCI_EXP_SLTSTA_PDC
    | express.PCI_EXP_SLTSTA_CC
    | express.PCI_EXP_SLTSTA_DLLSC
)
"""The bits of slot status that the interrupt handler looks at."""
ENABLES: Final = (
    express.PCI_EXP_SLTCTL_PDCE
    | express.PCI_EXP_SLTCTL_ABPE
    | express.PCI_EXP_SLTCTL_PFDE
    | express.PCI_EXP_SLTCTL_HPIE
    | express.PCI_EXP_SLTCTL_CCIE
    | express.PCI_EXP_SLTCTL_DLLSCE
)
"""The bits of slot control that enable interrupts and that pciehp ever sets."""
_CONTROLS = (
    express.PCI_EXP_SLTCTL_PCC | express.PCI_EXP_SLTCTL_PIC | express.PCI_EXP_SLTCTL_AIC | express.PCI_EXP_SLTCTL_EIC
)
_INTEL = 0x8086
_COMMAND_TIMEOUT, _POLL = 1.0, 0.01
_LINK_TIMEOUT, _LINK_FIRST, _LINK_DELAY = 1.0, 0.02, 0.1
_DEVICE_TIMEOUT, _DEVICE_POLL = 1.0, 0.02
_ONES = 0xFFFF
_NOBODY = (0xFFFFFFFF, 0, 0x0000FFFF, 0xFFFF0000)
_SPEEDS = ("Unknown", "2.5 GT/s PCIe", "5.0 GT/s PCIe", "8.0 GT/s PCIe", "16.0 GT/s PCIe", "32.0 GT/s PCIe")
_FASTEST = "64.0 GT/s PCIe"


class HotplugPort:
    """The registers of `device`, a port with a slot; `say` writes to the log, `now` is the machine's time.

    `busy` is whether a command was given whose end the slot has not reported yet.
    """

    def __init__(self, device: PciDevice, say: Callable[[str], None]) -> None:
        self.device = device
        self.say = say
        self.capabilities = self._dword(express.PCI_EXP_SLTCAP)
        self.busy = False
        self._control = 0
        self._given = 0.0
        able = self._dword(regs.PCI_EXP_LNKCAP)
        self.reports_link = bool(able & express.PCI_EXP_LNKCAP_DLLLARC)
        self.silent = bool(self.capabilities & express.PCI_EXP_SLTCAP_NCCS)
        self.broken_completion = device.vendor == _INTEL and not self.silent

    def has(self, feature: int) -> bool:
        """Whether slot capabilities have a feature (``PCI_EXP_SLTCAP_*``)."""
        return bool(self.capabilities & feature)

    @property
    def number(self) -> int:
        """The physical number of the slot."""
        return self.capabilities >> 19

    def _word(self, at: int) -> int:
        return self.device.read_config(self.device.express + at, 2)

    def _dword(self, at: int) -> int:
        return self.device.read_config(self.device.express + at, 4)

    def describe(self) -> str:
        """What the slot has, as the log tells it at the start."""
        flags = (
            ("AttnBtn", self.has(express.PCI_EXP_SLTCAP_ABP)),
            ("PwrCtrl", self.has(express.PCI_EXP_SLTCAP_PCP)),
            ("MRL", self.has(express.PCI_EXP_SLTCAP_MRLSP)),
            ("AttnInd", self.has(express.PCI_EXP_SLTCAP_AIP)),
            ("PwrInd", self.has(express.PCI_EXP_SLTCAP_PIP)),
            ("HotPlug", self.has(express.PCI_EXP_SLTCAP_HPC)),
            ("Surprise", self.has(express.PCI_EXP_SLTCAP_HPS)),
            ("Interlock", self.has(express.PCI_EXP_SLTCAP_EIP)),
            ("NoCompl", self.silent),
            ("IbPresDis", False),
            ("LLActRep", self.reports_link),
        )
        words = " ".join(f"{name}{'+' if there else '-'}" for name, there in flags)
        return f"Slot #{self.number} {words}{' (with Cmd Compl erratum)' if self.broken_completion else ''}"

    # looking

    @property
    def listens(self) -> bool:
        """Whether this service has turned interrupts on."""
        return bool(self._control & express.PCI_EXP_SLTCTL_HPIE)

    @property
    def status(self) -> int:
        """Slot status."""
        return self._word(_SLTSTA)

    def clear(self, events: int) -> None:
        """Clear events in slot status."""
        self.device.write_config(self.device.express + _SLTSTA, 2, events)

    @property
    def control(self) -> int:
        """Slot control."""
        return self._word(_SLTCTL)

    @property
    def powered(self) -> bool:
        """Whether the power controller is on."""
        return not self.control & express.PCI_EXP_SLTCTL_PCC

    @property
    def latched(self) -> bool:
        """Whether the latch is closed."""
        return not self.status & express.PCI_EXP_SLTSTA_MRLSS

    @property
    def link_active(self) -> bool:
        """Whether the link is up (``pciehp_check_link_active``); not of a port that does not answer."""
        status = self._word(_LNKSTA)
        return status != _ONES and bool(status & express.PCI_EXP_LNKSTA_DLLLA)

    @property
    def present(self) -> bool:
        """Whether a card is there; not of a port that does not answer."""
        status = self.status
        return status != _ONES and bool(status & express.PCI_EXP_SLTSTA_PDS)

    @property
    def occupied(self) -> bool:
        """Whether a card is there, or the link is up."""
        return self.present or self.link_active

    @property
    def current_speed(self) -> str:
        """The speed of the link, in the words of sysfs (``pci_speed_string``)."""
        return _speed(self._word(_LNKSTA) & regs.PCI_EXP_LNKSTA_CLS)

    @property
    def most_speed(self) -> str:
        """The speed that the port is able to."""
        return _speed(self._dword(regs.PCI_EXP_LNKCAP) & regs.PCI_EXP_LNKCAP_SLS)

    # commands

    def command(self, value: int, mask: int, *, wait: bool = False) -> Sleeps:
        """Change bits of slot control, after the command before has ended; `wait` for the end of this one too."""
        yield from self._wait()
        before = self.control
        if before == _ONES:
            self.say("pcie_do_write_cmd: no response from device")
            return
        self._control = before & ~mask | value & mask
        self.busy = True
        self._given = self.device.kernel.clock.now
        self.device.write_config(self.device.express + _SLTCTL, 2, self._control)
        if self.broken_completion and before & _CONTROLS == self._control & _CONTROLS:
            self.busy = False
        if wait:
            yield from self._wait()

    def _wait(self) -> Sleeps:
        """Wait for the end of the last command (``pcie_wait_cmd``): for its interrupt, or by looking."""
        if self.silent:
            return
        clock = self.device.kernel.clock
        while self.busy:
            interrupts = self._control & express.PCI_EXP_SLTCTL_HPIE and self._control & express.PCI_EXP_SLTCTL_CCIE
            if not interrupts and self.status & express.PCI_EXP_SLTSTA_CC:
                self.clear(express.PCI_EXP_SLTSTA_CC)
                self.busy = False
                return
            since = clock.now - self._given
            if since >= _COMMAND_TIMEOUT:
                text = f"{self._control:#06x} (issued {since * 1000:.0f} msec ago)"
                self.say(f"Timeout on hotplug command {text}")
                return
            yield _POLL

    def set_indicators(self, power: int | None, attention: int | None) -> Sleeps:
        """Set the indicators that are there; None leaves one as it is.  ``PCI_EXP_SLTCTL_{PWR,ATTN}_IND_*``."""
        value = mask = 0
        if power is not None and self.has(express.PCI_EXP_SLTCAP_PIP):
            value, mask = value | power & express.PCI_EXP_SLTCTL_PIC, mask | express.PCI_EXP_SLTCTL_PIC
        if attention is not None and self.has(express.PCI_EXP_SLTCAP_AIP):
            value, mask = value | attention & express.PCI_EXP_SLTCTL_AIC, mask | express.PCI_EXP_SLTCTL_AIC
        if value:
            yield from self.command(value, mask)

    def enable_notification(self) -> Sleeps:
        """Have interrupts: of the link, and of the button, or without one of presence."""
        value = express.PCI_EXP_SLTCTL_DLLSCE | express.PCI_EXP_SLTCTL_HPIE
        button = self.has(express.PCI_EXP_SLTCAP_ABP)
        value |= express.PCI_EXP_SLTCTL_ABPE if button else express.PCI_EXP_SLTCTL_PDCE
        value |= 0 if self.silent else express.PCI_EXP_SLTCTL_CCIE
        yield from self.command(value, ENABLES)

    def disable_notification(self) -> Sleeps:
        """Have no interrupts."""
        yield from self.command(0, ENABLES | express.PCI_EXP_SLTCTL_MRLSCE, wait=True)

    def power_on(self) -> Sleeps:
        """Forget an old fault, turn power on, and let the link come up."""
        if self.status & express.PCI_EXP_SLTSTA_PFD:
            self.clear(express.PCI_EXP_SLTSTA_PFD)
        yield from self.command(express.PCI_EXP_SLTCTL_PWR_ON, express.PCI_EXP_SLTCTL_PCC, wait=True)
        at = self.device.express + express.PCI_EXP_LNKCTL
        self.device.write_config(at, 2, self.device.read_config(at, 2) & ~express.PCI_EXP_LNKCTL_LD)

    def power_off(self) -> Sleeps:
        """Turn power off."""
        yield from self.command(express.PCI_EXP_SLTCTL_PWR_OFF, express.PCI_EXP_SLTCTL_PCC, wait=True)

    # waiting for a card

    def link_comes(self) -> Asks:
        """Sleep until the link is up (``pcie_wait_for_link``); whether it is."""
        if not self.reports_link:
            yield _LINK_TIMEOUT + _LINK_DELAY
            return True
        yield _LINK_FIRST
        end = self.device.kernel.clock.now + _LINK_TIMEOUT
        while not self.link_active:
            if self.device.kernel.clock.now >= end:
                return False
            yield _POLL
        yield _LINK_DELAY
        return True

    def device_comes(self, read_id: Callable[[], int]) -> Asks:
        """Sleep until a function answers, whose first word `read_id` reads (``pci_bus_check_dev``); whether it does."""
        left = _DEVICE_TIMEOUT
        while read_id() in _NOBODY:
            left -= _DEVICE_POLL
            if left <= 0:
                return False
            yield _DEVICE_POLL
        return True

    @property
    def untrained(self) -> int | None:
        """Link status of a link that is not trained; None of one that is."""
        status = self._word(_LNKSTA)
        trained = status & regs.PCI_EXP_LNKSTA_NLW and not status & express.PCI_EXP_LNKSTA_LT
        return None if trained else status


def _speed(code: int) -> str:
    return _SPEEDS[code] if code < len(_SPEEDS) else _FASTEST if code == len(_SPEEDS) else "Unknown"
