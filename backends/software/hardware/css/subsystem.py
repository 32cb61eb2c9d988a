"""The channel subsystem: subchannels, channel paths, and the instructions on them.

All work that an instruction starts is queued with `schedule`, never done inside the instruction, so whoever calls
decides when time passes.  Nothing here uses threads or looks at a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from pyvfio.address import SubchannelId
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.css.instructions import OperandException, Storage
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Schib, SubchannelType
from pyvfio.css.scsw import Actl, Fctl, Stctl
from pyvfio.errors import Misuse, NotModelled
from pyvfio_backends.software.hardware.css.config import ChannelPath, SubchannelConfig
from pyvfio_backends.software.hardware.css.engine import ChannelProgram, Outcome
from pyvfio_backends.software.hardware.css.model import MAINFRAME, CssModel
from pyvfio_backends.software.hardware.css.subchannel import Subchannel

__all__ = ["ChannelSubsystemHardware"]

#: CCWs that a program may run before others get their turn, and the time that such a slice takes on the machine.
_SLICE: Final = 4 * 1024
_SLICE_SECONDS: Final = 0.001

_START: Final = int(Fctl.START)
_HALT: Final = int(Fctl.HALT)
_CLEAR: Final = int(Fctl.CLEAR)
_NOT_YET_ACTIVE: Final = int(Actl.START_PENDING | Actl.RESUME_PENDING | Actl.SUSPENDED)
_ENDED: Final = int(Stctl.PRIMARY | Stctl.SECONDARY | Stctl.ALERT)
_PENDING: Final = int(Stctl.PENDING)

Factory = Callable[[SubchannelId], SubchannelConfig]


class ChannelSubsystemHardware:
    """A channel subsystem (implements `pyvfio.css.ChannelSubsystem`).

    `on_io_interrupt` is called when a status becomes pending on an enabled subchannel, `on_crw` when a channel report
    is queued, `schedule(delay_seconds, function)` to have work done later on the machine's clock.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        on_io_interrupt: Callable[[SubchannelId], None],
        on_crw: Callable[[], None],
        schedule: Callable[[float, Callable[[], None]], None],
        model: CssModel = MAINFRAME,
    ) -> None:
        self.model = model
        self._storage = storage
        self._on_io_interrupt = on_io_interrupt
        self._on_crw = on_crw
        self._schedule = schedule
        self._subchannels: dict[SubchannelId, Subchannel] = {}
        self._ranges: list[tuple[SubchannelId, int, Factory]] = []
        self._removed: set[SubchannelId] = set()
        self._paths: dict[tuple[int, int], ChannelPath] = {}
        self._requests: dict[SubchannelId, int] = {}
        self._reports: deque[Crw] = deque()

    # -- configuration -------------------------------------------------------------------------------------------

    def add_subchannel(self, config: SubchannelConfig, *, report: bool = False) -> None:
        """Provide a subchannel; with `report`, a channel report says so.  Raise `Misuse` when the id is taken."""
        if self._find(config.schid) is not None:
            raise Misuse("add subchannel", str(config.schid), cause="there is one with this id already")
        self._removed.discard(config.schid)
        self._subchannels[config.schid] = Subchannel(config, self.model)
        if report:
            self._report_subchannel(config.schid)

    def add_range(self, first: SubchannelId, count: int, factory: Factory) -> None:
        """Provide `count` subchannels from `first` on; `factory` is called for each on its first use only."""
        if count < 1 or first.number + count > 1 << 16:
            raise Misuse("add subchannels", str(first), cause=f"{count} of them do not fit into the set")
        for other, length, _ in self._ranges:
            same_set = (other.cssid, other.ssid) == (first.cssid, first.ssid)
            if same_set and first.number < other.number + length and other.number < first.number + count:
                raise Misuse("add subchannels", str(first), cause=f"they overlap those from {other} on")
        self._ranges.append((first, count, factory))

    def remove_subchannel(self, schid: SubchannelId) -> None:
        """Take a subchannel away, as when its device is unplugged: not operational from now on, a CRW is queued.

        Raise `Misuse` when there is none.
        """
        subchannel = self._find(schid)
        if subchannel is None:
            raise Misuse("remove subchannel", str(schid), cause="there is no such subchannel")
        subchannel.turn += 1
        self._subchannels.pop(schid, None)
        self._removed.add(schid)
        self._requests.pop(schid, None)
        self._report_subchannel(schid)

    def schids(self) -> Iterator[SubchannelId]:
        """All subchannels that are provided, in order; building none of them."""
        ids = set(self._subchannels)
        for first, count, _ in self._ranges:
            ids.update(
                SubchannelId(first.cssid, first.ssid, number) for number in range(first.number, first.number + count)
            )
        return iter(sorted(ids - self._removed))

    def config(self, schid: SubchannelId) -> SubchannelConfig:
        """The configuration of a subchannel.  Raise `Misuse` when there is none."""
        subchannel = self._find(schid)
        if subchannel is None:
            raise Misuse("look up subchannel", str(schid), cause="there is no such subchannel")
        return subchannel.config

    def add_path(self, path: ChannelPath) -> None:
        """Describe a channel path."""
        self._paths[path.cssid, path.chpid] = path

    def paths(self) -> list[ChannelPath]:
        """All described channel paths, in order of css image and CHPID."""
        return [self._paths[key] for key in sorted(self._paths)]

    def set_path_online(self, cssid: int, chpid: int, online: bool) -> None:
        """Configure a channel path on or off: its path-available bits follow, a CRW is queued.  Raise `Misuse`."""
        path = self._paths.get((cssid, chpid))
        if path is None:
            raise Misuse("set channel path", f"{cssid:x}.{chpid:02x}", cause="there is no such channel path")
        if path.online == online:
            return
        path.online = online
        for schid, subchannel in self._subchannels.items():
            if schid.cssid == cssid:
                mask = self._path_mask(subchannel, chpid)
                pam = subchannel.pmcw.pam | mask if online else subchannel.pmcw.pam & ~mask
                subchannel.pmcw = replace(subchannel.pmcw, pam=pam)
        erc = ErrorRecovery.INITIALIZED if online else ErrorRecovery.PERMANENT_ERROR
        self._report(Crw(rsc=ReportingSource.CHANNEL_PATH, erc=erc, rsid=chpid))

    def present_status(self, schid: SubchannelId, dstat: int) -> None:
        """Present an unsolicited device status (attention); it waits while the subchannel is busy."""
        subchannel = self._find(schid)
        if subchannel is not None and subchannel.operational:
            subchannel.attention.append(dstat)
            self._schedule(0.0, lambda: self._present(subchannel))

    # -- instructions --------------------------------------------------------------------------------------------

    def stsch(self, schid: SubchannelId) -> tuple[int, Schib | None]:
        """STORE SUBCHANNEL: see `pyvfio.css.ChannelSubsystem`."""
        subchannel = self._find(schid)
        return (3, None) if subchannel is None else (0, subchannel.schib())

    def msch(self, schid: SubchannelId, schib: Schib) -> int:
        """MODIFY SUBCHANNEL.  Raise `OperandException`."""
        subchannel = self._find(schid)
        if subchannel is None:
            return 3
        if subchannel.pending:
            return 1
        if subchannel.fctl:
            return 2
        subchannel.modify(schib)
        return 0

    def ssch(self, schid: SubchannelId, orb: Orb) -> int:
        """START SUBCHANNEL.  Raise `OperandException`, or `NotModelled` for other than I/O subchannels."""
        problem = orb.problem or ("transport mode is not installed" if orb.tm else "")
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
        device = subchannel.config.device
        self._later(subchannel, self._start, device.latency if device is not None else 0.0)
        return 0

    def tsch(self, schid: SubchannelId) -> tuple[int, Irb]:
        """TEST SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3, Irb()
        cc = 0 if subchannel.pending else 1
        irb = subchannel.test()
        self._requests.pop(schid, None)
        if subchannel.attention:
            self._schedule(0.0, lambda: self._present(subchannel))
        return cc, irb

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
        self._requests.pop(schid, None)
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
        if subchannel.fctl != _START or not subchannel.actl & _NOT_YET_ACTIVE:
            return 2
        subchannel.turn += 1
        subchannel.fctl = subchannel.actl = 0
        subchannel.program = None
        return 0

    def tpi(self) -> SubchannelId | None:
        """TEST PENDING INTERRUPTION: lower subclass numbers first, then in the order of arrival."""
        if not self._requests:
            return None
        schid = min(self._requests, key=self._requests.__getitem__)
        del self._requests[schid]
        return schid

    def stcrw(self) -> Crw | None:
        """STORE CHANNEL REPORT WORD."""
        return self._reports.popleft() if self._reports else None

    # -- the functions -------------------------------------------------------------------------------------------

    def _start(self, subchannel: Subchannel) -> None:
        orb = subchannel.orb
        device = subchannel.config.device
        if orb is None:
            return
        available = orb.lpm & subchannel.pmcw.pam
        if not available or device is None:
            subchannel.path_not_operational(available)
            self._interrupt(subchannel)
            return
        program = ChannelProgram(self._storage, device, orb, pci_interrupts=self.model.pci_interruptions)
        subchannel.activate(program, 1 << available.bit_length() - 1)
        self._run(subchannel)

    def _run(self, subchannel: Subchannel) -> None:
        program = subchannel.program
        if program is None:
            return
        turn = subchannel.turn
        outcome = program.run(_SLICE)
        if turn != subchannel.turn:
            return
        if outcome is Outcome.ENDED:
            subchannel.program_status(program.status)
            self._interrupt(subchannel)
        elif outcome is Outcome.SUSPENDED:
            orb = subchannel.orb
            wanted = self.model.suspended_interruptions and orb is not None and not orb.ssic
            if subchannel.intermediate(program.status, suspended=True, interrupt=wanted):
                self._interrupt(subchannel)
            if subchannel.actl & int(Actl.RESUME_PENDING):
                self._later(subchannel, self._resume)
        elif outcome is Outcome.PCI:
            subchannel.intermediate(program.status, suspended=False, interrupt=True)
            self._later(subchannel, self._run)
            self._interrupt(subchannel)
        else:
            subchannel.cpa = program.status.cpa
            self._later(subchannel, self._run, _SLICE_SECONDS)

    def _resume(self, subchannel: Subchannel) -> None:
        subchannel.actl = int(Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE)
        self._run(subchannel)

    def _halt(self, subchannel: Subchannel) -> None:
        subchannel.end_halt()
        self._interrupt(subchannel)

    def _clear(self, subchannel: Subchannel) -> None:
        if subchannel.config.device is not None:
            subchannel.config.device.cleared()
        subchannel.end_clear()
        self._interrupt(subchannel)

    def _present(self, subchannel: Subchannel) -> None:
        if subchannel.attention and subchannel.operational and not subchannel.fctl and not subchannel.pending:
            subchannel.alert(subchannel.attention.pop(0))
            self._interrupt(subchannel)

    # -- small parts ---------------------------------------------------------------------------------------------

    def _later(self, subchannel: Subchannel, function: Callable[[Subchannel], None], delay: float = 0.0) -> None:
        """Have `function` called, unless another function was accepted meanwhile."""
        turn = subchannel.turn

        def work() -> None:
            if subchannel.turn == turn:
                function(subchannel)

        self._schedule(delay, work)

    def _find(self, schid: SubchannelId) -> Subchannel | None:
        found = self._subchannels.get(schid)
        if found is None and self._ranges and schid not in self._removed:
            for first, count, factory in self._ranges:
                inside = first.number <= schid.number < first.number + count
                if inside and (first.cssid, first.ssid) == (schid.cssid, schid.ssid):
                    found = self._subchannels[schid] = Subchannel(factory(schid), self.model)
                    self._match_paths(found)
                    break
        return found

    def _match_paths(self, subchannel: Subchannel) -> None:
        """Take the paths that are offline out of a subchannel that is built late."""
        for (cssid, chpid), path in self._paths.items():
            if not path.online and cssid == subchannel.schid.cssid:
                mask = self._path_mask(subchannel, chpid)
                subchannel.pmcw = replace(subchannel.pmcw, pam=subchannel.pmcw.pam & ~mask)

    @staticmethod
    def _path_mask(subchannel: Subchannel, chpid: int) -> int:
        """The path-mask bits of a CHPID, as far as the paths are installed."""
        mask = 0
        for position, number in enumerate(subchannel.config.chpids):
            if number == chpid:
                mask |= 0x80 >> position
        return mask & subchannel.pmcw.pim

    def _operational(self, schid: SubchannelId) -> Subchannel | None:
        subchannel = self._find(schid)
        return subchannel if subchannel is not None and subchannel.operational else None

    def _interrupt(self, subchannel: Subchannel) -> None:
        if subchannel.pmcw.ena:
            self._requests[subchannel.schid] = subchannel.pmcw.isc
            self._on_io_interrupt(subchannel.schid)

    def _report(self, *words: Crw) -> None:
        self._reports.extend(words)
        self._on_crw()

    def _report_subchannel(self, schid: SubchannelId) -> None:
        """Queue the CRW of a subchannel; outside css 0 and set 0 a second, chained one carries image and set."""
        chained = bool(schid.cssid or schid.ssid)
        first = Crw(
            rsc=ReportingSource.SUBCHANNEL,
            erc=ErrorRecovery.PARAMETERS_INITIALIZED,
            rsid=schid.number,
            chn=chained,
        )
        if chained:
            rsid = schid.cssid << 8 | schid.ssid << 4
            self._report(first, replace(first, chn=False, rsid=rsid))
        else:
            self._report(first)

    def __str__(self) -> str:
        return f"{self.model} with {sum(1 for _ in self.schids())} subchannels, {len(self._paths)} channel paths"
