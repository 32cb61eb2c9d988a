"""What a machine has: subchannels and channel paths, as its configuration describes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyvfio.address import SubchannelId
from pyvfio.css.layout import check_range
from pyvfio.css.schib import SubchannelType
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.controlunit import ControlUnit

__all__ = ["ChannelPath", "SubchannelConfig"]


@dataclass(slots=True)
class ChannelPath:
    """A channel path: CHPID (8 bits) in a css image, its type as Linux shows it (0x1b FICON, 0x32 virtio), state."""

    chpid: int
    type: int = 0x1B
    online: bool = True
    cssid: int = 0

    def __str__(self) -> str:
        return f"chpid {self.cssid:x}.{self.chpid:02x} type {self.type:02x} {'online' if self.online else 'offline'}"


@dataclass(frozen=True, slots=True)
class SubchannelConfig:
    """One subchannel: path masks have path 0 leftmost, `chpids` are 8 numbers, `devno` counts for type I/O only.

    `build` makes the device when it is first used, in place of `device`.

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

    def __post_init__(self) -> None:
        if len(self.chpids) != 8 or not all(0 <= chpid < 256 for chpid in self.chpids):
            raise Misuse("configure subchannel", str(self.schid), cause="chpids are 8 numbers of 8 bits")
        check_range(
            f"subchannel {self.schid}",
            devno=(self.devno, 16),
            pim=(self.pim, 8),
            pam=(self.pam, 8),
            pom=(self.pom, 8),
        )

    def __str__(self) -> str:
        what = str(self.device) if self.device is not None else "device not built yet" if self.build else "no device"
        return f"subchannel {self.schid} type {int(self.type)} devno {self.devno:04x}: {what}"
