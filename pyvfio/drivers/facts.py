"""What the DASD drivers have in common: the disk's facts, and what comes before and after a program."""

from __future__ import annotations

from pyvfio.ccw import CcwDevice
from pyvfio.channel_program import ProgramResult, Read
from pyvfio.css.ccw import CcwFlag
from pyvfio.css.commands import Command
from pyvfio.css.senseid import SenseId
from pyvfio.drivers.channel import Channel, as_channel
from pyvfio.drivers.characteristics import Characteristics, Configuration
from pyvfio.drivers.features import Features
from pyvfio.drivers.label import VolumeLabel
from pyvfio.drivers.layout import DiskLayout
from pyvfio.drivers.operations import DiskWork
from pyvfio.drivers.path_group import GROUP_SIZE, PathGroup
from pyvfio.drivers.programs import LARGEST_TRACK, MOST_TRACKS, sense_path_group
from pyvfio.drivers.retries import Retries, reserved_elsewhere
from pyvfio.drivers.sense import SENSE_SIZE
from pyvfio.drivers.work import Request
from pyvfio.errors import DeviceBusy, Misuse, NotAvailable

__all__ = ["DRIVER", "SENSE", "SENSE_GROUP", "DasdFacts"]

DRIVER = "dasd-eckd"
SENSE = [Read(Command.SENSE, SENSE_SIZE, CcwFlag.SLI)]
SENSE_GROUP = sense_path_group()
_PROGRAM_ROOM = 1 << 16
_ALL_PATHS = 0xFF


class DasdFacts:
    """The disk behind `channel`, which stays the caller's to close.

    A program has `timeout` seconds; one that fails for a passing reason is started `retries` times again, one that
    finds the device busy or not ready for `patience` seconds.  With `path_group` (default) its paths are made one
    group, so that a reservation holds for all of them; it is dissolved at the end.
    """

    def __init__(
        self,
        channel: CcwDevice | Channel,
        *,
        name: str = "",
        timeout: float = 30.0,
        retries: int = 5,
        patience: float = 10.0,
        path_group: bool = True,
    ) -> None:
        self.channel = as_channel(channel)
        self.work = DiskWork(name or self.channel.name)
        self.timeout, self.retries, self.patience = timeout, retries, patience
        self.path_group = path_group

    # -- how programs run ----------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self.channel.prepare(_PROGRAM_ROOM + MOST_TRACKS * LARGEST_TRACK)

    def _installed(self) -> int:
        """The mask of paths that can be used; all when the subchannel cannot be asked."""
        try:
            pmcw = self.channel.schib().pmcw
        except NotAvailable:
            return _ALL_PATHS
        return pmcw.pim & pmcw.pam or 0x80

    def _tries(self) -> Retries:
        return Retries(self.retries, self.patience)

    def _lpm(self, request: Request, tries: Retries) -> int:
        """On which paths the request is started.  Raise `Misuse` when there is no memory for it."""
        if not self.channel.is_prepared:
            raise Misuse(request.words, self.work.name, cause="the disk is closed or was never set online")
        if request.firm:
            return request.lpm
        return tries.paths(request.lpm & (self.work.paths or _ALL_PATHS) or request.lpm)

    def _held(self, request: Request, came: ProgramResult) -> DeviceBusy | None:
        """Why a program did not end in time: SENSE PATH GROUP ID may say that another system has the disk."""
        if not came.scsw.ok or len(came.data) != GROUP_SIZE:
            return None
        if not PathGroup.from_bytes(came.data).is_reserved_elsewhere:
            return None
        return reserved_elsewhere(request.words, self.work.name, self.timeout)

    def _checked(self, request: Request, came: ProgramResult, tries: Retries) -> ProgramResult:
        if request.check and not came.scsw.ok:
            raise tries.error(request.words, self.work.name, came.irb)
        return came

    # -- what the disk is ----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What errors call the disk."""
        return self.work.name

    @property
    def sense_id(self) -> SenseId:
        """Types and models of control unit and device."""
        return self.work.sense_id

    @property
    def characteristics(self) -> Characteristics:
        """The geometry.  Raise `Misuse` before `online`."""
        return self.work.disk

    @property
    def configuration(self) -> Configuration | None:
        """Maker, serial number and address: the identity of the disk."""
        return self.work.configuration

    @property
    def features(self) -> Features:
        """What the storage control can do."""
        return self.work.features

    @property
    def paths(self) -> int:
        """The mask of the paths that lead to this disk and work."""
        return self.work.paths

    @property
    def layout(self) -> DiskLayout | None:
        """The disk layout of Linux, None when it is not formatted so."""
        return self.work.layout

    @property
    def label(self) -> VolumeLabel | None:
        """The volume label, None when there is none."""
        return self.work.label
