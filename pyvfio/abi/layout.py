"""How the structures of the kernel's interface are written down, packed and chained.

A structure is a class with the kernel's field names and one annotation per field::

    @structure("vfio_group_status")
    class GroupStatus(AbiStructure):
        argsz: U32
        flags: U32

From this one table come the ctypes fields (native byte order, the compiler's alignment), the `struct.Struct` of
`native_struct`, and the C probe of the tests.  A flexible array at the end (``data[]``) is a field of length 0: it
gives the offset and the alignment of the trailer and does not count in the size, as in C.
"""

import ctypes
import functools
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pyvfio.errors import MalformedAnswer, Misuse

__all__ = [
    "S32",
    "U8",
    "U16",
    "U32",
    "U64",
    "AbiStructure",
    "ByteTail",
    "Capability",
    "InfoCapHeader",
    "UserPointer",
    "build_capability_chain",
    "native_struct",
    "offset_of",
    "parse_capability_chain",
    "read_trailer",
    "structure",
]

U8 = Annotated[int, ctypes.c_uint8]
U16 = Annotated[int, ctypes.c_uint16]
U32 = Annotated[int, ctypes.c_uint32]
U64 = Annotated[int, ctypes.c_uint64]
S32 = Annotated[int, ctypes.c_int32]
UserPointer = Annotated[int, ctypes.c_size_t]
"""A pointer of the caller's process (``__u64 __user *``), as an integer."""
ByteTail = Annotated[ctypes.Array[ctypes.c_uint8], ctypes.c_uint8 * 0]
"""A flexible array of bytes: ``__u8 data[]``."""


class AbiStructure(ctypes.Structure):
    """A structure of the kernel's interface.  `_c_name_` is its name in the header (``vfio_device_info``)."""

    _c_name_: ClassVar[str] = ""

    @classmethod
    def sized(cls, **fields: int) -> Self:
        """Make one whose first field (``argsz``, in iommufd ``size``) says its size, and which has these fields.

        Raise `Misuse` if the structure does not begin with its size.
        """
        first = cls._fields_[0][0]
        if first not in ("argsz", "size"):
            raise Misuse(f"make a sized {cls.__name__}", cause=f"it begins with {first}, not with its size")
        return cls(**{first: ctypes.sizeof(cls), **fields})

    def __repr__(self) -> str:
        values = (f"{name}={_shown(getattr(self, name))}" for name, *_ in self._fields_)
        return f"{type(self).__name__}({', '.join(values)})"


def _shown(value: object) -> str:
    if isinstance(value, ctypes.Array):
        return f"<{len(value)} elements>"
    return hex(value) if isinstance(value, int) and value > 9 else repr(value)


_S = TypeVar("_S", bound=AbiStructure)
_Item = TypeVar("_Item", bound=AbiStructure)


def structure(c_name: str) -> Callable[[type[_S]], type[_S]]:
    """Turn the annotations of the decorated class into ctypes fields; `c_name` is the name after ``struct``.

    The module that uses it must not postpone its annotations (no ``from __future__ import annotations``).
    """

    def decorate(cls: type[_S]) -> type[_S]:
        # Python mangles names such as __reserved in a class body; the kernel's name is what counts.
        mangled = f"_{cls.__name__.lstrip('_')}__"
        cls._c_name_ = c_name
        cls._fields_ = [
            ("__" + name.removeprefix(mangled) if name.startswith(mangled) else name, _ctype(annotation))
            for name, annotation in cls.__annotations__.items()
        ]
        return cls

    return decorate


def _ctype(annotation: Any) -> Any:
    """The ctypes type of a field: the class itself for a nested structure or union, else what is annotated."""
    return annotation if isinstance(annotation, type) else annotation.__metadata__[0]


def offset_of(cls: type[AbiStructure], field: str) -> int:
    """The offset of a field in bytes (``offsetof``); for ``offsetofend`` ask for the field behind it.

    >>> offset_of(InfoCapHeader, "next")
    4
    """
    return int(getattr(cls, field).offset)


