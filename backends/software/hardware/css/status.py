"""The status of one subchannel: which function is under way, and what kind of status is pending.

It is kept as plain integers and becomes an `Scsw` when somebody stores it.

==============  ==================================================================================================
kind            what makes it pending
==============  ==================================================================================================
intermediate    the PCI flag, the first command accepted, suspension; further ones join the one that is pending
primary         channel end, or whatever else ends a program; it joins an intermediate one that is pending
secondary       device end: with the primary status, joining it while it is pending, or by itself
alert           with the others: anything unusual; alone: a status that the device presents unasked, or that comes
                before a start has begun (deferred condition code 1), or no path (3)
==============  ==================================================================================================

Source: z/Architecture Principles of Operation, "Status Control", "Activity Control".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from pyvfio.css.irb import erw_concurrent_sense
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import ACTL, CSTAT, DSTAT, FCTL, STCTL, Actl, Cstat, Dstat, Fctl, Scsw, Stctl
from pyvfio_backends.software.hardware.css.controlunit import SENSE_SIZE, ControlUnit
from pyvfio_backends.software.hardware.css.engine import ChannelProgram, ProgramStatus
from pyvfio_backends.software.hardware.css.logout import needs_logout
from pyvfio_backends.software.hardware.css.model import CssModel

__all__ = ["SubchannelStatus"]

_NO_SENSE: Final = bytes(SENSE_SIZE)
_PENDING: Final = int(Stctl.PENDING)
_INTERMEDIATE_PENDING: Final = int(Stctl.INTERMEDIATE | Stctl.PENDING)
_PRIMARY: Final = int(Stctl.PRIMARY)
_SECONDARY: Final = int(Stctl.SECONDARY)
_INTERMEDIATE: Final = int(Stctl.INTERMEDIATE)
_ALERT: Final = int(Stctl.ALERT)
_USUAL: Final = int(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.STATUS_MODIFIER)
_CHANNEL_END: Final = int(Dstat.CHANNEL_END)
_DEVICE_END: Final = int(Dstat.DEVICE_END)
_UNIT_CHECK: Final = int(Dstat.UNIT_CHECK)
_DEVICE_ACTIVE: Final = int(Actl.DEVICE_ACTIVE)
_START_PENDING: Final = int(Actl.START_PENDING)
_RESUME_PENDING: Final = int(Actl.RESUME_PENDING)
_SUSPENDED: Final = int(Actl.SUSPENDED)
_PCI: Final = int(Cstat.PCI)
_START: Final = int(Fctl.START)


class SubchannelStatus(ABC):
    """The status of a subchannel.

    `turn` counts functions, so that work scheduled for an old one is recognised; `resets` those that reach the device
    (halt, clear), after which it owes nothing.  `attention` are the statuses, with sense bytes, that a device presents
    by itself and that were not taken yet.  `owed` says that a device end is still to come after a primary status,
    `found_busy` that the start function waits because the device was busy.
    """

    __slots__ = (
        "actl",
        "attention",
        "cc",
        "count",
        "cpa",
        "cstat",
        "dstat",
        "ecw",
        "erw",
        "fctl",
        "found_busy",
        "logout",
        "model",
        "orb",
        "owed",
        "pno",
        "program",
        "resets",
        "stctl",
        "turn",
        "zcc",
    )

    def __init__(self, model: CssModel) -> None:
        self.model = model
        self.orb: Orb | None = None
        self.program: ChannelProgram | None = None
        self.fctl = self.actl = self.stctl = 0
        self.cc = self.cpa = self.dstat = self.cstat = self.count = 0
        self.pno = self.zcc = self.owed = self.found_busy = False
        self.erw = 0
        self.ecw = _NO_SENSE
        self.logout: ProgramStatus | None = None
        self.turn = self.resets = 0
        self.attention: list[tuple[int, bytes]] = []

    @property
    @abstractmethod
    def device(self) -> ControlUnit | None:
        """The control unit."""

    @property
    @abstractmethod
    def senses(self) -> bool:
        """Whether sense bytes come with the status (concurrent sense is on)."""

    @property
    def pending(self) -> bool:
        """Whether a status is pending."""
        return bool(self.stctl & _PENDING)

    @property
    def waits_to_start(self) -> bool:
        """Whether the start function has only been accepted, and no other."""
        return self.fctl == _START and bool(self.actl & _START_PENDING)

    @property
    def halting(self) -> bool:
        """Whether a halt or a clear function is under way."""
        return bool(self.fctl & ~_START)

    def scsw(self) -> Scsw:
        """The status word as it is now."""
        orb = self.orb
        if orb is None:
            return Scsw(
                fctl=FCTL[self.fctl], actl=ACTL[self.actl], stctl=STCTL[self.stctl], cpa=self.cpa, cc=self.cc,
                dstat=DSTAT[self.dstat], cstat=CSTAT[self.cstat], count=self.count, ectl=bool(self.erw), pno=self.pno,
            )  # fmt: skip
        reports = self.model.reports_controls
        return Scsw(
            key=orb.key,
            sctl=orb.spnd and reports,
            eswf=self.logout is not None,
            cc=self.cc,
            fmt=orb.fmt,
            pfch=orb.pfch and reports,
            isic=orb.isic and reports,
            alcc=orb.alcc and reports,
            ssi=orb.ssic and reports,
            zcc=self.zcc,
            ectl=bool(self.erw),
            pno=self.pno,
            fctl=FCTL[self.fctl],
            actl=ACTL[self.actl],
            stctl=STCTL[self.stctl],
            cpa=self.cpa,
            dstat=DSTAT[self.dstat],
            cstat=CSTAT[self.cstat],
            count=self.count,
        )

    def wait_to_start(self) -> None:
        """Be start pending again: the device was busy."""
        self.program = None
        self.found_busy = True
        self.actl = _START_PENDING | self.actl & _RESUME_PENDING

    def program_status(self, status: ProgramStatus) -> None:
        """Make the ending status of the program pending: primary, and secondary unless device end is still to come."""
        self.cpa = status.cpa
        self.dstat = status.dstat
        self.cstat = status.cstat | (_PCI if status.pci or (self.pending and self.cstat & _PCI) else 0)
        self.count = status.count
        self.owed = status.dstat & (_CHANNEL_END | _DEVICE_END) == _CHANNEL_END
        self.actl = _DEVICE_ACTIVE if self.owed else 0
        self.stctl |= _PRIMARY | _PENDING | (0 if self.owed else _SECONDARY)
        if status.pci or status.accepted:
            self.stctl |= _INTERMEDIATE
            self.zcc = self.zcc or status.accepted
        if status.cstat or status.dstat & ~_USUAL:
            self.stctl |= _ALERT
        if needs_logout(status.cstat):
            self.logout = status
        self.program = None
        self._sense(status.dstat, status.sense)

    def intermediate(self, status: ProgramStatus, *, suspended: bool, interrupt: bool) -> bool:
        """Note a suspension, a program-controlled or an initial-status interruption; return whether one is pending."""
        self.cpa = status.cpa
        self.count = status.count
        if suspended:
            self.actl = _SUSPENDED | self.actl & _RESUME_PENDING
        if status.pci:
            self.cstat |= _PCI
        self.zcc = self.zcc or status.accepted
        status.pci = status.accepted = False
        if interrupt:
            self.stctl |= _INTERMEDIATE_PENDING
        return interrupt

    def device_end(self, dstat: int, sense: bytes = b"") -> None:
        """Make what a device presents after a primary status pending: with device end, it is the secondary status."""
        if not self.pending:
            self.dstat = self.cstat = self.cc = 0
        self.dstat |= dstat
        self.stctl |= _PENDING | (_SECONDARY if dstat & _DEVICE_END else 0)
        if dstat & ~_USUAL or not dstat & _DEVICE_END:
            self.stctl |= _ALERT
        if dstat & _DEVICE_END:
            self.owed = False
            self.actl &= ~_DEVICE_ACTIVE
        self._sense(dstat, sense)

    def deferred(self, dstat: int, sense: bytes = b"") -> None:
        """End the start function before it has begun: the device has a status first (deferred condition code 1)."""
        self.turn += 1
        self.cc = 1
        self.actl = 0
        if dstat & _DEVICE_END:
            self.owed = False
        self.dstat, self.cstat, self.count = dstat, 0, 0
        self.stctl = _ALERT | _PENDING | (_SECONDARY if dstat & _DEVICE_END else 0)
        self._sense(dstat, sense)

    def _forget_program(self) -> None:
        """The device was reset, or told to stop: nothing of the program remains."""
        self.program = None
        self.resets += 1
        self.owed = self.zcc = False
        self.logout = None
        self._no_sense()

    def alert(self, dstat: int, sense: bytes = b"") -> None:
        """Make an unsolicited device status pending."""
        self.stctl = _ALERT | _PENDING
        self.dstat, self.cstat, self.cc = dstat, 0, 0
        self._sense(dstat, sense)

    def _sense(self, dstat: int, sense: bytes) -> None:
        """Take the sense bytes of a unit check: into the status, or they stay with the device until it is asked."""
        device = self.device
        if dstat & _UNIT_CHECK and device is not None:
            if self.senses and device.concurrent_sense:
                self.ecw = device.full_sense(sense)
                self.erw = erw_concurrent_sense(len(self.ecw))
            else:
                device.pending_sense = sense

    def _no_sense(self) -> None:
        if self.erw:
            self.erw = 0
            self.ecw = _NO_SENSE
