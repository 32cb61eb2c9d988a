"""The outbound windows of a host bridge: from an address of the processor to one on the bus, and to an endpoint.

::

    M32    32-bit memory, one window, on the bus at 2 GiB    segment -> endpoint by a table
    IO     I/O ports, one window (P7IOC)                     segment -> endpoint by a table
    M64    64-bit memory, up to 32 windows                   segment n -> endpoint n, a table (P7IOC), or one endpoint

Addresses in 64-bit windows are the same on the bus.  Of windows that overlap, the one with the lowest number counts:
so a few segments of the large one can be given to virtual functions.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.abi.opal import OpalWindow
from pyvfio.errors import Misuse
from pyvfio.ioda.segments import Segments
from pyvfio_backends.software.hardware.ioda.model import PhbModel
from pyvfio_backends.software.hardware.pcie.request import Space

__all__ = ["OutboundWindow", "Windows"]


@dataclass
class OutboundWindow:
    """A window: its segments (None: nobody placed it), whose each is, and whether it is `enabled`.

    `single` is the endpoint that all of it belongs to; None: `owners` has one for each segment.
    """

    type: OpalWindow
    number: int
    owners: list[int]
    segments: Segments | None = None
    enabled: bool = False
    single: int | None = None

    def __post_init__(self) -> None:
        self.first = self.end = self.offset = self.size = 0
        if self.segments is not None:
            self.place(self.segments)

    def place(self, segments: Segments) -> None:
        """Put it at its addresses."""
        self.segments = segments
        self.first, self.end = segments.base, segments.base + segments.size
        self.offset, self.size = segments.bus_base - segments.base, segments.segment_size

    def owner(self, address: int) -> int:
        """The endpoint of an address of the processor in it."""
        return self.single if self.single is not None else self.owners[(address - self.first) // self.size]

    def same_owner(self, address: int) -> int:
        """How many bytes from an address on are in the same segment."""
        end = (
            self.end if self.single is not None else self.first + self.size * ((address - self.first) // self.size + 1)
        )
        return end - address


class Windows:
    """The windows of a bridge of `model`; `m32` and `io` are where the 32-bit and the I/O window are.

    Raise `Misuse` for a window that the model has not.
    """

    def __init__(self, model: PhbModel, m32: Segments, io: Segments | None = None) -> None:
        if (io is not None) > model.has_io:
            raise Misuse("make a host bridge", model.name, cause="it has no I/O window")
        self.model = model
        self.m32 = OutboundWindow(OpalWindow.M32, 0, [0] * m32.count, m32, True)
        self.io = OutboundWindow(OpalWindow.IO, 0, [0] * io.count, io, True) if io is not None else None
        self.m64 = [
            OutboundWindow(OpalWindow.M64, number, list(range(model.m64_segments)))
            for number in range(model.m64_windows)
        ]
        self._memory: list[OutboundWindow] = []
        self.changed()

    def reset(self) -> None:
        """Give all segments to endpoint 0, and switch the 64-bit windows off."""
        for window in (self.m32, self.io):
            if window is not None:
                window.owners[:] = [0] * len(window.owners)
        for window in self.m64:
            window.enabled, window.single = False, None
            window.owners[:] = range(self.model.m64_segments)
        self.changed()

    def changed(self) -> None:
        """Take note that a window was switched on or off."""
        self._memory = [*(one for one in self.m64 if one.enabled), self.m32]

    def find(self, space: Space, address: int) -> OutboundWindow | None:
        """The window that an address of the processor is in."""
        if space is Space.IO:
            io = self.io
            return io if io is not None and io.first <= address < io.end else None
        for window in self._memory:
            if window.first <= address < window.end:
                return window
        return None

    def from_bus(self, space: Space, address: int) -> int | None:
        """The processor's address of one on the bus; None: no window reaches it."""
        for window in self._memory if space is Space.MEMORY else [self.io]:
            if window is not None and window.first <= address - window.offset < window.end:
                return address - window.offset
        return None

    def of(self, type_: OpalWindow, number: int = 0) -> OutboundWindow | None:
        """A window by its type and number."""
        if type_ is OpalWindow.M64:
            return self.m64[number] if self.model.first_m64 <= number < len(self.m64) else None
        if number:
            return None
        return self.m32 if type_ is OpalWindow.M32 else self.io

    def owned(self, endpoint: int, *, wide: bool, common: bool | None = None) -> list[tuple[int, int]]:
        """First address and length of what an endpoint has: in 64-bit windows or in the 32-bit one.

        Of 64-bit windows with `common` in the last one alone, which all endpoints share, or (False) in the others.
        """
        found: list[tuple[int, int]] = []
        shared = {None: self.m64, True: self.m64[-1:], False: self.m64[:-1]}[common]
        for window in (one for one in shared if one.enabled) if wide else (self.m32,):
            if window.single is not None:
                found += [(window.first, window.end - window.first)] if window.single == endpoint else []
                continue
            for index, owner in enumerate(window.owners):
                if owner == endpoint:
                    found.append((window.first + index * window.size, window.size))
        return found