# ---- fast packing ------------------------------------------------------------------------------------------------


@functools.cache
def native_struct(cls: type[AbiStructure]) -> struct.Struct:
    """A `struct.Struct` with the layout of `cls`: native byte order, padding written out, nested structures flattened.

    Arrays of bytes are one ``bytes`` value, a flexible array is left out; ``.size`` is ``ctypes.sizeof(cls)``.
    Raise `Misuse` for a structure with a union, which has no single reading.
    """
    return struct.Struct("=" + _format(cls))


def _format(cls: Any) -> str:  # a ctypes class; typeshed has no common type for them
    if issubclass(cls, ctypes.Union):
        raise Misuse(f"pack {cls.__name__}", cause="a union has no single layout; use the ctypes class")
    if issubclass(cls, ctypes.Array):
        if cls._type_ is ctypes.c_uint8:
            return f"{cls._length_}s"
        return "".join(_format(cls._type_) for _ in range(cls._length_))
    if not issubclass(cls, ctypes.Structure):
        # By size, not by ctypes' own code: "L" has 8 bytes there and 4 in a struct of standard sizes.
        code = {1: "b", 2: "h", 4: "i", 8: "q"}[ctypes.sizeof(cls)]
        return code if cls(-1).value < 0 else code.upper()
    text, position = "", 0
    for name, kind in cls._fields_:
        offset, size = getattr(cls, name).offset, ctypes.sizeof(kind)
        text += "x" * (offset - position) + (_format(kind) if size else "")
        position = offset + size
    return text + "x" * (ctypes.sizeof(cls) - position)


# ---- capability chains -------------------------------------------------------------------------------------------


@structure("vfio_info_cap_header")
class InfoCapHeader(AbiStructure):
    """The head of each capability in the chain behind an info structure (``vfio.h``).

    ``next`` is the offset of the next capability from the start of the whole buffer, 0 in the last one.
    """

    id: U16
    version: U16
    next: U32


_HEADER = native_struct(InfoCapHeader)
_ALIGNMENT = 8
_FIRST_POSSIBLE = 8  # every info structure begins with argsz and flags


@dataclass(frozen=True, slots=True)
class Capability:
    """One capability of a chain; its numbers mean what the info structure's own list says.

    `payload` is what follows the header, up to the next capability or the end of the buffer, so it may have padding
    at its end.  `offset` is where the header was found in the buffer.
    """

    id: int
    version: int
    payload: bytes
    offset: int = 0

    def read(self, cls: type[_S], minimum: int = 0) -> _S:
        """Read header and payload as `cls`, a structure whose first field is the header.

        With `minimum` (bytes, header included), a shorter capability of an older version is filled with zeros.
        Raise `MalformedAnswer` if there is less than that.
        """
        raw = self._raw()
        if len(raw) < (minimum or ctypes.sizeof(cls)):
            raise MalformedAnswer("read capability", cls._c_name_, f"it has only {len(raw)} bytes")
        return cls.from_buffer_copy(raw.ljust(ctypes.sizeof(cls), b"\0"))

    def trailer(self, cls: type[AbiStructure], item: type[_Item], count: int) -> list[_Item]:
        """Read the `count` elements of the flexible array at the end of `cls`; errors as `read_trailer`."""
        return read_trailer(self._raw(), cls, item, count)

    def trailing_bytes(self, cls: type[AbiStructure], count: int) -> bytes:
        """The `count` bytes of the flexible array at the end of `cls`; raise `MalformedAnswer` if there are fewer."""
        raw, start = self._raw(), _trailer_offset(cls)
        if start + count > len(raw):
            raise MalformedAnswer("read capability", cls._c_name_, f"{count} bytes said, {len(raw) - start} there")
        return raw[start : start + count]

    def _raw(self) -> bytes:
        return _HEADER.pack(self.id, self.version, 0) + self.payload


