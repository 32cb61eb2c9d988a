"""One subchannel: its path-management control beside its status, and what functions and TSCH make of both."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pyvfio.address import SubchannelId
from pyvfio.css.irb import ESW_SIZE, Irb
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Pmcw, Schib, SubchannelType
from pyvfio.css.scsw import Actl, Dstat, Fctl, Stctl
from pyvfio_backends.software.hardware.css.config import SubchannelConfig
from pyvfio_backends.software.hardware.css.controlunit import ControlUnit
from pyvfio_backends.software.hardware.css.engine import ChannelProgram
from pyvfio_backends.software.hardware.css.logout import subchannel_logout
from pyvfio_backends.software.hardware.css.model import CssModel
from pyvfio_backends.software.hardware.css.status import SubchannelStatus

__all__ = ["Subchannel"]

_PENDING: Final = int(Stctl.PENDING)
_INTERMEDIATE_PENDING: Final = int(Stctl.INTERMEDIATE | Stctl.PENDING)
_ENDING: Final = int(Stctl.PRIMARY | Stctl.SECONDARY | Stctl.PENDING)
_INTERMEDIATE: Final = int(Stctl.INTERMEDIATE)
_ALERT: Final = int(Stctl.ALERT)
_ACTIVE: Final = int(Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE)
_DEVICE_ACTIVE: Final = int(Actl.DEVICE_ACTIVE)
_SUSPENDED: Final = int(Actl.SUSPENDED)
_START: Final = int(Fctl.START)
_HALT: Final = int(Fctl.HALT)
_RESUME_PENDING: Final = int(Actl.RESUME_PENDING)


class Subchannel(SubchannelStatus):
    """The state of one subchannel.  `last_path` is the one-bit mask of the path that was used last."""

    __slots__ = ("_device", "config", "last_path", "mba", "pmcw", "schid")

    def __init__(self, config: SubchannelConfig, model: CssModel) -> None:
        super().__init__(model)
        self.config = config
        self._device: ControlUnit | None = config.device
        self.schid: SubchannelId = config.schid
        enabled = config.enabled is not None
        isc, intparm = config.enabled or (0, 0)
        self.pmcw = Pmcw(
            intparm=intparm,
            isc=isc,
            ena=enabled,
            csense=enabled,
            qf=config.qdio,
            dnv=config.type == SubchannelType.IO,
            w=config.type == SubchannelType.MESSAGE,
            devno=config.devno if config.type == SubchannelType.IO else 0,
            lpm=config.pim,
            pim=config.pim,
            pom=config.pom,
            pam=config.pam,
            chpid=bytes(config.chpids),
            st=int(config.type),
        )
        self.mba = 0
        self.last_path = 0

    @property
    def device(self) -> ControlUnit | None:
        """The control unit, built now if this is its first use."""
        if self._device is None and self.config.build is not None:
            self._device = device = self.config.build()
            device.sense_id_data = device.sense_id_data.ljust(self.model.sense_id_size, b"\0")
            device.virtual = self.model.sense_id_size > 0
        return self._device

    @property
    def senses(self) -> bool:
        """Whether sense bytes come with the status (concurrent sense is on)."""
        return self.pmcw.csense

    @property
    def operational(self) -> bool:
        """Whether functions are accepted: enabled, and with a device number that is valid."""
        return self.pmcw.ena and (self.pmcw.dnv or self.pmcw.st != SubchannelType.IO)

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
        self.count = 0
        if self.model.clear_keeps_start_fields:
            return
        self.cpa = self.cc = 0
        self.orb = None

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

    def __str__(self) -> str:
        return f"{self.config}; {self.scsw()}"
