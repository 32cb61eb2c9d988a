"""Any function, any accesses: what is hidden is never seen, what is read-only never reaches the hardware.

The hardware here takes every write, so that nothing but vfio-pci stands between a program and its registers.  What may
reach it is told by fields (`REACHABLE`), written down apart from the tables of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from config_card import Card, conventional, extended
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity

SIZES = {
    0x01: 8, 0x02: 12, 0x03: 8, 0x04: 4, 0x05: 24, 0x06: 4, 0x07: 24, 0x08: 28, 0x09: 16, 0x0A: 4, 0x0B: 4, 0x0C: 8,
    0x0D: 8, 0x0E: 8, 0x0F: 8, 0x10: 52, 0x11: 12, 0x12: 16, 0x13: 8, 0x14: 8, 0x15: 8, 0xFF: 4,
}  # fmt: skip
HIDDEN = {0x04, 0x06, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x14, 0x15, 0xFF}
EXTENDED_SIZES = {
    0x01: 0x48, 0x02: 0x40, 0x03: 12, 0x04: 16, 0x05: 16, 0x06: 8, 0x07: 8, 0x08: 0x40, 0x09: 0x40, 0x0A: 8, 0x0B: 16,
    0x0C: 8, 0x0D: 40, 0x0E: 8, 0x0F: 8, 0x10: 64, 0x11: 8, 0x12: 48, 0x13: 16, 0x14: 8, 0x15: 60, 0x16: 48, 0x17: 12,
    0x18: 8, 0x19: 12, 0x1A: 8, 0x1B: 8, 0x1D: 12, 0x1E: 16, 0x1F: 12, 0x23: 16, 0x25: 12, 0x2E: 24, 0x30: 8, 0x1234: 8,
}  # fmt: skip
EXTENDED_HIDDEN = {
    0x05, 0x06, 0x07, 0x0A, 0x0C, 0x11, 0x14, 0x19, 0x1A, 0x1B, 0x1D, 0x1E, 0x1F, 0x25, 0x2E, 0x30, 0x1234,
}  # fmt: skip
RAW, EXTENDED_RAW = {0x09}, {0x0B, 0x23}
UNCORRECTABLE, CORRECTABLE = "31f0ff03", "c1f10000"
REACHABLE = {
    "header": "0000 0000 ffff 0000 00000000 ffff00ff".replace(" ", ""),  # command, cache line, latency, BIST
    0x01: "00000000 ffffffff",  # power: a change of state by the kernel clears all of the control word
    0x05: "0000ff00",  # MSI: what the model made of the flags; masks and pending bits follow
    0x07: "0000ffff 00000000 ffffffff",
    0x10: "00000000 00000000 1f7d",  # device control; the read request size goes on a way of its own
}
"""As hexadecimal bytes, from the first byte of the capability on."""


@dataclass(frozen=True)
class Shape:
    """A function: its capabilities in the order of the chain, and the noise in their registers."""

    capabilities: list[int]
    extended: list[int]
    noise: bytes


def shapes() -> st.SearchStrategy[Shape]:
    return st.builds(
        Shape,
        st.lists(st.sampled_from(sorted(SIZES)), max_size=6, unique=True),
        st.lists(st.sampled_from(sorted(EXTENDED_SIZES)), max_size=12, unique=True),
        st.binary(min_size=64, max_size=64),
    )


@dataclass
class Built:
    card: Card
    places: list[tuple[int, int, int]]
    """Offset, id and size of what was placed, the extended ones after the others."""

    def changeable(self) -> bytearray:
        """A mask of what a program may change in the hardware, everywhere."""
        mask = bytearray(b"\xff" * 4096)
        mask[:64] = bytes.fromhex(REACHABLE["header"]).ljust(64, b"\0")
        config = self.card.config
        for at, number, size in self.places:
            is_extended = at >= 256
            hidden = number in (EXTENDED_HIDDEN if is_extended else HIDDEN)
            if hidden and at != 256:
                continue  # nobody's bytes
            if number in (EXTENDED_RAW if is_extended else RAW):
                continue
            if hidden:
                size = 4
            field = bytearray(size)
            if is_extended and number == 0x01:
                given = bytes(4) + bytes.fromhex(UNCORRECTABLE * 3 + CORRECTABLE * 2 + "40010000") + bytes(16)
                field = bytearray(given) + bytearray(b"\xff" * (size - len(given)))  # no longer than an endpoint's
            elif is_extended and number == 0x04:
                field[8] = 0xFF
            elif not is_extended and number in REACHABLE:
                given = bytes.fromhex(REACHABLE[number])
                field[: len(given)] = given
                if number == 0x10:
                    field[0x28:0x2A] = b"\xdf\xff"
                if number == 0x05:
                    field = self._msi(at, size)
            elif not is_extended and number == 0x03:
                field[2:8] = b"\xff" * 6  # the kernel's accesses to the window
            mask[at : at + size] = self._tail(config, at, number, field, is_extended)
        return mask

    def _msi(self, at: int, size: int) -> bytearray:
        flags = self.card.config.read(at + 2, 2)
        length = 10 + (4 if flags & 0x80 else 0) + (10 if flags & 0x100 else 0)
        field = bytearray(b"\xff" * size)
        field[:length] = bytes(length)
        field[2:4] = b"\xff\xff"
        if flags & 0x100:
            first = 16 if flags & 0x80 else 12
            field[first : first + 8] = b"\xff" * 8
        return field

    @staticmethod
    def _tail(config: ConfigSpace, at: int, number: int, field: bytearray, is_extended: bool) -> bytes:
        """What the size allows beyond the length that the registers tell is nobody's."""
        short = {0x07: 8, 0x08: 24, 0x12: 8, 0x13: 6, 0x10: 20}
        longer = {0x02: 16, 0x08: 16, 0x09: 16, 0x0D: 8, 0x12: 40, 0x15: 4, 0x16: 17, 0x17: 12}
        from_ = (longer if is_extended else short).get(number)
        if from_ is not None and from_ < len(field):
            field[from_:] = bytes(b | 0xFF for b in field[from_:])
        return bytes(field)


