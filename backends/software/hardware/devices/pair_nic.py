"""The pair NIC: passes frames to the one that a cable connects it with.  Documented in `pyvfio.pci.pairnic`.

A frame is there as soon as it was sent; the one that sends works inside the store that rings its doorbell.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from pyvfio.errors import Misuse
from pyvfio.pci.pairnic import (
    ADDRESS,
    CAUSE,
    CONTROL,
    DESCRIPTOR_SIZE,
    ENTRY_LIMIT,
    LONGEST_FRAME,
    LOST,
    MAGIC,
    MAGIC_VALUE,
    RUN,
    RX_HEAD,
    RX_RING,
    RX_SIZE,
    RX_TAIL,
    SHORTEST_FRAME,
    STATUS,
    TX_HEAD,
    TX_RING,
    TX_SIZE,
    TX_TAIL,
    WAITING_LIMIT,
    FrameDescriptor,
    FrameFlags,
    NicCause,
    NicStatus,
)
from pyvfio_backends.software.hardware.devices.register_places import RegisterPlaces
from pyvfio_backends.software.hardware.dma import DmaFault, Initiator, WakingInitiator

__all__ = ["PairNic", "connect"]

_DWORD: Final = 0xFFFFFFFF
_ADDRESSES: Final = (1 << 64) - 1
_WIDE: Final = (ADDRESS, TX_RING, RX_RING)
_SETUP: Final = (TX_RING, TX_SIZE, RX_RING, RX_SIZE)
_SEND: Final = (TX_RING, TX_SIZE, TX_HEAD, TX_TAIL)
_RECEIVE: Final = (RX_RING, RX_SIZE, RX_HEAD, RX_TAIL)
_REGISTERS: Final = (MAGIC, CONTROL, STATUS, CAUSE, LOST, *_WIDE, *_SEND, *_RECEIVE)
_PLACES: Final = RegisterPlaces(_REGISTERS, _WIDE)
_MAC_SIZE: Final = 6
_AT_ONCE: Final = 1 << 16


class PairNic:
    """The registers of BAR 0 (implements `Registers`), acting through the function of `attach`.

    `mac` are 6 bytes.  Raise `Misuse` for another number of them.
    """

    def __init__(self, mac: bytes) -> None:
        if len(mac) != _MAC_SIZE:
            raise Misuse("build NIC", mac.hex(), cause=f"a MAC address has {_MAC_SIZE} bytes, not {len(mac)}")
        self.mac = mac
        self.peer: PairNic | None = None
        self._function: WakingInitiator | None = None
        self._values: dict[int, int] = {}
        self._waiting: deque[bytes] = deque()
        self._sending = self._receiving = False
        self.reset()

    def attach(self, function: WakingInitiator) -> None:
        """Belong to a function."""
        self._function = function
        function.on_power.append(self._fill)

    # registers

    def reset(self) -> None:
        """See `Registers.reset`: stopped, all zero; the other end's link goes down."""
        self._waiting.clear()
        self._values = dict.fromkeys(_REGISTERS, 0)
        self._values[MAGIC] = MAGIC_VALUE
        self._values[ADDRESS] = int.from_bytes(self.mac, "little")
        if self.peer is not None:
            self.peer.link_changed()

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return _PLACES.takes(offset, length)

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        return _PLACES.read(self._values, offset, length)

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        register, shift = _PLACES.locate(offset, length)
        values = self._values
        if register == CONTROL:
            self._control(value & RUN)
        elif register == CAUSE:
            values[CAUSE] &= ~value
        elif register in _SETUP and not values[CONTROL]:
            mask = (1 << 8 * length) - 1 << shift
            values[register] = values[register] & ~mask | value << shift & mask
        elif register in (TX_TAIL, RX_TAIL) and self.running:
            values[register] = value
            if value >= values[TX_SIZE if register == TX_TAIL else RX_SIZE]:
                self._fail()
            elif register == TX_TAIL:
                self._send()
            else:
                self._fill()

    @property
    def running(self) -> bool:
        """Whether it is on, and has not failed."""
        return bool(self._values[STATUS] & NicStatus.RUNNING)

    def _control(self, value: int) -> None:
        values = self._values
        if value == values[CONTROL]:
            return
        values[CONTROL] = value
        values[STATUS] &= ~(NicStatus.RUNNING | NicStatus.FAILED)
        self._waiting.clear()
        if value:
            values[TX_HEAD] = values[TX_TAIL] = values[RX_HEAD] = values[RX_TAIL] = 0
            rings = all(not values[ring] % DESCRIPTOR_SIZE for ring in (TX_RING, RX_RING))
            sizes = all(2 <= values[size] <= ENTRY_LIMIT for size in (TX_SIZE, RX_SIZE))
            values[STATUS] |= NicStatus.RUNNING if rings and sizes else NicStatus.FAILED
        self._tell_both()

    def _fail(self) -> None:
        self._values[STATUS] = self._values[STATUS] & ~NicStatus.RUNNING | NicStatus.FAILED
        self._waiting.clear()
        self._tell_both()

    # the link

    def _tell_both(self) -> None:
        self.link_changed()
        if self.peer is not None:
            self.peer.link_changed()

    def link_changed(self) -> None:
        """Look whether both ends run, and tell a change."""
        link = self.running and self.peer is not None and self.peer.running
        if link != bool(self._values[STATUS] & NicStatus.LINK):
            self._values[STATUS] ^= NicStatus.LINK
            self._tell(NicCause.LINK_CHANGED)

    def _tell(self, cause: NicCause) -> None:
        before = self._values[CAUSE]
        self._values[CAUSE] |= cause
        if not before & cause and self._function is not None:
            self._function.signal(cause.bit_length() - 1)

    # frames

    def _next(self, ring: tuple[int, int, int, int]) -> tuple[Initiator, int, FrameDescriptor] | None:
        """The function, the place and the content of the next descriptor; None if there is none."""
        base, _, head, tail = ring
        values, function = self._values, self._function
        if function is None or not self.running or values[head] == values[tail]:
            return None
        at = values[base] + values[head] * DESCRIPTOR_SIZE & _ADDRESSES
        try:
            return function, at, FrameDescriptor.parse(function.dma_read(at, DESCRIPTOR_SIZE))
        except DmaFault:
            self._fail()
            return None

    def _finish(
        self, ring: tuple[int, int, int, int], at: int, descriptor: FrameDescriptor, length: int, *, good: bool
    ) -> None:
        """Give a descriptor back, and go on to the next one."""
        _, size, head, _ = ring
        values, function = self._values, self._function
        flags = FrameFlags.DONE if good else FrameFlags.DONE | FrameFlags.ERROR
        if function is None or not self.running:
            return
        entries = values[size]
        try:
            function.dma_write(at, FrameDescriptor(descriptor.buffer, length, flags).pack())
        except DmaFault:
            self._fail()
            return
        values[head] = (values[head] + 1) % entries

    def _send(self) -> None:
        if self._sending:
            return
        self._sending = True
        try:
            for _ in range(_AT_ONCE):  # an end, also where interrupts make the host ring again and again
                found = self._next(_SEND)
                if found is None:
                    break
                function, at, descriptor = found
                good = self._send_frame(function, descriptor)
                self._finish(_SEND, at, descriptor, descriptor.length, good=good)
                self._tell(NicCause.SENT)
        finally:
            self._sending = False

    def _send_frame(self, function: Initiator, descriptor: FrameDescriptor) -> bool:
        if self.peer is None or not self._values[STATUS] & NicStatus.LINK:
            return False
        if not SHORTEST_FRAME <= descriptor.length <= LONGEST_FRAME:
            return False
        try:
            frame = function.dma_read(descriptor.buffer, descriptor.length)
        except DmaFault:
            return False
        self.peer.arrive(frame)
        return True

    def arrive(self, frame: bytes) -> None:
        """A frame comes out of the cable."""
        if not self.running:
            return
        if len(self._waiting) >= WAITING_LIMIT:
            self._lose()
            return
        self._waiting.append(frame)
        if self._function is not None and self._function.asleep:
            self._function.raise_event()
        else:
            self._fill()

    def _lose(self) -> None:
        self._values[LOST] = self._values[LOST] + 1 & _DWORD

    def _fill(self) -> None:
        """Put the frames that wait into buffers."""
        if self._receiving or (self._function is not None and self._function.asleep):
            return
        self._receiving = True
        try:
            while self._waiting:
                found = self._next(_RECEIVE)
                if found is None or not self._waiting:
                    break
                function, at, descriptor = found
                frame = self._waiting.popleft()
                good = len(frame) <= descriptor.length
                try:
                    if good:
                        function.dma_write(descriptor.buffer, frame)
                except DmaFault:
                    good = False
                if not good:
                    self._lose()
                self._finish(_RECEIVE, at, descriptor, len(frame), good=good)
                self._tell(NicCause.RECEIVED)
        finally:
            self._receiving = False


def connect(one: PairNic, other: PairNic) -> None:
    """Plug a cable in.  Raise `Misuse` where there is one already."""
    if one.peer is not None or other.peer is not None or one is other:
        raise Misuse(
            "connect NICs", f"{one.mac.hex(':')} and {other.mac.hex(':')}", cause="one end has a cable already"
        )
    one.peer, other.peer = other, one
    one.link_changed()
    other.link_changed()
