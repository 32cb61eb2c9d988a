"""Channel programs laid out in DMA memory: commands in the caller's words, CCWs and data areas for the channel.

Addresses in CCWs have 31 bits, so a program lies below 2 GiB of the IO address space::

    | CCW 0 | CCW 1 | ...        whole pages: vfio-ccw copies 2 KiB from the first CCW on, however few there are
    | data of command 0 | data of command 1 | ...     each on a doubleword boundary, from a page of its own on

Source: ``drivers/s390/cio/vfio_ccw_cp.c``; z/Architecture Principles of Operation, "Channel-Command Word".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pyvfio.css.ccw import CCW_SIZE, NO_FLAGS, CcwFlag
from pyvfio.css.commands import Command
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.program import Program
from pyvfio.css.scsw import Scsw
from pyvfio.errors import Misuse

if TYPE_CHECKING:
    from pyvfio.iommu import AddressSpace, DmaBuffer

__all__ = ["ChannelCommand", "Control", "LaidProgram", "ProgramResult", "Read", "Tic", "Write"]

_LIMIT = 1 << 31
_MOST_COMMANDS = 256
_MOST_BYTES = 0xFFFF
_COPIED = _MOST_COMMANDS * CCW_SIZE  # what the kernel copies from the first CCW on
_OPERATION = "run channel program"
_CCW = struct.Struct(">BBHI")
_ORB = struct.Struct(">III")
_ORB_WORD = int.from_bytes(Orb(pfch=True, c64=True, lpm=0).to_bytes()[4:8], "big")
_LPM_SHIFT = 8
_CC, _CD, _SLI = int(CcwFlag.CC), int(CcwFlag.CD), int(CcwFlag.SLI)
_CONTROLLED = CcwFlag.SUSPEND | CcwFlag.MIDA  # flags that the ORB has to allow


@dataclass(frozen=True, slots=True)
class Control:
    """A command without data, or with few bytes for the device (`data`)."""

    cmd: int
    data: bytes = b""
    flags: CcwFlag = NO_FLAGS


@dataclass(frozen=True, slots=True)
class Write:
    """A command that sends `data` to the device."""

    cmd: int
    data: bytes
    flags: CcwFlag = NO_FLAGS


@dataclass(frozen=True, slots=True)
class Read:
    """A command that takes up to `count` bytes from the device."""

    cmd: int
    count: int
    flags: CcwFlag = NO_FLAGS


@dataclass(frozen=True, slots=True)
class Tic:
    """Transfer in channel: go on at command number `to` of the program (a search loops back to itself)."""

    to: int


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How a program ended: the `irb`, and the `data` of all its reads in order (`parts`: one each).

    The read that ended the program is cut to the bytes that came, as the residual count tells; one that the program
    did not get to is empty, and so are all when the status does not say where it ended.
    """

    irb: Irb
    parts: tuple[bytes, ...] = ()

    @property
    def scsw(self) -> Scsw:
        """The subchannel-status word."""
        return self.irb.scsw

    @property
    def data(self) -> bytes:
        """The data of all reads, joined."""
        return b"".join(self.parts)

    @property
    def residual(self) -> int:
        """How many bytes of the last CCW's count were not moved."""
        return self.irb.scsw.count

    @property
    def sense(self) -> bytes:
        """The sense bytes that came with the status; empty when there are none."""
        return self.irb.sense


ChannelCommand = Control | Read | Write | Tic
"""What a program is made of."""