def build(shape: Shape) -> Built:
    config = ConfigSpace(Identity(0x1234, 0x5678))
    config.extend()
    data = config.data
    places: list[tuple[int, int, int]] = []
    at, link = 0x40, 0x34
    for number in [*dict.fromkeys((*shape.capabilities[:3], 0x10, *shape.capabilities[3:]))]:
        size = SIZES[number]
        if at + size > 256:
            continue
        data[at : at + size] = (shape.noise * 2)[at % 64 : at % 64 + size]
        data[at], data[at + 1] = number, 0
        data[link] = at
        if number == 0x09:
            data[at + 2] = size
        if number == 0x05:
            data[at + 2] &= 0x8F
        places.append((at, number, size))
        link, at = at + 1, at + -(-size // 4) * 4
    data[6] |= 0x10
    at, last = 0x100, 0
    for number in shape.extended:
        size = EXTENDED_SIZES[number]
        data[at : at + size] = (shape.noise * 3)[at % 64 : at % 64 + size]
        data[at : at + 4] = (number | 1 << 16).to_bytes(4, "little")
        if number in (0x0B, 0x23):
            data[at + 4 : at + 8] = (size << 20 | 7).to_bytes(4, "little")
        if last:
            data[last : last + 4] = (int.from_bytes(data[last : last + 4], "little") | at << 20).to_bytes(4, "little")
        places.append((at, number, size))
        last, at = at, at + 0x60
    if not shape.extended:
        data[0x100:0x104] = bytes(4)
    config.writable[:] = b"\xff" * len(data)
    if not shape.extended:
        config.writable[0x100:0x104] = bytes(4)  # the device must not make a capability of nobody's bytes
    config.clearable[:] = bytes(len(config.clearable))
    return Built(Card(config), places)


WRITES = st.lists(st.tuples(st.integers(0, 0x700), st.binary(min_size=1, max_size=9)), max_size=12)


@given(shapes(), WRITES)
@settings(max_examples=150, deadline=None)
def test_what_is_hidden_is_never_seen(shape: Shape, writes: list[tuple[int, bytes]]) -> None:
    built = build(shape)
    view = built.card.open()
    shown = [(at, n) for at, n, _ in built.places if at < 256 and n not in HIDDEN]
    shown_extended = [(at, n) for at, n, _ in built.places if at >= 256 and n not in EXTENDED_HIDDEN]
    for position, data in [(0, b""), *writes]:
        view.write(data, position)
        assert [at for at, _ in conventional(view)] == [at for at, _ in shown]
        assert extended(view) == shown_extended


@given(shapes(), WRITES, st.sampled_from([1, 2, 3, 4, 8]), st.binary(min_size=1, max_size=1))
@settings(max_examples=100, deadline=None)
def test_read_only_bits_never_reach_the_hardware(
    shape: Shape, writes: list[tuple[int, bytes]], width: int, value: bytes
) -> None:
    built = build(shape)
    allowed = built.changeable()
    before = bytes(built.card.config.data)
    view = built.card.open()
    for position, data in writes:
        view.write(data, position)
    for sweep in (b"\xff", b"\0", value):
        for position in range(0, 0x700, width):
            view.write(sweep * width, position)
        now = built.card.config.data
        wrong = [hex(at) for at in range(4096) if (before[at] ^ now[at]) & ~allowed[at]]
        assert wrong == []


@given(shapes(), WRITES, st.integers(0, 0xFF0), st.integers(1, 16))
@settings(max_examples=150, deadline=None)
def test_a_read_is_the_reads_of_its_bytes(
    shape: Shape, writes: list[tuple[int, bytes]], position: int, count: int
) -> None:
    view = build(shape).card.open()
    for place, data in writes:
        view.write(data, place)
    for first in (position, position % 0x200):
        assert view.read(count, first) == b"".join(view.read(1, at) for at in range(first, first + count))
