"""The PCI Express capability, declared, for every kind of function and port::

          3              2              1              0
    00   | irq (5) S  type (4) version | next         | id = 10      |
    04   | device capabilities                                       |
    08   | device status               | device control              |
    0c   | link capabilities                                         |
    10   | link status                 | link control                |
    14   | slot capabilities: number 19..31, EIP 17, HPC 6 ... ABP 0 |
    18   | slot status                 | slot control                |
    1c   | root capabilities           | root control                |
    20   | root status                                               |
    24   | device capabilities 2                                     |
    28   | device status 2             | device control 2            |
    2c   | link capabilities 2                                       |
    30   | link status 2               | link control 2              |
    34   | slot capabilities 2                                       |
    38   | slot status 2               | slot control 2              |

Version 1 ends after the last register that its kind of function has; version 2 is always whole, and reads zeros where
the kind has nothing.  A bit of slot control can be written where slot capabilities have what it controls.
Source: PCI Express Base Specification, 6.0, 7.5.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_express_regs import DeviceControl2
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pci.register import Capability, Register

__all__ = ["DEVICE_ERRORS", "REPORTING", "Express", "Slot"]

REPORTING = regs.PCI_EXP_DEVCTL_CERE | regs.PCI_EXP_DEVCTL_NFERE | regs.PCI_EXP_DEVCTL_FERE | regs.PCI_EXP_DEVCTL_URRE
"""The bits of device control that let errors be reported."""
DEVICE_ERRORS = regs.PCI_EXP_DEVSTA_CED | regs.PCI_EXP_DEVSTA_NFED | regs.PCI_EXP_DEVSTA_FED | regs.PCI_EXP_DEVSTA_URD
"""The bits of device status that say which errors were detected."""
_CONTROL = (
    REPORTING
    | regs.PCI_EXP_DEVCTL_RELAX_EN
    | regs.PCI_EXP_DEVCTL_PAYLOAD
    | regs.PCI_EXP_DEVCTL_EXT_TAG
    | regs.PCI_EXP_DEVCTL_NOSNOOP_EN
    | regs.PCI_EXP_DEVCTL_READRQ
)
_CONTROL_RESET = regs.PCI_EXP_DEVCTL_RELAX_EN | regs.PCI_EXP_DEVCTL_NOSNOOP_EN | express.PCI_EXP_DEVCTL_READRQ_512B
_DOWNWARD = (ExpressType.ROOT_PORT, ExpressType.DOWNSTREAM)
_LINKLESS = (ExpressType.RC_END, ExpressType.RC_EC)
_FULL = 0x3C


@dataclass(frozen=True)
class Slot:
    """The slot below a port: its physical `number` (13 bits) and what it has (``PCI_EXP_SLTCAP_*``).

    The default is a slot with everything that native hot-plug knows but a latch (MRL) sensor.
    """

    number: int
    features: int = (
        express.PCI_EXP_SLTCAP_ABP
        | express.PCI_EXP_SLTCAP_PCP
        | express.PCI_EXP_SLTCAP_AIP
        | express.PCI_EXP_SLTCAP_PIP
        | express.PCI_EXP_SLTCAP_HPS
        | express.PCI_EXP_SLTCAP_HPC
        | express.PCI_EXP_SLTCAP_EIP
    )

    @property
    def capabilities(self) -> int:
        """The slot capabilities register."""
        return self.number << 19 | self.features

    @property
    def hotplug(self) -> bool:
        """Whether devices come and go while the machine runs."""
        return bool(self.features & express.PCI_EXP_SLTCAP_HPC)

    def control(self, *, link_active_reporting: bool) -> int:
        """The bits of slot control that can be written (electromechanical interlock control reads 0 and is not one)."""
        mask = express.PCI_EXP_SLTCTL_PDCE | express.PCI_EXP_SLTCTL_HPIE
        for feature, bits in (
            (express.PCI_EXP_SLTCAP_ABP, express.PCI_EXP_SLTCTL_ABPE),
            (express.PCI_EXP_SLTCAP_PCP, express.PCI_EXP_SLTCTL_PFDE | express.PCI_EXP_SLTCTL_PCC),
            (express.PCI_EXP_SLTCAP_MRLSP, express.PCI_EXP_SLTCTL_MRLSCE),
            (express.PCI_EXP_SLTCAP_AIP, express.PCI_EXP_SLTCTL_AIC),
            (express.PCI_EXP_SLTCAP_PIP, express.PCI_EXP_SLTCTL_PIC),
        ):
            mask |= bits if self.features & feature else 0
        if not self.features & express.PCI_EXP_SLTCAP_NCCS:
            mask |= express.PCI_EXP_SLTCTL_CCIE
        return mask | (express.PCI_EXP_SLTCTL_DLLSCE if link_active_reporting else 0)

    def registers(self, *, link_active_reporting: bool) -> Iterator[Register]:
        """Slot capabilities, control and status.  Indicators begin as off."""
        yield Register(express.PCI_EXP_SLTCAP, 4, self.capabilities)
        off = express.PCI_EXP_SLTCTL_ATTN_IND_OFF if self.features & express.PCI_EXP_SLTCAP_AIP else 0
        off |= express.PCI_EXP_SLTCTL_PWR_IND_OFF if self.features & express.PCI_EXP_SLTCAP_PIP else 0
        yield Register(express.PCI_EXP_SLTCTL, 2, off, rw=self.control(link_active_reporting=link_active_reporting))
        events = express.PCI_EXP_SLTSTA_ABP | express.PCI_EXP_SLTSTA_PFD | express.PCI_EXP_SLTSTA_MRLSC
        events |= express.PCI_EXP_SLTSTA_PDC | express.PCI_EXP_SLTSTA_CC
        events |= express.PCI_EXP_SLTSTA_DLLSC if link_active_reporting else 0
        yield Register(express.PCI_EXP_SLTSTA, 2, w1c=events)


@dataclass(frozen=True)
class Express(Capability):
    """The capability of a function of `kind`.

    `speed` (1: 2.5 GT/s ... 6: 64 GT/s) and `width` (lanes) are what the link can do; `trained` is speed and width
    that it runs with, the same unless said.  `flr`: function-level reset.  `ari`: a port forwards to all 256 functions
    (ARI) once device control 2 says so.  `control` are the bits of device control that can be written and
    `control_reset` what it is at first; give them for devices that differ from the architecture.
    `device`, `link` and `device2` are further bits of the capability registers.  `serr_reports`: uncorrectable errors
    are also reported when only SERR in the command register says so, which QEMU's functions do not do.
    `power_events`: a root port can interrupt for power management events, which QEMU's cannot.
    """

    id: ClassVar[int] = regs.PCI_CAP_ID_EXP
    kind: ExpressType
    version: int = 2
    speed: int = 1
    width: int = 1
    trained: tuple[int, int] | None = None
    flr: bool = False
    ari: bool = False
    ltr: bool = False
    link_active_reporting: bool = False
    slot: Slot | None = None
    irq: int = 0
    control: int = _CONTROL
    control_reset: int = _CONTROL_RESET
    device: int = regs.PCI_EXP_DEVCAP_RBER | regs.PCI_EXP_DEVCAP_EXT_TAG
    link: int = express.PCI_EXP_LNKCAP_ASPM_L0S
    device2: int = 0
    power_events: bool = True
    serr_reports: bool = True

    @property
    def size(self) -> int:
        """See `Capability.size`."""
        if self.version > 1:
            return _FULL
        return max(one.offset + one.width for one in self.registers())

    @property
    def has_link(self) -> bool:
        """Whether a link belongs to it: not inside the root complex."""
        return self.kind not in _LINKLESS

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        flags = self.version | self.kind << 4 | self.irq << 9 | (regs.PCI_EXP_FLAGS_SLOT if self.slot else 0)
        yield Register(regs.PCI_EXP_FLAGS, 2, flags)
        yield Register(regs.PCI_EXP_DEVCAP, 4, self.device | (regs.PCI_EXP_DEVCAP_FLR if self.flr else 0))
        yield Register(regs.PCI_EXP_DEVCTL, 2, self.control_reset, rw=self.control)
        yield Register(regs.PCI_EXP_DEVSTA, 2, w1c=DEVICE_ERRORS)
        if self.has_link:
            yield from self._link()
        if self.slot:
            yield from self.slot.registers(link_active_reporting=self.link_active_reporting)
        if self.kind in (ExpressType.ROOT_PORT, ExpressType.RC_EC):
            yield from self._root()
        if self.version > 1:
            yield from self._second()

    def _link(self) -> Iterator[Register]:
        able = self.link | self.width << 4 | self.speed
        able |= express.PCI_EXP_LNKCAP_DLLLARC if self.link_active_reporting else 0
        yield Register(regs.PCI_EXP_LNKCAP, 4, able)
        control = express.PCI_EXP_LNKCTL_ASPMC | express.PCI_EXP_LNKCTL_CCC | express.PCI_EXP_LNKCTL_ES
        if self.kind in _DOWNWARD:
            control |= express.PCI_EXP_LNKCTL_LD
        else:
            control |= express.PCI_EXP_LNKCTL_RCB
        yield Register(express.PCI_EXP_LNKCTL, 2, rw=control)
        speed, width = self.trained or (self.speed, self.width)
        told = express.PCI_EXP_LNKSTA_LBMS | express.PCI_EXP_LNKSTA_LABS
        notifies = able & express.PCI_EXP_LNKCAP_LBNC
        yield Register(regs.PCI_EXP_LNKSTA, 2, width << 4 | speed, w1c=told if notifies else 0)

    def _root(self) -> Iterator[Register]:
        errors = express.PCI_EXP_RTCTL_SECEE | express.PCI_EXP_RTCTL_SENFEE | express.PCI_EXP_RTCTL_SEFEE
        events = express.PCI_EXP_RTCTL_PMEIE if self.power_events else 0
        yield Register(express.PCI_EXP_RTCTL, 2, rw=errors | events)
        yield Register(express.PCI_EXP_RTCAP, 2)
        yield Register(express.PCI_EXP_RTSTA, 4, w1c=express.PCI_EXP_RTSTA_PME)

    def _second(self) -> Iterator[Register]:
        able, control = self.device2, 0
        if self.ari and self.kind in _DOWNWARD:
            able |= express.PCI_EXP_DEVCAP2_ARI
            control |= regs.PCI_EXP_DEVCTL2_ARI
        if self.ltr:
            able |= express.PCI_EXP_DEVCAP2_LTR
            control |= express.PCI_EXP_DEVCTL2_LTR_EN
        if able & express.PCI_EXP_DEVCAP2_COMP_TMOUT_DIS:
            control |= express.PCI_EXP_DEVCTL2_COMP_TMOUT_DIS
        if able & express.PCI_EXP_DEVCAP2_EE_PREFIX:
            control |= DeviceControl2.PREFIX_BLOCKING
        yield Register(express.PCI_EXP_DEVCAP2, 4, able)
        yield Register(regs.PCI_EXP_DEVCTL2, 2, rw=control)
        if self.has_link and self.speed > 1:
            yield Register(regs.PCI_EXP_LNKCAP2, 4, (1 << self.speed) - 1 << 1)
            target = express.PCI_EXP_LNKCTL2_TLS
            yield Register(express.PCI_EXP_LNKCTL2, 2, self.speed, rw=target, sticky=target)
