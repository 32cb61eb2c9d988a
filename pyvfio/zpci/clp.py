"""CALL LOGICAL PROCESSOR (CLP): the request and response blocks that list, query and set PCI functions.

A request and its response lie one after the other in storage, at most two pages.  Both begin with a header::

    byte  0        2                 4                 8                         15
         +--------+------------------+------+----------+--------------------------+
         | length | command or       |format|  zeros   |          zeros           |
         |        | response code    |      |          |                          |
         +--------+------------------+------+----------+--------------------------+

All requests for PCI are 32 bytes long.  A program states in the response's length how much room it has; LIST PCI
replaces it by what it stored, the others leave it.

Source: ``arch/s390/include/asm/clp.h``, ``arch/s390/include/asm/pci_clp.h``; ``arch/s390/pci/pci_clp.c``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pyvfio.css.layout import BytesLike
from pyvfio.errors import Misuse
from pyvfio.zpci.block import BigBlock, at, raw_at

__all__ = [
    "CLP_REQUEST_SIZE",
    "ClpCode",
    "ClpCommand",
    "ClpRequest",
    "FunctionResponse",
    "GroupResponse",
    "HandleEntry",
    "ListRequest",
    "ListResponse",
    "QueryRequest",
    "SetOperation",
    "SetRequest",
    "SetResponse",
    "response_name",
]

CLP_REQUEST_SIZE: Final = 32
_UTILITY_SIZE: Final = 64
_EBCDIC: Final = "cp037"
_BARS: Final = 6


class ClpCommand(IntEnum):
    """Command codes."""

    STORE_LOGICAL_PROCESSOR_CHARACTERISTICS = 0x0001
    LIST_PCI = 0x0002
    QUERY_PCI_FUNCTION = 0x0003
    QUERY_PCI_FUNCTION_GROUP = 0x0004
    SET_PCI_FUNCTION = 0x0005


class ClpCode(IntEnum):
    """Response codes."""

    OK = 0x0010
    COMMAND = 0x0020
    NOT_AUTHORIZED = 0x0030
    FORMAT = 0x0040
    LENGTH = 0x0050
    NEEDS_8K = 0x0060
    RESERVED_NOT_ZERO = 0x0070
    NO_DATA = 0x0080
    FUNCTION_CODE = 0x0100
    INVALID_HANDLE = 0x0101
    HANDLE_NOT_FOR_OPERATION = 0x0102
    INVALID_DMA_SPACES = 0x0103
    INSUFFICIENT_RESOURCES = 0x0104
    ALREADY_IN_STATE = 0x0105
    PERMANENT_ERROR = 0x0106
    RECOVERY_PENDING = 0x0107
    BUSY = 0x0108
    RESUME_TOKEN = 0x010A
    UNKNOWN_GROUP = 0x010B


_WORDS: Final = {
    ClpCode.COMMAND: "unknown command",
    ClpCode.FORMAT: "invalid format of the request",
    ClpCode.LENGTH: "invalid length of the request or the response",
    ClpCode.NEEDS_8K: "the response needs more room",
    ClpCode.RESERVED_NOT_ZERO: "a reserved field is not zero",
    ClpCode.HANDLE_NOT_FOR_OPERATION: "the function is in no state for this operation",
    ClpCode.INVALID_DMA_SPACES: "invalid number of DMA address spaces",
    ClpCode.RESUME_TOKEN: "unknown resume token",
}


def response_name(code: int) -> str:
    """Say a response code in words."""
    try:
        known = ClpCode(code)
    except ValueError:
        return f"response code {code:#06x}"
    return f"{code:#06x} {_WORDS.get(known, known.name.lower().replace('_', ' '))}"


class SetOperation(IntEnum):
    """What SET PCI FUNCTION does (`SetRequest.operation`)."""

    ENABLE = 0
    DISABLE = 1
    ENABLE_MIO = 2
    DISABLE_MIO = 3


@dataclass(frozen=True, slots=True)
class ClpRequest(BigBlock, size=16):
    """The header: `length` of the request in bytes, `command`, `fmt` (4 bits)."""

    length: int = at(0, 16, default=CLP_REQUEST_SIZE)
    command: int = at(2, 16)
    fmt: int = at(4, 4)
    reserved: int = at(4, 28, bit=4)
    reserved2: int = at(8, 64)


@dataclass(frozen=True, slots=True)
class ListRequest(BigBlock, size=CLP_REQUEST_SIZE):
    """LIST PCI: `resume_token` 0 begins, another goes on where the answer with that token ended."""

    length: int = at(0, 16, default=CLP_REQUEST_SIZE)
    command: int = at(2, 16, default=ClpCommand.LIST_PCI)
    fmt: int = at(4, 4)
    reserved: int = at(4, 28, bit=4)
    reserved2: int = at(8, 64)
    resume_token: int = at(16, 64)


@dataclass(frozen=True, slots=True)
class QueryRequest(BigBlock, size=CLP_REQUEST_SIZE):
    """QUERY PCI FUNCTION, by handle; or QUERY PCI FUNCTION GROUP, by the group in the last byte of `handle`."""

    length: int = at(0, 16, default=CLP_REQUEST_SIZE)
    command: int = at(2, 16, default=ClpCommand.QUERY_PCI_FUNCTION)
    fmt: int = at(4, 4)
    handle: int = at(16, 32)

    @property
    def group(self) -> int:
        """The PCI function group (8 bits)."""
        return self.handle & 0xFF


@dataclass(frozen=True, slots=True)
class SetRequest(BigBlock, size=CLP_REQUEST_SIZE):
    """SET PCI FUNCTION: `operation` is a `SetOperation`, `dma_spaces` how many are wanted (1), `gisa` for a guest."""

    length: int = at(0, 16, default=CLP_REQUEST_SIZE)
    command: int = at(2, 16, default=ClpCommand.SET_PCI_FUNCTION)
    fmt: int = at(4, 4)
    handle: int = at(16, 32)
    operation: int = at(22, 8)
    dma_spaces: int = at(23, 8)
    gisa: int = at(28, 32)


@dataclass(frozen=True, slots=True)
class HandleEntry(BigBlock, size=16):
    """An entry of LIST PCI.  `configured` is one when the partition has the function."""

    device: int = at(0, 16)
    vendor: int = at(2, 16)
    configured: int = at(4, 1)
    fid: int = at(8, 32)
    fh: int = at(12, 32)

    def __str__(self) -> str:
        state = "configured" if self.configured else "standby"
        return f"fid {self.fid:08x} fh {self.fh:08x} {self.vendor:04x}:{self.device:04x} {state}"


@dataclass(frozen=True, slots=True)
class _ListHead(BigBlock, size=32):
    length: int = at(0, 16)
    code: int = at(2, 16)
    fmt: int = at(4, 4)
    resume_token: int = at(16, 64)
    max_functions: int = at(28, 16)
    uid_checking: int = at(30, 1, bit=7)
    entry_size: int = at(31, 8)


@dataclass(frozen=True, slots=True)
class ListResponse:
    """The answer of LIST PCI: entries of 16 bytes after a head of 32.

    A `resume_token` that is not zero says that there are more.  `uid_checking`: identifiers of the user are unique.
    """

    HEAD_SIZE = 32
    ENTRY_SIZE = 16

    entries: tuple[HandleEntry, ...] = ()
    resume_token: int = 0
    max_functions: int = 0
    uid_checking: bool = False
    code: int = ClpCode.OK

    @classmethod
    def from_bytes(cls, data: BytesLike) -> ListResponse:
        """Read a response, or the room it lies in.  Raise `Misuse` when its own lengths do not agree with it."""
        if len(data) < cls.HEAD_SIZE:
            raise Misuse("read LIST PCI", cause=f"a response has at least {cls.HEAD_SIZE} bytes, not {len(data)}")
        head = _ListHead.from_bytes(data[: cls.HEAD_SIZE])
        if head.code != ClpCode.OK:
            return cls(code=head.code)
        size = head.entry_size or cls.ENTRY_SIZE
        if not cls.HEAD_SIZE <= head.length <= len(data) or size < cls.ENTRY_SIZE:
            raise Misuse("read LIST PCI", cause=f"length {head.length} with entries of {size} in {len(data)} bytes")
        places = range(cls.HEAD_SIZE, head.length - size + 1, size)
        entries = tuple(HandleEntry.from_bytes(data[place : place + cls.ENTRY_SIZE]) for place in places)
        return cls(entries, head.resume_token, head.max_functions, bool(head.uid_checking), head.code)

    def to_bytes(self) -> bytes:
        """The response, as long as it is."""
        length = self.HEAD_SIZE + len(self.entries) * self.ENTRY_SIZE
        head = _ListHead(
            length, self.code, 0, self.resume_token, self.max_functions, int(self.uid_checking), self.ENTRY_SIZE
        )
        return head.to_bytes() + b"".join(entry.to_bytes() for entry in self.entries)


@dataclass(frozen=True, slots=True)
class FunctionResponse(BigBlock, size=384):
    """The answer of QUERY PCI FUNCTION.

    `bar_sizes` are six exponents of two (0: no such BAR), `bars` the six registers, **little-endian** as in
    configuration space.  `sdma` and `edma` are the first and the last address for DMA, `utility` is EBCDIC, `pfip` the
    internal path in four segments, `fidparm` the parameter of its definition, `fmb_length` the words (of 4 bytes) of
    its measurement block, `rid` the routing identifier, `tid` the topology.  The BARs' addresses for direct
    access (MIO) are in `mio`: six pairs of write-back and write-through addresses, those of `mio_valid` are valid.
    """

    length: int = at(0, 16, default=384)
    code: int = at(2, 16, default=ClpCode.OK)
    fmt: int = at(4, 4)
    vfn: int = at(16, 16)
    tid_available: int = at(18, 1, bit=2)
    rid_available: int = at(18, 1, bit=3)
    physical: int = at(18, 1, bit=4)
    mio_available: int = at(18, 1, bit=6)
    utility_available: int = at(18, 1, bit=7)
    pfgid: int = at(19, 8)
    fid: int = at(20, 32)
    bar_sizes: bytes = raw_at(24, _BARS)
    pchid: int = at(30, 16)
    bars: bytes = raw_at(32, _BARS * 4)
    pfip: bytes = raw_at(56, 4)
    fidparm: int = at(60, 8)
    port: int = at(61, 4, bit=4)
    fmb_length: int = at(62, 8)
    pft: int = at(63, 8)
    sdma: int = at(64, 64)
    edma: int = at(72, 64)
    rid: int = at(80, 16)
    tid: int = at(86, 16)
    uid: int = at(124, 32)
    utility: bytes = raw_at(128, _UTILITY_SIZE)
    mio_valid: int = at(256, 6)
    mio: bytes = raw_at(264, _BARS * 16)

    @property
    def bar_values(self) -> tuple[int, ...]:
        """The six registers as numbers."""
        return tuple(int.from_bytes(self.bars[place : place + 4], "little") for place in range(0, _BARS * 4, 4))

    @property
    def utility_text(self) -> str:
        """The utility string, empty when there is none."""
        return self.utility.decode(_EBCDIC).rstrip("\0 ") if self.utility_available else ""

    def __str__(self) -> str:
        sizes = ", ".join(f"BAR {bar} 2^{order}" for bar, order in enumerate(self.bar_sizes) if order) or "no BARs"
        return (
            f"fid {self.fid:08x} uid {self.uid:04x} pchid {self.pchid:04x} vfn {self.vfn} port {self.port}"
            f" type {self.pft} group {self.pfgid:02x}; {sizes}; DMA {self.sdma:#x}-{self.edma:#x}"
        )


@dataclass(frozen=True, slots=True)
class GroupResponse(BigBlock, size=64):
    """The answer of QUERY PCI FUNCTION GROUP.

    `noi` is the number of interruptions (12 bits), `frame` and `refresh` say whether large frames are there and whether
    changed translations must be refreshed also where they were invalid, `maxstbl` the longest store block in bytes,
    `mui` the measurement interval in milliseconds, `dtsm` which designation types are supported (bit 0x80 >> type),
    `dasm` the mask of DMA addresses, `msia` where messages go, `dnoi`, `maxcpu`, `maxfaal` the limits of directed
    and forwarded interruptions.
    """

    length: int = at(0, 16, default=64)
    code: int = at(2, 16, default=ClpCode.OK)
    fmt: int = at(4, 4)
    noi: int = at(16, 12, bit=4)
    version: int = at(18, 8)
    frame: int = at(19, 1, bit=6)
    refresh: int = at(19, 1, bit=7)
    maxstbl: int = at(20, 13, bit=3)
    mui: int = at(22, 16)
    dtsm: int = at(24, 8)
    maxfaal: int = at(26, 16)
    dnoi: int = at(28, 12, bit=4)
    maxcpu: int = at(30, 16)
    dasm: int = at(32, 64)
    msia: int = at(40, 64)

    def __str__(self) -> str:
        return (
            f"version {self.version}, {self.noi} interrupts, messages to {self.msia:#x}, store blocks of up to"
            f" {self.maxstbl} bytes, measured every {self.mui} ms, DMA addresses {self.dasm:#x}"
            f"{', refresh always' if self.refresh else ''}"
        )


@dataclass(frozen=True, slots=True)
class SetResponse(BigBlock, size=160):
    """The answer of SET PCI FUNCTION: the function's new handle, and its addresses for direct access as in a query."""

    length: int = at(0, 16, default=160)
    code: int = at(2, 16, default=ClpCode.OK)
    fmt: int = at(4, 4)
    fh: int = at(16, 32)
    mio_valid: int = at(32, 6)
    mio: bytes = raw_at(40, _BARS * 16)
