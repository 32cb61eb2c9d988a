"""Channel programs as a whole: build them, lay them out, check and print them.

`Program` collects CCWs and lays them out at one address; lists of IDAWs and MIDAWs lie where the caller says.  Data
areas belong to the caller; an address is whatever the channel will use (an IOVA for vfio-ccw).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, Self

from pyvfio.css.ccw import CCW_SIZE, NO_FLAGS, Ccw, CcwFlag
from pyvfio.css.checker import Limits, check
from pyvfio.css.commands import Command
from pyvfio.css.disassembler import disassemble
from pyvfio.css.idaw import Idal
from pyvfio.css.image import Image
from pyvfio.css.instructions import Storage
from pyvfio.css.midaw import midal_over
from pyvfio.css.orb import Orb
from pyvfio.css.rules import Violation
from pyvfio.errors import Misuse

__all__ = ["Area", "Buffer", "Program"]

_READ = 0x02
_WRITE = 0x01
_SEARCH_ID_EQUAL = 0x31
_BUILD = "build channel program"


class Buffer(Protocol):
    """Memory that a device sees, such as `pyvfio.DmaBuffer`."""

    @property
    def iova(self) -> int:
        """Its address for the device."""
        ...

    @property
    def length(self) -> int:
        """Its bytes."""
        ...


Area = Buffer | tuple[int, int]
"""A data area: a buffer (all of it), or (address, bytes)."""


class Program:
    """A channel program of consecutive CCWs that begins at `address` (doubleword aligned).

    Every method that adds a command chains it to the one before.  `then` only makes that readable; `sli`, `skip`,
    `pci` and `suspend` set a flag of the command before them.

    >>> program = Program(0x11000).nop().sli.then.sense_id((0x20000, 64)).sli
    >>> print(program)
    0x11000: NOP  03 CC SLI count=1 @0x0
    0x11008: SENSE ID  e4 SLI count=64 @0x20000
    >>> program.check()
    []
    """

    def __init__(self, address: int = 0, fmt: int = 1) -> None:
        if address % CCW_SIZE:
            raise Misuse(_BUILD, f"{address:#x}", cause="a CCW lies on a doubleword boundary")
        self.address = address
        self.fmt = fmt
        self._ccws: list[Ccw] = []
        self._lists: list[tuple[int, bytes]] = []
        self._areas: list[tuple[int, int]] = []
        self._idal: Idal | None = None

    # commands

    def add(self, cmd: int, flags: CcwFlag = NO_FLAGS, count: int = 0, cda: int = 0) -> Self:
        """Append a command; the one before it gets the command-chaining flag unless it chains data or is a TIC."""
        if self._ccws:
            last = self._ccws[-1]
            if not last.chained and not last.is_tic:
                self._ccws[-1] = replace(last, flags=last.flags | CcwFlag.CC)
        self._ccws.append(Ccw(cmd, flags, count, cda, self.fmt))
        return self

    def command(self, cmd: int, area: Area | None = None, flags: CcwFlag = NO_FLAGS) -> Self:
        """Append a command with all of a data area, or with none.  Raise `Misuse` for more than 65,535 bytes."""
        if area is None:
            return self.add(cmd, flags)
        address, count = area if isinstance(area, tuple) else (area.iova, area.length)
        if count >> 16:
            raise Misuse(_BUILD, cause=f"a CCW has at most 65535 bytes, not {count}: chain data, or give a part")
        self._areas.append((address, count))
        return self.add(cmd, flags, count, address)

    def nop(self) -> Self:
        """NOP.  Its count is 1, which format 0 wants and of which nothing is moved."""
        return self.add(Command.NOP, NO_FLAGS, 1)

    def sense(self, area: Area) -> Self:
        """BASIC SENSE."""
        return self.command(Command.SENSE, area)

    def sense_id(self, area: Area) -> Self:
        """SENSE ID."""
        return self.command(Command.SENSE_ID, area)

    def read(self, area: Area, cmd: int = _READ) -> Self:
        """A command that fills the area."""
        return self.command(cmd, area)

    def write(self, area: Area, cmd: int = _WRITE) -> Self:
        """A command that sends the area."""
        return self.command(cmd, area)

    def control(self, cmd: int, area: Area | None = None) -> Self:
        """A control command, with what the device needs for it in the area."""
        return self.command(cmd, area)

    def search(self, area: Area, cmd: int = _SEARCH_ID_EQUAL) -> Self:
        """A search and the TIC back to it, which status modifier passes over when the record is found."""
        here = self.next_address
        return self.command(cmd, area).tic(here)

    def tic(self, target: int) -> Self:
        """Append a transfer in channel to the absolute address `target`."""
        return self.add(Command.TIC, NO_FLAGS, 0, target)

    def data(self, area: Area) -> Self:
        """Chain data: the command before goes on with this area."""
        self._flag(CcwFlag.CD)
        return self.command(0, area)

    # what is said of the command before

    def _last(self) -> Ccw:
        if not self._ccws:
            raise Misuse(_BUILD, cause="there is no command before")
        return self._ccws[-1]

    def _flag(self, flag: CcwFlag) -> Self:
        last = self._last()
        self._ccws[-1] = replace(last, flags=last.flags | flag)
        return self

    @property
    def then(self) -> Self:
        """The program itself.  Raise `Misuse` when nothing comes before."""
        self._last()
        return self

    @property
    def sli(self) -> Self:
        """Suppress the length indication of the command before."""
        return self._flag(CcwFlag.SLI)

    @property
    def skip(self) -> Self:
        """Do not store what the command before brings."""
        return self._flag(CcwFlag.SKIP)

    @property
    def pci(self) -> Self:
        """Interrupt as the command before is taken up."""
        return self._flag(CcwFlag.PCI)

    @property
    def suspend(self) -> Self:
        """Suspend the program ahead of the command before; `orb` then has suspend control on."""
        return self._flag(CcwFlag.SUSPEND)

    def by_idaws(self, at: int, fmt: int = 2, block: int | None = None) -> Self:
        """Let the command before reach its area by a list of IDAWs, which lies at `at`; one kind in a program."""
        last = self._last()
        idal = Idal.over(last.cda, last.count, fmt, block)
        if self._idal is not None and (self._idal.fmt, self._idal.block) != (idal.fmt, idal.block):
            raise Misuse(_BUILD, cause="all IDAWs of a program are of one format and block size")
        self._idal = idal
        self._lists.append((at, idal.to_bytes()))
        self._ccws[-1] = replace(last, flags=last.flags | CcwFlag.IDA, cda=at)
        return self

    def by_midaws(self, at: int) -> Self:
        """Let the command before reach its area by a list of MIDAWs, which lies at `at`."""
        last = self._last()
        words = midal_over(last.cda, last.count)
        self._lists.append((at, b"".join(word.to_bytes() for word in words)))
        self._ccws[-1] = replace(last, flags=last.flags | CcwFlag.MIDA, cda=at)
        return self

    # the whole

    @property
    def next_address(self) -> int:
        """Where the next CCW will lie."""
        return self.address + len(self._ccws) * CCW_SIZE

    def orb(self, *, intparm: int = 0, lpm: int = 0xFF, pfch: bool = True, c64: bool = True, key: int = 0) -> Orb:
        """The ORB that starts this program (format-2 IDAWs of 4 KiB unless `c64` is off, or as `by_idaws` said)."""
        flags = CcwFlag(0)
        for ccw in self._ccws:
            flags |= ccw.flags
        idal = self._idal
        if idal is not None:
            c64 = idal.fmt == 2
        return Orb(
            intparm=intparm,
            key=key,
            spnd=bool(flags & CcwFlag.SUSPEND),
            fmt=self.fmt,
            pfch=pfch,
            c64=c64,
            i2k=idal is not None and c64 and idal.block == 2 * 1024,
            mida=bool(flags & CcwFlag.MIDA),
            lpm=lpm,
            cpa=self.address,
        )

    def to_bytes(self) -> bytes:
        """The CCWs, 8 bytes each, to be put at `address`."""
        return b"".join(ccw.to_bytes() for ccw in self._ccws)

    @property
    def parts(self) -> list[tuple[int, bytes]]:
        """All that must lie in storage before the start, as (address, bytes): the CCWs, and the lists."""
        return [(self.address, self.to_bytes()), *self._lists]

    def image(self) -> Image:
        """The program in a storage of its own, with its data areas (as zeros)."""
        image = Image(self.parts)
        for address, count in self._areas:
            image.room(address, count)
        return image

    def check(self, storage: Storage | None = None, limits: Limits | None = None) -> list[Violation]:
        """Which rules the program breaks; `storage` is where it will run (default: `image`)."""
        return check(self.orb(), self.image() if storage is None else storage, limits)

    def __iter__(self) -> Iterator[Ccw]:
        return iter(self._ccws)

    def __len__(self) -> int:
        return len(self._ccws)

    def __str__(self) -> str:
        return "\n".join(disassemble(self.to_bytes(), self.address, self.fmt))
