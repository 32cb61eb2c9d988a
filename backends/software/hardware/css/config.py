"""What a machine has: subchannels and channel paths, as its configuration describes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyvfio.address import SubchannelId
from pyvfio.css.chsc_measurement import MeasurementCharacteristics
from pyvfio.css.chsc_paths import PathDescription
from pyvfio.css.layout import check_range
from pyvfio.css.schib import SubchannelType
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.controlunit import ControlUnit

__all__ = ["ChannelPath", "SubchannelConfig"]

_UTILITY: int = 64


@dataclass(slots=True)
class ChannelPath:
    """A channel path: CHPID (8 bits) in a css image, its type as Linux shows it (0x1b FICON, 0x32 virtio), state.

    ``online``    it is configured; otherwise standby, and not available to any subchannel
    ``works``     off: it says that it is available, but no device answers on it
    ``shared``    several partitions use it
    ``cmg``       channel-measurement group, None: not told
    ``speed``     bit/s, a multiple of 10 ** 8
    ``chid``      the physical channel's id (16 bits), None: not told
    ``switch``    logical switch number and link address of its port there, (0, 0): none
    ``utility``   at most 64 bytes of text (EBCDIC, as the machine's operator wrote it)
    """

    chpid: int
    type: int = 0x1B
    online: bool = True
    cssid: int = 0
    works: bool = True
    shared: bool = False
    cmg: int | None = None
    speed: int = 0
    chid: int | None = None
    switch: tuple[int, int] = (0, 0)
    utility: bytes = b""

    def description(self) -> PathDescription:
        """The path as CHSC describes it."""
        return PathDescription(
            self.chpid,
            self.type,
            lsn=self.switch[0],
            swla=self.switch[1],
            chid=self.chid,
            utility=self.utility.ljust(_UTILITY, b"\0"),
        )

    def measurement(self) -> MeasurementCharacteristics:
        """What CHSC says of its measurement."""
        return MeasurementCharacteristics(
            self.chpid, self.cmg or 0, self.shared, valid=self.cmg is not None, cmgp=8, cmgs=self.speed // 10**8
        )

    def __str__(self) -> str:
        broken = "" if self.works else ", broken"
        state = "online" if self.online else "offline"
        return f"chpid {self.cssid:x}.{self.chpid:02x} type {self.type:02x} {state}{broken}"


@dataclass(frozen=True, slots=True)
class SubchannelConfig:
    """One subchannel: path masks have path 0 leftmost, `chpids` are 8 numbers, `devno` counts for type I/O only.

    `build` makes the device when it is first used, in place of `device`.  `unit_address` and `links` (8 full link
    addresses, 0: none) are where the device is on its paths.  `enabled` is the interruption subclass and parameter
    (32 bits) with which the program has enabled the subchannel already, with concurrent sense; None: it has not.

    Raise `Misuse` when a number does not fit or there are not 8 CHPIDs.
    """

    schid: SubchannelId
    devno: int
    type: SubchannelType = SubchannelType.IO
    chpids: tuple[int, ...] = (0, 0, 0, 0, 0, 0, 0, 0)
    pim: int = 0x80
    pam: int = 0x80
    pom: int = 0xFF
    device: ControlUnit | None = None
    qdio: bool = False
    build: Callable[[], ControlUnit] | None = None
    unit_address: int = 0
    links: tuple[int, ...] = (0, 0, 0, 0, 0, 0, 0, 0)
    enabled: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if len(self.chpids) != 8 or not all(0 <= chpid < 256 for chpid in self.chpids):
            raise Misuse("configure subchannel", str(self.schid), cause="chpids are 8 numbers of 8 bits")
        check_range(
            f"subchannel {self.schid}",
            devno=(self.devno, 16),
            pim=(self.pim, 8),
            pam=(self.pam, 8),
            pom=(self.pom, 8),
            unit_address=(self.unit_address, 8),
        )

    def __str__(self) -> str:
        what = str(self.device) if self.device is not None else "device not built yet" if self.build else "no device"
        return f"subchannel {self.schid} type {int(self.type)} devno {self.devno:04x}: {what}"
