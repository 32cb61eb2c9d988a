"""A subchannel as a guest sees it: what it may set itself, and a status that waits for TEST SUBCHANNEL.

Whose the parts of the SCHIB are::

    the guest's     intparm, isc, ena, lm, mme, mp, lpm, mbi, mbfc, xmwme, csense, mba, device number
    the host's      pim, pam, pom, pnom, lpum, CHPIDs, qf, tf, st              (stored anew by each STSCH)
    kept here       the subchannel-status word

vfio-ccw owns the host's subchannel: it enables it, sets its subclass and takes its status at once, so nothing that the
guest modifies goes to the host.  An interruption response is made to fit what the guest asked for: its key, CCW format
and controls, the functions it started, no sense bytes that it did not want, no address of the host.

Source: z/Architecture Principles of Operation, "TEST SUBCHANNEL" and "Control of Subchannel Status";
``drivers/s390/cio/vfio_ccw_drv.c``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from pyvfio.address import SubchannelId
from pyvfio.css.esw import ESW_SIZE
from pyvfio.css.instructions import OperandException
from pyvfio.css.irb import ECW_SIZE, Irb
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Pmcw, Schib
from pyvfio.css.scsw import Actl, Cstat, Dstat, Fctl, Scsw, Stctl

__all__ = ["GuestSubchannel"]

_ENDED: Final = Stctl.PRIMARY | Stctl.SECONDARY | Stctl.PENDING
_INTERMEDIATE: Final = Stctl.INTERMEDIATE | Stctl.PENDING
_NO_LIMIT_MODE: Final = 3
_USUAL: Final = Dstat.CHANNEL_END | Dstat.DEVICE_END
_RUNNING: Final = Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE
_NO_DSTAT: Final = Dstat(0)
_NO_CSTAT: Final = Cstat(0)


class GuestSubchannel:
    """Subchannel `schid` of a guest, with the device number `devno` there; `pmcw` and `mba` are of its SCHIB."""

    def __init__(self, schid: SubchannelId, devno: int, host: Schib) -> None:
        self.schid = schid
        self.devno = devno
        self.reset(host)

    def reset(self, host: Schib) -> None:
        """Be as after a subsystem reset: disabled, all of the host's paths, no status."""
        self.pmcw = Pmcw(lpm=host.pmcw.pim, dnv=True, devno=self.devno)
        self.mba = 0
        self.orb: Orb | None = None
        self._irb = Irb()
        self._alerts: deque[Irb] = deque()
        self._sense = b""
        self.refresh(host)

    # what is the case

    @property
    def scsw(self) -> Scsw:
        """The status word of now."""
        return self._irb.scsw

    @property
    def pending(self) -> bool:
        """Whether a status is pending."""
        return bool(self.scsw.stctl & Stctl.PENDING)

    @property
    def fctl(self) -> Fctl:
        """The functions that were accepted and whose status was not taken."""
        return self.scsw.fctl

    def schib(self) -> Schib:
        """The block that STSCH stores."""
        return Schib(self.pmcw, self.scsw, self.mba)

    def refresh(self, host: Schib) -> None:
        """Take over what is the host's."""
        new = host.pmcw
        self.pmcw = replace(
            self.pmcw, pim=new.pim, pam=new.pam, pom=new.pom, pnom=new.pnom, lpum=new.lpum, chpid=new.chpid,
            qf=new.qf, tf=new.tf, st=new.st,
        )  # fmt: skip
        scsw, running = self.scsw, host.scsw.actl & _RUNNING
        if scsw.actl == Actl.START_PENDING and not self.pending and running and host.scsw.fctl == Fctl.START:
            self._set(replace(scsw, actl=running))

    def modify(self, schib: Schib) -> None:
        """Take over what MSCH may change.  Raise `OperandException` on bits that must be zero."""
        new = schib.pmcw
        if new.res5 or new.res_hi or new.res_lo or new.lm == _NO_LIMIT_MODE:
            raise OperandException(
                "modify subchannel", str(self.schid), cause="the SCHIB has a bit on that must be zero"
            )
        self.pmcw = replace(
            self.pmcw, intparm=new.intparm, isc=new.isc, ena=new.ena, lm=new.lm, mme=new.mme, mp=new.mp, lpm=new.lpm,
            mbi=new.mbi, mbfc=new.mbfc, xmwme=new.xmwme, csense=new.csense,
        )  # fmt: skip
        self.mba = schib.mba if new.mbfc else 0
        if not new.ena:
            self._alerts.clear()

    # functions that the host accepted

    def accept_start(self, orb: Orb) -> None:
        """Become start pending."""
        self.orb = orb
        self.pmcw = replace(self.pmcw, intparm=orb.intparm, lpm=orb.lpm)
        self._irb = Irb(
            Scsw(
                key=orb.key, sctl=orb.spnd, fmt=orb.fmt, pfch=orb.pfch, isic=orb.isic, alcc=orb.alcc, ssi=orb.ssic,
                fctl=Fctl.START, actl=Actl.START_PENDING, cpa=self.scsw.cpa,
            ),
            self._path_only(),
        )  # fmt: skip

    def accept_halt(self) -> None:
        """Become halt pending."""
        scsw = self.scsw
        self._set(replace(scsw, fctl=scsw.fctl | Fctl.HALT, actl=scsw.actl | Actl.HALT_PENDING))

    def accept_clear(self) -> None:
        """Become clear pending; a status that was pending is gone."""
        self._set(replace(self.scsw, fctl=Fctl.CLEAR, actl=Actl.CLEAR_PENDING, stctl=Stctl(0)))

    # what the host reports

    def take(self, irb: Irb) -> bool:
        """Take the host's interruption response; whether a status became pending by it.

        An unsolicited status waits until no function is under way.  The end of a program which the guest has halted or
        cleared meanwhile is passed over, as the status of the halt or clear follows.  The host halts the subchannel
        when it loses the path last used: this is an interface-control check for a program, else nothing.
        """
        scsw, fctl = irb.scsw, self.fctl
        if not scsw.is_solicited:
            if self.pmcw.ena:
                self._alerts.append(irb)
            return self.present_alert()
        asked = fctl & (Fctl.HALT | Fctl.CLEAR)
        done = scsw.fctl & (Fctl.HALT | Fctl.CLEAR)
        if (asked and not done) or (not fctl and (done or scsw.stctl & Stctl.PRIMARY)):
            return False
        if done and not done & asked:
            self.end(cpa=self.scsw.cpa, cstat=Cstat.INTERFACE_CONTROL_CHECK)
            return True
        self._irb = self._fitted(irb)
        return True

    def take_sense(self) -> bytes:
        """The sense bytes that the guest did not want with the status of the last program; they are then forgotten."""
        sense, self._sense = self._sense, b""
        return sense

    def present_alert(self) -> bool:
        """Make an unsolicited status that waits pending, if that can be now; whether one became pending."""
        if not self._alerts or self.fctl or self.pending:
            return False
        irb = self._alerts.popleft()
        self._irb = replace(irb, scsw=replace(self._controls(irb.scsw), cpa=self.scsw.cpa))
        return True

    def end(
        self, *, cc: int = 0, cpa: int = 0, dstat: Dstat = _NO_DSTAT, cstat: Cstat = _NO_CSTAT, count: int = 0
    ) -> None:
        """End the start function with a status of the hypervisor's own; `cc` is a deferred condition code."""
        unusual = bool(cstat or dstat & ~_USUAL or not dstat)
        stctl = Stctl.ALERT | Stctl.PENDING if cc else _ENDED | (Stctl.ALERT if unusual else Stctl(0))
        self._set(
            replace(
                self.scsw, cc=cc, cpa=cpa, dstat=dstat, cstat=cstat, count=count, actl=Actl(0), stctl=stctl,
            )
        )  # fmt: skip

    def _fitted(self, irb: Irb) -> Irb:
        """The host's response as an answer to what the guest asked for."""
        host, before = irb.scsw, self.scsw
        fctl = before.fctl or host.fctl
        new = replace(self._controls(host), fctl=fctl)
        if fctl & Fctl.HALT and not host.fctl & Fctl.START:
            # The address is that of the host's last program, whoever's that was.
            new = replace(new, cpa=before.cpa, count=before.count)
        if before.stctl & Stctl.PENDING:
            new = self._merged(before, new)
        if new.ectl and not self.pmcw.csense:
            self._sense = irb.sense
            new = replace(new, ectl=False)
            return Irb(new, irb.esw[:4] + bytes(ESW_SIZE - 4), bytes(ECW_SIZE), irb.emw)
        return replace(irb, scsw=new)

    def _controls(self, host: Scsw) -> Scsw:
        """A status word with the guest's controls, where it has those of a program: the host's has CCW format 1."""
        orb = self.orb
        if not host.fmt or orb is None:
            return replace(host, key=0, sctl=False, fmt=0, pfch=False, isic=False, alcc=False, ssi=False)
        return replace(
            host, key=orb.key, sctl=host.sctl and orb.spnd, fmt=orb.fmt, pfch=host.pfch and orb.pfch, isic=orb.isic,
            alcc=orb.alcc, ssi=orb.ssic,
        )  # fmt: skip

    @staticmethod
    def _merged(before: Scsw, new: Scsw) -> Scsw:
        """A status that comes while one is pending: a PCI is kept, and what came with channel end."""
        new = replace(new, stctl=new.stctl | before.stctl, cstat=new.cstat | before.cstat & Cstat.PCI)
        if before.stctl & Stctl.PRIMARY:
            new = replace(
                new, dstat=new.dstat | before.dstat, cstat=new.cstat | before.cstat, cpa=before.cpa, count=before.count
            )
        return new

    # TEST SUBCHANNEL

    def test(self) -> Irb:
        """The IRB as TSCH stores it; a pending status is then cleared as the architecture says."""
        irb, scsw = self._irb, self.scsw
        if not self.pending:
            return irb
        intermediate = scsw.stctl == _INTERMEDIATE
        after = replace(scsw, stctl=Stctl(0), pno=False, ectl=False)
        if not intermediate:
            after = replace(after, fctl=Fctl(0), actl=scsw.actl & Actl.DEVICE_ACTIVE)
        elif scsw.actl & Actl.SUSPENDED and scsw.fctl & Fctl.HALT:
            after = replace(after, fctl=Fctl(0), actl=Actl(0), cstat=Cstat(0))
        else:
            after = replace(after, cstat=Cstat(0))
        self._irb = Irb(after, self._path_only())
        return irb

    def _path_only(self) -> bytes:
        """An ESW with nothing but the last path used."""
        return self._irb.esw[:2] + bytes(ESW_SIZE - 2)

    def _set(self, scsw: Scsw) -> None:
        self._irb = replace(self._irb, scsw=scsw)

    def __str__(self) -> str:
        return f"subchannel {self.schid} device {self.devno:04x}: {self.pmcw}; {self.scsw}"
