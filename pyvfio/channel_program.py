"""Channel programs laid out in DMA memory: commands in the caller's words, CCWs and data areas for the channel.

Addresses in CCWs have 31 bits, so a program lies below 2 GiB of the IO address space::

    | CCW 0 | CCW 1 | ...        whole pages: vfio-ccw copies 2 KiB from the first CCW on, however few there are
    | data of command 0 | data of command 1 | ...     each on a doubleword boundary, from a page of its own on

Source: ``drivers/s390/cio/vfio_ccw_cp.c``; z/Architecture Principles of Operation, "Channel-Command Word".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pyvfio.css.ccw import CCW_SIZE, NO_FLAGS, CcwFlag
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
    did not get to is empty.
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
        granule = space.granule
        at = code = -(-_COPIED // granule) * granule
        self.offsets: list[int] = []
        for command in self.commands:
            self.offsets.append(at)
            at += -(-_size(command) // CCW_SIZE) * CCW_SIZE
        if memory is not None and at > memory.length:
            raise Misuse(_OPERATION, name, cause=f"it takes {at} bytes, the memory has {memory.length}")
        self._owns = memory is None
        self.memory = space.buffer(max(at, code + 1), below=_LIMIT) if memory is None else memory
        self.program = self._build()
        ccws = self.program.to_bytes()
        self.memory.view[: len(ccws)] = ccws
        for command, offset in zip(self.commands, self.offsets, strict=True):
            if isinstance(command, Control | Write) and command.data:
                self.memory.view[offset : offset + len(command.data)] = command.data

    @property
    def orb(self) -> Orb:
        """The operation-request block that starts it."""
        return self.program.orb()

    def _check(self) -> None:
        count = len(self.commands)
        if not 0 < count <= _MOST_COMMANDS:
            raise Misuse(_OPERATION, self._name, cause=f"it has {count} commands, not 1 to {_MOST_COMMANDS}")
        for command in self.commands:
            if _size(command) > _MOST_BYTES:
                raise Misuse(_OPERATION, self._name, cause=f"a CCW moves at most {_MOST_BYTES} bytes")
            if isinstance(command, Tic) and not 0 <= command.to < count:
                raise Misuse(_OPERATION, self._name, cause=f"TIC to command {command.to} of {count}")

    def _build(self) -> Program:
        base = self.memory.iova
        program = Program(base)
        for command, offset in zip(self.commands, self.offsets, strict=True):
            if isinstance(command, Tic):
                program.tic(base + command.to * CCW_SIZE)
            else:
                count = _size(command)
                program.add(command.cmd, command.flags if count else command.flags | CcwFlag.SLI, count, base + offset)
        return program

    def result(self, irb: Irb) -> ProgramResult:
        """The data of the reads, as far as they came."""
        parts: list[bytes] = []
        ended = (irb.scsw.cpa - self.memory.iova) // CCW_SIZE - 1
        known = 0 <= ended < len(self.commands)
        for number, (command, offset) in enumerate(zip(self.commands, self.offsets, strict=True)):
            if isinstance(command, Read):
                count = command.count - (irb.scsw.count if number == ended else 0)
                if known and number > ended:
                    count = 0
                parts.append(bytes(self.memory.view[offset : offset + max(0, count)]))
        return ProgramResult(irb, tuple(parts))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._owns:
            self.memory.close()


def _size(command: ChannelCommand) -> int:
    if isinstance(command, Read):
        return command.count
    return 0 if isinstance(command, Tic) else len(command.data)
