"""The channel-subsystem call (CHSC): its block of one page, command codes and response codes.

::

    byte  0        2        4                                                length
         +--------+--------+--------------------------------------------------+
         | length | command|       what the command says (request)            |
         +--------+--------+--------------------------------------------------+
         | length |  code  |  parameters  |   what is answered (response)     |
         +--------+--------+--------------+-----------------------------------+
          0        2        4              8                          length, counted from the response

The request has 16 to 4088 bytes, a multiple of 8; the response lies right behind it and ends with the page.  The
modules ``chsc_paths``, ``chsc_subchannels`` and ``chsc_machine`` have what is in them, by command.

The architecture of these calls is not published; the source is what Linux knows: ``drivers/s390/cio/chsc.c``,
``chsc.h`` and ``chsc_sch.c``, ``arch/s390/include/uapi/asm/chsc.h`` (struct chsc_header); what QEMU answers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from pyvfio.css.layout import BytesLike, check_range
from pyvfio.errors import Misuse

__all__ = ["CHSC_SIZE", "ChscCode", "ChscCommand", "ChscRequest", "ChscResponse", "request_problem"]

#: Bytes of request and response together: one page of the architecture.
CHSC_SIZE: Final = 4 * 1024
_HEADER = struct.Struct(">HH")
_RESPONSE = struct.Struct(">HHI")
_SHORTEST: Final = 16
_LONGEST: Final = CHSC_SIZE - 8
_UNIT: Final = 8


class ChscCommand(IntEnum):
    """Command codes (those that Linux has names for)."""

    STORE_CHANNEL_PATHS = 0x0002
    STORE_SUBCHANNELS = 0x0004
    STORE_SUBCHANNEL_CONTROL_UNITS = 0x0006
    STORE_EVENT_INFORMATION = 0x000E
    STORE_CHARACTERISTICS = 0x0010
    STORE_CONFIGURATION = 0x0012
    SET_CHANNEL_MEASUREMENT = 0x0016
    SET_SUBCHANNEL_CONTROLS = 0x0021
    STORE_MEASUREMENT_CHARACTERISTICS = 0x0022
    STORE_SUBCHANNEL_QDIO = 0x0024
    STORE_CONTROL_UNIT_COMPONENTS = 0x0026
    STORE_CHANNEL_PATH_COMPONENTS = 0x0028
    STORE_COMPONENT_LIST = 0x0030
    SET_DOMAIN_ATTRIBUTES = 0x0031
    SERVER_TIME_CONTROL = 0x0033
    STORE_DOMAIN_ATTRIBUTES = 0x0034
    SERVER_TIME_INFORMATION = 0x0038
    NETWORK_SUBCHANNEL_OPERATION = 0x003D
    STORE_TIME_ZONE = 0x003E
    INITIATE_LOGGING = 0x0046
    STORE_CONTROL_UNITS = 0x004B
    STORE_STORAGE_CLASS_MEMORY = 0x004C


class ChscCode(IntEnum):
    """Response codes; in brackets the errno that Linux makes of it."""

    COMPLETED = 0x0001
    INVALID_REQUEST = 0x0003  # EINVAL: length, or a bit that must be zero
    NOT_PROVIDED = 0x0004  # EOPNOTSUPP: no such command
    NO_INFORMATION = 0x0005  # EIO: there is no event
    INVALID_FORMAT = 0x0007  # EINVAL
    INVALID_IMAGE = 0x0008  # EINVAL
    BUSY = 0x000B  # EBUSY
    FACILITY_NOT_PROVIDED = 0x0101  # EOPNOTSUPP: of SET_DOMAIN_ATTRIBUTES
    MEASUREMENT_STATE = 0x0102  # EINVAL: of SET_CHANNEL_MEASUREMENT, which is on (or off) already
    MEASUREMENT_AREA = 0x0103  # EINVAL: of SET_CHANNEL_MEASUREMENT


def request_problem(request: BytesLike) -> str:
    """Why CHSC would recognise an operand exception for this block; empty when it would not."""
    if len(request) < _SHORTEST:
        return f"a request has at least {_SHORTEST} bytes"
    length, _ = _HEADER.unpack_from(request)
    if length % _UNIT or not _SHORTEST <= length <= _LONGEST:
        return f"the length {length:#06x} of the request is not a multiple of {_UNIT} from {_SHORTEST} to {_LONGEST}"
    if length > len(request):
        return f"the request is shorter than the {length} bytes that it says"
    return ""


@dataclass(frozen=True, slots=True)
class ChscRequest:
    """A request: the `command` code (16 bits), and all `data` behind the header.

    >>> print(ChscRequest(0x0010))
    CHSC store characteristics, 16 bytes
    """

    command: int
    data: bytes = bytes(_SHORTEST - _HEADER.size)

    @classmethod
    def from_bytes(cls, block: BytesLike) -> Self:
        """Read a request from the begin of `block`.  Raise `Misuse` when CHSC would recognise an operand exception."""
        problem = request_problem(block)
        if problem:
            raise Misuse("read CHSC request", cause=problem)
        length, command = _HEADER.unpack_from(block)
        return cls(command, bytes(block[_HEADER.size : length]))

    def to_bytes(self) -> bytes:
        """The request, big-endian.  Raise `Misuse` when it could not be executed."""
        check_range("CHSC request", command=(self.command, 16))
        block = _HEADER.pack(min(_HEADER.size + len(self.data), 0xFFFF), self.command) + self.data
        problem = request_problem(block)
        if problem:
            raise Misuse("build CHSC request", cause=problem)
        return block

    @property
    def length(self) -> int:
        """Bytes of the request with its header."""
        return _HEADER.size + len(self.data)

    @property
    def name(self) -> str:
        """What the command is called, or its code."""
        if self.command in list(ChscCommand):
            return ChscCommand(self.command).name.lower().replace("_", " ")
        return f"command {self.command:04x}"

    def __str__(self) -> str:
        return f"CHSC {self.name}, {self.length} bytes"


@dataclass(frozen=True, slots=True)
class ChscResponse:
    """A response: its `code` (16 bits), the word of `parameters`, and all `data` behind that.

    >>> print(ChscResponse(ChscCode.NOT_PROVIDED))
    CHSC response 0004: not provided
    """

    code: int
    data: bytes = b""
    parameters: int = 0

    @classmethod
    def from_bytes(cls, block: BytesLike) -> Self:
        """Read a response from the begin of `block`.  Raise `Misuse` when it is shorter than it says."""
        if len(block) < _RESPONSE.size:
            raise Misuse("read CHSC response", cause=f"it has at least {_RESPONSE.size} bytes, not {len(block)}")
        length, code, parameters = _RESPONSE.unpack_from(block)
        if not _RESPONSE.size <= length <= len(block):
            raise Misuse("read CHSC response", cause=f"its length is {length}, and there are {len(block)} bytes")
        return cls(code, bytes(block[_RESPONSE.size : length]), parameters)

    def to_bytes(self) -> bytes:
        """The response, big-endian.  Raise `Misuse` when a field does not fit."""
        length = _RESPONSE.size + len(self.data)
        check_range("CHSC response", code=(self.code, 16), length=(length, 16), parameters=(self.parameters, 32))
        return _RESPONSE.pack(length, self.code, self.parameters) + self.data

    @property
    def ok(self) -> bool:
        """Whether the command was carried out."""
        return self.code == ChscCode.COMPLETED

    def __str__(self) -> str:
        known = self.code in list(ChscCode)
        what = ChscCode(self.code).name.lower().replace("_", " ") if known else "unknown"
        data = f", {len(self.data)} bytes" if self.data else ""
        return f"CHSC response {self.code:04x}: {what}{data}"
