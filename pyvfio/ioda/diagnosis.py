"""The error log of a host bridge as an object, and as the bytes of one of the structures of `pyvfio.abi.opal_diag`."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyvfio.abi.opal_diag import ERROR_DATA, OPAL_PHB_ERROR_DATA_VERSION_1
from pyvfio.errors import MalformedAnswer, Misuse
from pyvfio.ioda.pest import PestEntry

__all__ = ["Diagnosis"]

_NOT_REGISTERS = ("version", "ioType", "len", "pestA", "pestB")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A log: which generation (``OPAL_PHB_ERROR_DATA_TYPE_*``), registers by name, and A and B of frozen endpoints.

    Registers that are 0 are left out of `registers`, endpoints of which A and B are 0 out of `endpoints`.
    """

    type: int
    registers: Mapping[str, int] = field(default_factory=dict)
    endpoints: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> Diagnosis:
        """Read one.  Raise `MalformedAnswer` for a kind that is not known, or one that is too short."""
        kinds = {one.TYPE: one for one in ERROR_DATA}
        kind = kinds.get(int.from_bytes(data[4:8], "big"))
        if kind is None or len(data) < ctypes.sizeof(kind):
            raise MalformedAnswer("read an error log", "of a host bridge", f"{len(data)} bytes of no known kind")
        read = kind.from_buffer_copy(data)
        names = [name for name, *_ in kind._fields_ if name not in _NOT_REGISTERS]
        registers = {name: value for name in names if (value := getattr(read, name))}
        pairs = enumerate(zip(read.pestA, read.pestB, strict=True))
        return cls(kind.TYPE, registers, {number: pair for number, pair in pairs if any(pair)})

    @property
    def causes(self) -> dict[int, PestEntry]:
        """What froze each endpoint that is frozen."""
        return {number: PestEntry.decode(*pair) for number, pair in self.endpoints.items()}

    def to_bytes(self) -> bytes:
        """Build the structure.  Raise `Misuse` for a kind, a register or an endpoint that there is not."""
        kind = next((one for one in ERROR_DATA if self.type == one.TYPE), None)
        if kind is None:
            raise Misuse("write an error log", "of a host bridge", cause=f"there is no kind {self.type}")
        known = {name for name, *_ in kind._fields_}.difference(_NOT_REGISTERS)
        unknown = [*(set(self.registers) - known), *(one for one in self.endpoints if not 0 <= one < kind.ENDPOINTS)]
        if unknown:
            cause = f"{kind._c_name_} has no {', '.join(map(str, unknown))}"
            raise Misuse("write an error log", "of a host bridge", cause=cause)
        made = kind()
        made.version, made.ioType, made.len = OPAL_PHB_ERROR_DATA_VERSION_1, kind.TYPE, ctypes.sizeof(kind)
        for name, value in self.registers.items():
            setattr(made, name, value)
        for number, (a, b) in self.endpoints.items():
            made.pestA[number], made.pestB[number] = a, b
        return bytes(made)