def _trailer_offset(cls: type[AbiStructure]) -> int:
    name, kind = cls._fields_[-1][0], cls._fields_[-1][1]
    if ctypes.sizeof(kind):
        raise Misuse(f"read the trailer of {cls.__name__}", cause="it has no flexible array")
    return int(getattr(cls, name).offset)


def read_trailer(
    raw: bytes | bytearray | memoryview, cls: type[AbiStructure], item: type[_Item], count: int
) -> list[_Item]:
    """Read `count` elements `item` of the flexible array which ends `cls`, out of `raw`, which begins with a `cls`.

    Raise `MalformedAnswer` if `raw` ends before the last of them.
    """
    start, size = _trailer_offset(cls), ctypes.sizeof(item)
    if start + count * size > len(raw):
        room = max(0, len(raw) - start) // size
        raise MalformedAnswer("read the trailer", cls._c_name_, f"{count} elements said, room for {room}")
    return [item.from_buffer_copy(raw, start + index * size) for index in range(count)]


def parse_capability_chain(buffer: bytes | bytearray | memoryview, first_offset: int, kind: str) -> list[Capability]:
    """Read the chain of capabilities out of the whole buffer of an info ioctl.

    `first_offset` is the structure's ``cap_offset`` (0: no chain, an empty list); `kind` says what was asked, for the
    error ("device info").  The order is the chain's.  Raise `MalformedAnswer` on a loop, on capabilities that
    overlap, and on an offset inside the fixed head or outside the buffer.  Source: ``vfio.h``, the text on
    ``struct vfio_info_cap_header``; ``drivers/vfio/vfio_main.c``, ``vfio_info_cap_add()``.
    """
    heads: dict[int, tuple[int, int]] = {}
    offset = first_offset
    while offset:
        if offset in heads:
            raise _broken(kind, f"a loop: {offset:#x} is reached a second time")
        if not _FIRST_POSSIBLE <= offset <= len(buffer) - _HEADER.size:
            raise _broken(kind, f"a capability at {offset:#x}, and the buffer has {len(buffer):#x} bytes")
        number, version, following = _HEADER.unpack_from(buffer, offset)
        heads[offset] = (number, version)
        offset = following
    ordered = sorted(heads)
    ends = dict(zip(ordered, [*ordered[1:], len(buffer)], strict=False))
    for start, end in ends.items():
        if end - start < _HEADER.size:
            raise _broken(kind, f"the capabilities at {start:#x} and {end:#x} overlap")
    return [
        Capability(number, version, bytes(buffer[start + _HEADER.size : ends[start]]), start)
        for start, (number, version) in heads.items()
    ]


def _broken(kind: str, detail: str) -> MalformedAnswer:
    return MalformedAnswer("read the capability chain", kind, detail)


def build_capability_chain(capabilities: Iterable[Capability], first_offset: int) -> bytes:
    """Lay capabilities out as the kernel does, to stand at `first_offset` of the answer.

    Each begins at a multiple of 8 and is padded with zeros; `Capability.offset` is ignored.  Raise `Misuse` if
    `first_offset` is no multiple of 8 (``vfio_info_cap_shift()`` warns of this).
    """
    if first_offset % _ALIGNMENT or first_offset < _FIRST_POSSIBLE:
        raise Misuse("build a capability chain", cause=f"it cannot begin at offset {first_offset}")
    chain, position = list(capabilities), first_offset
    parts: list[bytes] = []
    for index, capability in enumerate(chain):
        size = -(-(_HEADER.size + len(capability.payload)) // _ALIGNMENT) * _ALIGNMENT
        following = 0 if index == len(chain) - 1 else position + size
        head = _HEADER.pack(capability.id, capability.version, following)
        parts.append((head + capability.payload).ljust(size, b"\0"))
        position += size
    return b"".join(parts)