class LaidProgram:
    """`commands` in memory of `space`, ready to be started with `orb`.  A context manager, which frees the memory.

    Who runs many programs gives the `memory` (below 2 GiB), which is then used anew for each and stays his to close.
    Raise `Misuse` (about the device called `name`) for a program that cannot be or does not fit into the memory, else
    what mapping memory raises.
    """

    def __init__(
        self, space: AddressSpace, name: str, commands: Sequence[ChannelCommand], memory: DmaBuffer | None = None
    ) -> None:
        self._name = name
        self.commands = list(commands)
        self._check()
        self.offsets, needed = _offsets(space.granule, self.commands)
        if memory is not None and needed > memory.length:
            raise Misuse(_OPERATION, name, cause=f"it takes {needed} bytes, the memory has {memory.length}")
        self._owns = memory is None
        self.memory = space.buffer(needed, below=_LIMIT) if memory is None else memory
        view, base = self.memory.view, self.memory.iova
        for number, (command, offset) in enumerate(zip(self.commands, self.offsets, strict=True)):
            _CCW.pack_into(view, number * CCW_SIZE, *self._ccw(number, command, base, offset))
            if isinstance(command, Read):
                if memory is not None and command.flags & CcwFlag.SKIP:
                    view[offset : offset + command.count] = bytes(command.count)
            elif not isinstance(command, Tic) and command.data:
                view[offset : offset + len(command.data)] = command.data

    @staticmethod
    def room(space: AddressSpace, commands: Sequence[ChannelCommand]) -> int:
        """How many bytes of memory commands take."""
        return _offsets(space.granule, commands)[1]

    @property
    def program(self) -> Program:
        """The program as CCWs."""
        program, base = Program(self.memory.iova), self.memory.iova
        for command, offset in zip(self.commands, self.offsets, strict=True):
            if isinstance(command, Tic):
                program.tic(base + command.to * CCW_SIZE)
            else:
                count = _size(command)
                program.add(command.cmd, command.flags if count else command.flags | CcwFlag.SLI, count, base + offset)
        return program

    @property
    def orb(self) -> Orb:
        """The operation-request block that starts it."""
        return Orb.from_bytes(self.request())

    def request(self, lpm: int = 0xFF) -> bytes:
        """The 12 bytes of the ORB, for the paths of a mask."""
        word = _ORB_WORD | (lpm & 0xFF) << _LPM_SHIFT
        if any(not isinstance(command, Tic) and command.flags & _CONTROLLED for command in self.commands):
            word |= int.from_bytes(self.program.orb().to_bytes()[4:8], "big")
        return _ORB.pack(0, word, self.memory.iova)

    def _check(self) -> None:
        count = len(self.commands)
        if not 0 < count <= _MOST_COMMANDS:
            raise Misuse(_OPERATION, self._name, cause=f"it has {count} commands, not 1 to {_MOST_COMMANDS}")
        for command in self.commands:
            if _size(command) > _MOST_BYTES:
                raise Misuse(_OPERATION, self._name, cause=f"a CCW moves at most {_MOST_BYTES} bytes")
            if isinstance(command, Tic) and not 0 <= command.to < count:
                raise Misuse(_OPERATION, self._name, cause=f"TIC to command {command.to} of {count}")

    def _ccw(self, number: int, command: ChannelCommand, base: int, offset: int) -> tuple[int, int, int, int]:
        """The fields of a CCW: command, flags, count, address.  All are chained but the last and a TIC."""
        if isinstance(command, Tic):
            return int(Command.TIC), 0, 0, base + command.to * CCW_SIZE
        count, flags = _size(command), int(command.flags)
        if not count:
            flags |= _SLI
        if number < len(self.commands) - 1 and not flags & _CD:
            flags |= _CC
        return command.cmd, flags, count, base + offset

    def result(self, irb: Irb) -> ProgramResult:
        """The data of the reads, as far as they came."""
        parts: list[bytes] = []
        ended = (irb.scsw.cpa - self.memory.iova) // CCW_SIZE - 1
        known = 0 <= ended < len(self.commands) and not irb.scsw.cc
        for number, (command, offset) in enumerate(zip(self.commands, self.offsets, strict=True)):
            if isinstance(command, Read):
                count = command.count - (irb.scsw.count if number == ended else 0)
                if number > ended or not known:
                    count = 0
                parts.append(bytes(self.memory.view[offset : offset + max(0, count)]))
        return ProgramResult(irb, tuple(parts))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._owns:
            self.memory.close()


def _offsets(granule: int, commands: Sequence[ChannelCommand]) -> tuple[list[int], int]:
    """Where the data of each command lie, from the program's address on; and how much memory that takes."""
    at = code = -(-_COPIED // granule) * granule
    offsets: list[int] = []
    for command in commands:
        offsets.append(at)
        at += -(-_size(command) // CCW_SIZE) * CCW_SIZE
    return offsets, max(at, code + 1)


def _size(command: ChannelCommand) -> int:
    if isinstance(command, Read):
        return command.count
    return 0 if isinstance(command, Tic) else len(command.data)
