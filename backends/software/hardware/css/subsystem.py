"""The channel subsystem: its instructions, which accept or refuse.

All work that an instruction starts is queued with `schedule`, never done inside the instruction, so whoever calls
decides when time passes.  Nothing here uses threads.

Operand exceptions come first, then condition code 3, then 1 (a status is pending), then 2 (busy).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pyvfio.address import SubchannelId
from pyvfio.css.chsc import request_problem
from pyvfio.css.chsc_machine import Facility
from pyvfio.css.crw import Crw, ErrorRecovery
from pyvfio.css.instructions import OperandException, Storage
from pyvfio.css.interruption import ALL_SUBCLASSES, IoInterruption
from pyvfio.css.irb import Irb
from pyvfio.css.measurement import ChannelMonitor
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Pmcw, Schib, SubchannelType
from pyvfio.css.scsw import Actl, Fctl, Stctl
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.css.calls import HardwareCalls
from pyvfio_backends.software.hardware.css.functions import Functions
from pyvfio_backends.software.hardware.css.model import MAINFRAME, CssModel
from pyvfio_backends.software.hardware.css.reports import Reports
from pyvfio_backends.software.hardware.css.subchannel import Subchannel

if TYPE_CHECKING:
    from pyvfio.css.instructions import ChannelSubsystem

__all__ = ["ChannelSubsystemHardware"]

_START: Final = int(Fctl.START)
_HALT: Final = int(Fctl.HALT)
_CLEAR: Final = int(Fctl.CLEAR)
_NOT_YET_ACTIVE: Final = int(Actl.START_PENDING | Actl.RESUME_PENDING | Actl.SUSPENDED)
_SUBCHANNEL_ACTIVE: Final = int(Actl.SUBCHANNEL_ACTIVE)
_ENDED: Final = int(Stctl.PRIMARY | Stctl.SECONDARY | Stctl.ALERT)
_PENDING: Final = int(Stctl.PENDING)
_INTERMEDIATE_PENDING: Final = int(Stctl.INTERMEDIATE | Stctl.PENDING)
_SETS_ENABLED: Final = frozenset((Facility.SUBCHANNEL_SETS,))
_NOBODY: Final = Schib(Pmcw())


class ChannelSubsystemHardware(Functions):
    """A channel subsystem (implements `pyvfio.css.ChannelSubsystem`).

    `on_io_interrupt` is called when a status becomes pending on an enabled subchannel, `on_crw` when a channel report
    is queued, `schedule(delay_seconds, function)` to have work done later on the machine's clock, whose time in seconds
    `now` tells (for measurement).  `enabled` are the facilities that the program has enabled already; `default_image`
    is the css id of what the program sees as image 0.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        on_io_interrupt: Callable[[SubchannelId], None],
        on_crw: Callable[[], None],
        schedule: Callable[[float, Callable[[], None]], None],
        model: CssModel = MAINFRAME,
        now: Callable[[], float] = lambda: 0.0,
        enabled: Collection[Facility] = _SETS_ENABLED,
        default_image: int = 0,
    ) -> None:
        super().__init__(storage, model, Reports(on_crw), enabled, on_io_interrupt, schedule, now)
        self.default_image = default_image
        self._resetting: tuple[int, int] | None = None
        self.calls = HardwareCalls(self)

    # -- what a subchannel is ------------------------------------------------------------------------------------

    def stsch(self, schid: SubchannelId) -> tuple[int, Schib | None]:
        """STORE SUBCHANNEL: see `pyvfio.css.ChannelSubsystem`.

        Where there is no subchannel, but one with a higher number in the same set, it is (0, a SCHIB without a device).
        """
        real = self.designated(schid)
        if real is None:
            return 3, None
        subchannel = self._look(real)
        if subchannel is not None:
            return 0, subchannel.schib()
        return (0, _NOBODY) if self._is_hole(real) else (3, None)

    def msch(self, schid: SubchannelId, schib: Schib) -> int:
        """MODIFY SUBCHANNEL.  Raise `OperandException`."""
        if schib.problem:
            raise OperandException("modify subchannel", str(schid), cause=schib.problem)
        subchannel = self._seen(schid)
        if subchannel is None:
            return 3
        if subchannel.pending:
            return 1
        if subchannel.fctl:
            return 2
        subchannel.modify(schib)
        return 0

    # -- functions -----------------------------------------------------------------------------------------------

    def ssch(self, schid: SubchannelId, orb: Orb) -> int:
        """START SUBCHANNEL.  Raise `OperandException`, or `NotModelled` for other than I/O subchannels."""
        problem = orb.problem or ("transport mode is not installed" if orb.tm else "")
        if orb.mida and not self.model.mida:
            problem = "MIDAWs are not installed"
        if problem:
            raise OperandException("start subchannel", str(schid), cause=problem)
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        if subchannel.pmcw.st != SubchannelType.IO:
            raise NotModelled("start function of a subchannel that is not of type I/O", str(schid))
        if subchannel.pending:
            return 1
        if subchannel.fctl:
            return 2
        if self.model.no_path_is_cc3 and not orb.lpm & subchannel.pmcw.pam:
            return 3
        subchannel.accept_start(orb)
        self._monitor.accepted(subchannel)
        if self._at_start:
            self._accepted(subchannel.schid)
        device = subchannel.device
        self._later(subchannel, self._start, device.latency if device is not None else 0.0)
        return 0

    def hsch(self, schid: SubchannelId) -> int:
        """HALT SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        if subchannel.pending and (subchannel.stctl == _PENDING or subchannel.stctl & _ENDED):
            return 1
        if subchannel.fctl & (_HALT | _CLEAR):
            return 2
        subchannel.turn += 1
        subchannel.fctl |= _HALT
        subchannel.actl |= int(Actl.HALT_PENDING)
        if subchannel.stctl == _INTERMEDIATE_PENDING and subchannel.actl & _SUBCHANNEL_ACTIVE:
            # The intermediate status is not pending any more: it will be part of the one of the halt function.
            subchannel.stctl &= ~_PENDING
            self._interruptions.withdraw(subchannel.schid)
        self._later(subchannel, self._halt)
        return 0

    def csch(self, schid: SubchannelId) -> int:
        """CLEAR SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        subchannel.turn += 1
        subchannel.program = None
        subchannel.fctl, subchannel.actl, subchannel.stctl = _CLEAR, int(Actl.CLEAR_PENDING), 0
        self._interruptions.withdraw(subchannel.schid)
        self._later(subchannel, self._clear)
        return 0

    def rsch(self, schid: SubchannelId) -> int:
        """RESUME SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        if subchannel.pending:
            return 1
        orb = subchannel.orb
        if subchannel.fctl != _START or orb is None or not orb.spnd or subchannel.actl & int(Actl.RESUME_PENDING):
            return 2
        subchannel.actl |= int(Actl.RESUME_PENDING)
        self._monitor.accepted(subchannel)
        if subchannel.actl & int(Actl.SUSPENDED):
            self._later(subchannel, self._resume)
        return 0

    def xsch(self, schid: SubchannelId) -> int:
        """CANCEL SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        if subchannel.pending:
            return 1
        cancellable = subchannel.actl & _NOT_YET_ACTIVE and not subchannel.actl & _SUBCHANNEL_ACTIVE
        if subchannel.fctl != _START or not cancellable:
            return 2
        subchannel.turn += 1
        subchannel.fctl = subchannel.actl = 0
        subchannel.program = None
        self._monitor.forget(subchannel)
        return 0

    # -- status --------------------------------------------------------------------------------------------------

    def tsch(self, schid: SubchannelId) -> tuple[int, Irb]:
        """TEST SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3, Irb()
        cc = 0 if subchannel.pending else 1
        irb = subchannel.test()
        self._interruptions.withdraw(subchannel.schid)
        if subchannel.attention:
            self._sometime(subchannel, self._present)
        return cc, irb

    def tpi(self, iscs: int = ALL_SUBCLASSES) -> IoInterruption | None:
        """TEST PENDING INTERRUPTION: lower subclass numbers first, then in the order of arrival."""
        request = self._interruptions.take(iscs)
        if request is None or not self.default_image:
            return request
        return replace(request, schid=self.shown(request.schid) or request.schid)

    def stcrw(self) -> Crw | None:
        """STORE CHANNEL REPORT WORD."""
        return self._reports.take()

    # -- the channel subsystem itself ----------------------------------------------------------------------------

    def rchp(self, cssid: int, chpid: int) -> int:
        """RESET CHANNEL PATH: functions that use the path end with interface-control check, a CRW says it is done."""
        image = self.image(cssid)
        if image is None:
            raise OperandException("reset channel path", f"{cssid:x}.{chpid:02x}", cause="no such image is enabled")
        path = self.path(image, chpid)
        if path is None or not path.online:
            return 3
        if self._resetting is not None:
            return 2
        self._resetting = image, chpid
        self._schedule(0.0, self._reset_path)
        return 0

    def _reset_path(self) -> None:
        if self._resetting is None:
            return
        (cssid, chpid), self._resetting = self._resetting, None
        path = self.path(cssid, chpid)
        if path is None:
            return
        for subchannel, mask in self._users(path):
            self._path_lost(subchannel, mask)
        erc = ErrorRecovery.INITIALIZED if path.online and path.works else ErrorRecovery.PERMANENT_ERROR
        self._report_path(path, erc, solicited=True)

    def schm(self, monitor: ChannelMonitor) -> None:
        """SET CHANNEL MONITOR.  Raise `OperandException`."""
        if monitor.problem:
            raise OperandException("set channel monitor", cause=monitor.problem)
        self._monitor.set(monitor)

    def chsc(self, request: bytes) -> tuple[int, bytes]:
        """CHANNEL SUBSYSTEM CALL.  Raise `OperandException`."""
        problem = request_problem(request)
        if problem:
            raise OperandException("channel subsystem call", cause=problem)
        return 0, self.calls.answer(request)

    def reset(self) -> None:
        """Reset the whole, as when the program is started anew: every subchannel is as at first, nothing is pending.

        What was configured (paths, subchannels that came or went, broken paths) stays.
        """
        self.disable_facilities()
        self._interruptions.clear()
        self._reports.clear()
        self._monitor.set(ChannelMonitor())
        self._resetting = None
        self.calls = HardwareCalls(self)
        for schid, subchannel in list(self._subchannels.items()):
            subchannel.turn += 1
            device = subchannel.device
            if device is not None:
                device.cleared()
            new = Subchannel(replace(subchannel.config, device=device, build=None), self.model)
            self._subchannels[schid] = self._prepared(new)

    # -- small parts ---------------------------------------------------------------------------------------------

    def _operational(self, schid: SubchannelId) -> Subchannel | None:
        subchannel = self._seen(schid)
        return subchannel if subchannel is not None and subchannel.operational else None

    def __str__(self) -> str:
        return f"{self.model} with {len(self)} subchannels, {len(self._paths)} channel paths"


if TYPE_CHECKING:

    def _implements(css: ChannelSubsystemHardware) -> ChannelSubsystem:
        return css
