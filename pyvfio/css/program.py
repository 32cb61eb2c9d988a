"""Channel programs as a whole: build them, lay them out, print them.

`Program` collects CCWs and lays them out at one address.  Data areas belong to the caller; an address is whatever
the channel will use (an IOVA for vfio-ccw).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pyvfio.css.ccw import CCW_SIZE, NO_FLAGS, Ccw, CcwFlag, Command
from pyvfio.css.layout import BytesLike
from pyvfio.css.orb import Orb
from pyvfio.errors import Misuse

__all__ = ["Program", "disassemble"]


class Program:
    """A channel program of consecutive CCWs that begins at `address` (doubleword aligned).

    >>> program = Program(0x11000)
    >>> _ = program.add(Command.NOP, CcwFlag.SLI, 1, 0x20000).add(Command.SENSE_ID, CcwFlag.SLI, 64, 0x20000)
    >>> print(program)
    0x11000: NOP  03 CC SLI count=1 @0x20000
    0x11008: SENSE ID  e4 SLI count=64 @0x20000
    """

    def __init__(self, address: int, fmt: int = 1) -> None:
        if address % CCW_SIZE:
            raise Misuse("build channel program", f"{address:#x}", cause="a CCW lies on a doubleword boundary")
        self.address = address
        self.fmt = fmt
        self._ccws: list[Ccw] = []

    def add(self, cmd: int, flags: CcwFlag = NO_FLAGS, count: int = 0, cda: int = 0) -> Self:
        """Append a command; the one before it gets the command-chaining flag unless it chains data or is a TIC."""
        if self._ccws:
            last = self._ccws[-1]
            if not last.chained and not last.is_tic:
                self._ccws[-1] = Ccw(last.cmd, last.flags | CcwFlag.CC, last.count, last.cda, self.fmt)
        self._ccws.append(Ccw(cmd, flags, count, cda, self.fmt))
        return self

    def tic(self, target: int) -> Self:
        """Append a transfer in channel to the absolute address `target`."""
        return self.add(Command.TIC, NO_FLAGS, 0, target)

    @property
    def next_address(self) -> int:
        """Where the next CCW will lie."""
        return self.address + len(self._ccws) * CCW_SIZE

    def orb(self, *, intparm: int = 0, lpm: int = 0xFF, pfch: bool = True, c64: bool = True, key: int = 0) -> Orb:
        """The ORB that starts this program (format-2 IDAWs of 4 KiB unless `c64` is off)."""
        return Orb(intparm=intparm, key=key, fmt=self.fmt, pfch=pfch, c64=c64, lpm=lpm, cpa=self.address)

    def to_bytes(self) -> bytes:
        """The CCWs, 8 bytes each, to be put at `address`."""
        return b"".join(ccw.to_bytes() for ccw in self._ccws)

    def __iter__(self) -> Iterator[Ccw]:
        return iter(self._ccws)

    def __len__(self) -> int:
        return len(self._ccws)

    def __str__(self) -> str:
        return "\n".join(disassemble(self.to_bytes(), self.address, self.fmt))


def disassemble(data: BytesLike, address: int = 0, fmt: int = 1) -> list[str]:
    """Print CCWs, one line each, up to the last that chaining reaches without following a TIC.

    A TIC that jumps back into the lines already printed is passed over, as after a search; any other ends the list.
    An incomplete CCW at the end is shown as bytes.
    """
    raw = bytes(data)
    lines: list[str] = []
    for offset in range(0, len(raw), CCW_SIZE):
        piece = raw[offset : offset + CCW_SIZE]
        here = f"{address + offset:#x}: "
        if len(piece) < CCW_SIZE:
            lines.append(f"{here}incomplete: {piece.hex()}")
            break
        ccw = Ccw.from_bytes(piece, fmt)
        lines.append(f"{here}{ccw}")
        if ccw.is_tic:
            if not address <= ccw.cda <= address + offset:
                break
        elif not ccw.chained:
            break
    return lines
