"""One subchannel: its path-management control, its status, and the functions under way.

The status is kept as plain integers and becomes an `Scsw` when somebody stores it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pyvfio.address import SubchannelId
from pyvfio.css.irb import ESW_SIZE, Irb, erw_concurrent_sense
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Pmcw, Schib, SubchannelType
from pyvfio.css.scsw import ACTL, CSTAT, DSTAT, FCTL, STCTL, Actl, Cstat, Dstat, Fctl, Scsw, Stctl
from pyvfio_backends.software.hardware.css.config import SubchannelConfig
from pyvfio_backends.software.hardware.css.controlunit import SENSE_SIZE, ControlUnit
from pyvfio_backends.software.hardware.css.engine import ChannelProgram, ProgramStatus
from pyvfio_backends.software.hardware.css.logout import needs_logout, subchannel_logout
from pyvfio_backends.software.hardware.css.model import CssModel

__all__ = ["Subchannel"]

_NO_SENSE: Final = bytes(SENSE_SIZE)
_PENDING: Final = int(Stctl.PENDING)
_INTERMEDIATE_PENDING: Final = int(Stctl.INTERMEDIATE | Stctl.PENDING)
_ENDING: Final = int(Stctl.PRIMARY | Stctl.SECONDARY | Stctl.PENDING)
_PRIMARY: Final = int(Stctl.PRIMARY)
_SECONDARY: Final = int(Stctl.SECONDARY)
_INTERMEDIATE: Final = int(Stctl.INTERMEDIATE)
_ALERT: Final = int(Stctl.ALERT)
_USUAL: Final = int(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.STATUS_MODIFIER)
_CHANNEL_END: Final = int(Dstat.CHANNEL_END)
_DEVICE_END: Final = int(Dstat.DEVICE_END)
_ACTIVE: Final = int(Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE)
_DEVICE_ACTIVE: Final = int(Actl.DEVICE_ACTIVE)
_START_PENDING: Final = int(Actl.START_PENDING)
_SUSPENDED: Final = int(Actl.SUSPENDED)
_UNIT_CHECK: Final = int(Dstat.UNIT_CHECK)
_PCI: Final = int(Cstat.PCI)
_START: Final = int(Fctl.START)
_HALT: Final = int(Fctl.HALT)
_RESUME_PENDING: Final = int(Actl.RESUME_PENDING)


class Subchannel:
    """The state of one subchannel.

    `turn` counts functions, so that work scheduled for an old one is recognised; `resets` those that reach the device
    (halt, clear), after which it owes nothing.  `attention` are the statuses, with sense bytes, that a device presents
    by itself and that were not taken yet.  `owed` says that a device end is still to come after a primary status,
    `found_busy` that the start function waits because the device was busy.
    """

    __slots__ = (
        "_device",
        "actl",
        "attention",
        "cc",
        "config",
        "count",
        "cpa",
        "cstat",
        "dstat",
        "ecw",
        "erw",
        "fctl",
        "found_busy",
        "last_path",
        "logout",
        "mba",
        "model",
        "orb",
        "owed",
        "pmcw",
        "pno",
        "program",
        "resets",
        "schid",
        "stctl",
        "turn",
        "zcc",
    )

    def __init__(self, config: SubchannelConfig, model: CssModel) -> None:
        self.config = config
        self.model = model
        self._device: ControlUnit | None = config.device
        self.schid: SubchannelId = config.schid
        self.pmcw = Pmcw(
            qf=config.qdio,
            dnv=config.type == SubchannelType.IO,
            devno=config.devno if config.type == SubchannelType.IO else 0,
            lpm=config.pim,
            pim=config.pim,
            pom=config.pom,
            pam=config.pam,
            chpid=bytes(config.chpids),
            st=int(config.type),
        )
        self.mba = 0
        self.orb: Orb | None = None
        self.program: ChannelProgram | None = None
        self.fctl = self.actl = self.stctl = 0
        self.cc = self.cpa = self.dstat = self.cstat = self.count = 0
        self.pno = self.zcc = self.owed = self.found_busy = False
        self.erw = 0
        self.ecw = _NO_SENSE
        self.logout: ProgramStatus | None = None
        self.last_path = 0
        self.turn = self.resets = 0
        self.attention: list[tuple[int, bytes]] = []

    @property
    def device(self) -> ControlUnit | None:
        """The control unit, built now if this is its first use."""
        if self._device is None and self.config.build is not None:
            self._device = device = self.config.build()
            device.sense_id_data = device.sense_id_data.ljust(self.model.sense_id_size, b"\0")
        return self._device

    @property
    def operational(self) -> bool:
        """Whether functions are accepted: enabled, and with a device number that is valid."""
        return self.pmcw.ena and (self.pmcw.dnv or self.pmcw.st != SubchannelType.IO)

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
                dstat=DSTAT[self.dstat], cstat=CSTAT[self.cstat], count=self.count, ectl=bool(self.erw),
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

    def schib(self) -> Schib:
        """The block that STSCH stores."""
        return Schib(self.pmcw, self.scsw(), self.mba)

    def modify(self, schib: Schib) -> None:
        """Take over what MSCH may change of a subchannel with a device."""
        new = schib.pmcw
        if not self.pmcw.dnv and self.pmcw.st == SubchannelType.IO:
            return
        disabled = self.pmcw.ena and not new.ena
        self.pmcw = replace(
            self.pmcw,
            intparm=new.intparm,
            isc=new.isc,
            ena=new.ena,
            lm=new.lm,
            mme=new.mme,
            mp=new.mp,
            lpm=new.lpm,
            mbi=new.mbi,
            pom=new.pom,
            mbfc=new.mbfc,
            xmwme=new.xmwme,
            csense=new.csense,
        )
        self.mba = schib.mba if new.mbfc else 0
        if disabled and self.device is not None:
            self.device.subchannel_disabled()

    def accept_start(self, orb: Orb) -> None:
        """Become start pending for `orb`."""
        self.turn += 1
        self.orb = orb
        self.program = None
        self.fctl, self.actl, self.stctl = _START, int(Actl.START_PENDING), 0
        self.cc = self.dstat = self.cstat = self.count = 0
        self.pno = self.zcc = self.found_busy = False
        self.logout = None
        self._no_sense()
        lpm = orb.lpm if self.model.start_replaces_lpm else self.pmcw.lpm
        pmcw = self.pmcw
        if orb.intparm != pmcw.intparm or lpm != pmcw.lpm or pmcw.pnom:
            self.pmcw = replace(pmcw, intparm=orb.intparm, lpm=lpm, pnom=0)

    def activate(self, program: ChannelProgram, path: int) -> None:
        """Begin to perform the start function on the path of the one-bit mask `path`."""
        self.program = program
        self.actl = _ACTIVE | self.actl & _RESUME_PENDING
        self.last_path = path
        if self.model.start_notes_path:
            self._note_path(path)

    def path_not_operational(self, path: int) -> None:
        """End the start function with deferred condition code 3; `path` is the mask of dead paths that were tried."""
        self.cc = 3
        self.stctl = _ALERT | _PENDING
        if path:
            self.pno = True
            self.pmcw = replace(self.pmcw, pnom=self.pmcw.pnom | path, pom=self.pmcw.pom & ~path)

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

    def end_halt(self) -> None:
        """Finish the halt function."""
        if self.actl & _ACTIVE:
            self.stctl = _ENDING
            self.dstat = int(Dstat.CHANNEL_END | Dstat.DEVICE_END)
        else:
            # With no program active there was nothing to halt at the device.
            self.stctl = _PENDING
            if not self.model.idle_halt_keeps_status:
                self.dstat = 0 if self.fctl & _START else int(Dstat.DEVICE_END)
        self.cstat = 0
        self.actl = 0
        self._forget_program()
        self._note_path(self._signal_path())

    def end_clear(self) -> None:
        """Finish the clear function: everything but the function itself is forgotten."""
        self.actl = 0
        self.stctl = _PENDING
        self.pmcw = replace(self.pmcw, pnom=0)
        self._note_path(0 if self.model.start_notes_path else self._signal_path())
        self.pno = False
        self.dstat = self.cstat = 0
        self._forget_program()
        if self.model.clear_keeps_start_fields:
            return
        self.cpa = self.count = self.cc = 0
        self.orb = None

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
            if self.pmcw.csense and device.concurrent_sense:
                self.ecw = device.full_sense(sense)
                self.erw = erw_concurrent_sense(len(self.ecw))
            else:
                device.pending_sense = sense

    def test(self) -> Irb:
        """The IRB as TSCH stores it; a pending status is then cleared as the architecture says."""
        esw = bytes(ESW_SIZE)
        if self.logout is not None:
            esw = subchannel_logout(self.logout, self._signal_path(), self.erw).to_bytes()
        elif self.pending or self.last_path:
            path = self._signal_path()
            esw = path.to_bytes(2, "big") + bytes(2) + self.erw.to_bytes(4, "big") + bytes(12)
        irb = Irb(self.scsw(), esw, self.ecw)
        if not self.pending:
            return irb
        intermediate = self.stctl == _INTERMEDIATE_PENDING
        self.stctl = 0
        self.pno = self.zcc = False
        self.logout = None
        if not intermediate:
            self.fctl = 0
            self.actl &= _DEVICE_ACTIVE
        elif self.actl & _SUSPENDED:
            self.actl &= ~_RESUME_PENDING
            if self.fctl & _HALT:
                self.fctl = self.actl = 0
        if intermediate:
            self.cstat = 0
        self._no_sense()
        return irb

    def _signal_path(self) -> int:
        """The path that a halt or clear signal goes over: the last one used, else the first installed."""
        installed = self.pmcw.pim
        return self.last_path or (1 << installed.bit_length() - 1 if installed else 0)

    def _note_path(self, path: int) -> None:
        if self.pmcw.lpum != path:
            self.pmcw = replace(self.pmcw, lpum=path)

    def _no_sense(self) -> None:
        if self.erw:
            self.erw = 0
            self.ecw = _NO_SENSE

    def __str__(self) -> str:
        return f"{self.config}; {self.scsw()}"
