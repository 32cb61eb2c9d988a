"""Two NICs and a cable, as `pyvfio.pci.pairnic` documents them.  Each is in a machine of its own."""

from __future__ import annotations

import struct
from collections import deque

import pytest
from device_rig import Board
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.abi import pci_regs as pci
from pyvfio.errors import Misuse
from pyvfio.pci.pairnic import (
    ADDRESS,
    CAUSE,
    CONTROL,
    DESCRIPTOR_SIZE,
    LOST,
    MAGIC,
    MAGIC_VALUE,
    RX_HEAD,
    RX_RING,
    RX_SIZE,
    RX_TAIL,
    STATUS,
    TX_HEAD,
    TX_RING,
    TX_SIZE,
    TX_TAIL,
    WAITING_LIMIT,
    FrameDescriptor,
    NicCause,
    NicStatus,
)
from pyvfio_backends.software.hardware.devices.pair_nic import PairNic, connect
from pyvfio_backends.software.hardware.pcie.peripherals import NicCard, nic_pair

TX, RX, OUT, IN, SLOT, SIZE = 0x1000, 0x2000, 0x10000, 0x40000, 0x2800, 8
UP = NicStatus.LINK | NicStatus.RUNNING
MACS = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"


class Host(Board):
    """A driver: frames out of a buffer for each descriptor, and into one."""

    def __init__(self, card: NicCard) -> None:
        super().__init__(card.function)
        self.enable_msix(0, 3, bar=1)

    def run(self) -> None:
        for register, value, width in ((TX_RING, TX, 8), (TX_SIZE, SIZE, 4), (RX_RING, RX, 8), (RX_SIZE, SIZE, 4)):
            self.store(register, value, width)
        self.store(CONTROL, 1)
        self.sent = self.offered = self.taken = 0

    def send(self, frame: bytes, *, buffer: int = 0) -> int:
        """Send; the flags that come back."""
        at, buffer = TX + self.sent * DESCRIPTOR_SIZE, buffer or OUT + self.sent * SLOT
        self.memory[OUT + self.sent * SLOT : OUT + self.sent * SLOT + len(frame)] = frame
        self.memory[at : at + DESCRIPTOR_SIZE] = FrameDescriptor(buffer, len(frame)).pack()
        self.sent = (self.sent + 1) % SIZE
        self.store(TX_TAIL, self.sent)
        return FrameDescriptor.parse(bytes(self.memory[at : at + DESCRIPTOR_SIZE])).flags

    def offer(self, length: int = 0x2400, *, buffer: int = 0) -> None:
        """Give a buffer for a frame."""
        at = RX + self.offered * DESCRIPTOR_SIZE
        buffer = buffer or IN + self.offered * SLOT
        self.memory[at : at + DESCRIPTOR_SIZE] = FrameDescriptor(buffer, length).pack()
        self.offered = (self.offered + 1) % SIZE
        self.store(RX_TAIL, self.offered)

    def take(self) -> list[bytes | int]:
        """The frames that are there; of one that did not fit its length."""
        found: list[bytes | int] = []
        while self.taken != self.offered:
            at = RX + self.taken * DESCRIPTOR_SIZE
            one = FrameDescriptor.parse(bytes(self.memory[at : at + DESCRIPTOR_SIZE]))
            if not one.flags & 1:
                break
            found.append(one.length if one.flags & 2 else bytes(self.memory[one.buffer : one.buffer + one.length]))
            self.taken = (self.taken + 1) % SIZE
        return found


def both(*, run: bool = True) -> tuple[Host, Host]:
    one, other = (Host(card) for card in nic_pair(*MACS))
    if run:
        one.run()
        other.run()
        for host in (one, other):
            host.store(CAUSE, 7)
            host.take_messages()
    return one, other


def test_descriptors() -> None:
    data = FrameDescriptor(0x1122334455667788, 60, 3).pack()
    assert data == struct.pack("<QHHI", 0x1122334455667788, 60, 3, 0)
    assert FrameDescriptor.parse(data).pack() == data


def test_what_cannot_be_built() -> None:
    with pytest.raises(Misuse):
        PairNic(b"12345")
    one = PairNic(MACS[0])
    with pytest.raises(Misuse):
        connect(one, one)
    connect(one, PairNic(MACS[1]))
    with pytest.raises(Misuse):
        connect(one, PairNic(MACS[1]))


@pytest.mark.parametrize(("register", "value"), [(TX_RING, 8), (RX_RING, 8), (TX_SIZE, 1), (RX_SIZE, 4097)])
def test_rings_that_cannot_be(register: int, value: int) -> None:
    one, _ = both()
    width = 8 if register in (TX_RING, RX_RING) else 4
    one.store(register, value, width)
    assert one.load(register, width) != value, "not while it runs"
    one.store(CONTROL, 0)
    one.store(register, value, width)
    one.store(CONTROL, 1)
    assert one.load(STATUS) == NicStatus.FAILED


@pytest.mark.parametrize("register", [TX_TAIL, RX_TAIL])
def test_a_tail_outside_fails_and_takes_the_link_down(register: int) -> None:
    one, other = both()
    one.store(register, SIZE)
    assert (one.load(STATUS), other.load(STATUS)) == (NicStatus.FAILED, NicStatus.RUNNING)
    assert other.take_messages() == [2]
    one.store(CONTROL, 0)
    one.run()
    assert (one.load(STATUS), other.load(STATUS)) == (UP, UP)


def test_a_ring_out_of_reach_fails() -> None:
    one, _ = both()
    one.function.config.write(pci.PCI_COMMAND, 2, one.function.config.command & ~pci.PCI_COMMAND_MASTER)
    one.store(TX_TAIL, 1)
    assert one.load(STATUS) == NicStatus.FAILED


def test_the_link_is_up_while_both_run() -> None:
    one, other = both(run=False)
    assert (one.load(MAGIC), one.load(ADDRESS, 8).to_bytes(8, "little")[:6]) == (MAGIC_VALUE, MACS[0])
    one.run()
    assert (one.load(STATUS), one.send(b"x" * 60)) == (NicStatus.RUNNING, 3)
    other.run()
    assert (one.load(STATUS), other.load(STATUS)) == (UP, UP)
    assert (one.take_messages(), other.take_messages()) == ([0, 2], [2])
    one.store(CAUSE, NicCause.LINK_CHANGED)
    other.function.reset()
    assert (one.load(STATUS), one.load(CAUSE)) == (NicStatus.RUNNING, NicCause.SENT | NicCause.LINK_CHANGED)


@pytest.mark.parametrize("length", [0, 13, 9019, 0x2800])
def test_lengths_that_no_frame_has(length: int) -> None:
    one, other = both()
    other.offer()
    assert one.send(bytes(length)) == 3
    assert one.send(b"y" * 14, buffer=0x10000000) == 3
    assert one.send(b"z" * 14) == 1
    assert other.take() == [b"z" * 14]


def test_frames_go_both_ways_and_interrupt() -> None:
    one, other = both()
    for host in (one, other):
        host.offer()
        host.offer()
    assert one.send(b"a" * 60) == one.send(b"b" * 9018) == other.send(b"c" * 14) == 1
    assert other.take() == [b"a" * 60, b"b" * 9018]
    assert one.take() == [b"c" * 14]
    assert (one.take_messages(), other.take_messages()) == ([0, 1], [1, 0]), "once, until it is acknowledged"
    one.store(CAUSE, NicCause.SENT)
    one.send(b"d" * 60)
    assert one.take_messages() == [0]


def test_frames_wait_for_buffers_and_are_lost_when_too_many_do() -> None:
    one, other = both()
    for number in range(WAITING_LIMIT + 3):
        one.send(bytes([number]) * 20)
    assert other.load(LOST) == 3
    other.offer()
    other.offer(19)
    other.offer()
    assert other.take() == [bytes(20), 20, b"\2" * 20]
    assert (other.load(LOST), other.load(RX_HEAD)) == (4, 3)
    other.store(CONTROL, 0)
    other.run()
    other.offer()
    assert other.take() == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.booleans(), st.integers(10, 200)),
            st.tuples(st.just("offer"), st.booleans(), st.integers(10, 200)),
            st.tuples(st.just("take"), st.booleans(), st.just(0)),
        ),
        max_size=40,
    )
)
def test_random_traffic_is_that_of_two_queues(steps: list[tuple[str, bool, int]]) -> None:
    hosts = both()
    waiting: tuple[deque[bytes], deque[bytes]] = deque(), deque()
    buffers: tuple[deque[int], deque[int]] = deque(), deque()
    arrived: tuple[list[bytes | int], list[bytes | int]] = [], []
    held = [0, 0]  # buffers that the driver has not got back
    for number, (what, which, length) in enumerate(steps):
        me = int(which)
        if what == "send":
            frame = bytes([number]) * length
            good = length >= 14
            assert hosts[me].send(frame) == (1 if good else 3)
            if good:
                waiting[1 - me].append(frame)
        elif what == "offer" and held[me] < SIZE - 1:
            hosts[me].offer(length)
            buffers[me].append(length)
            held[me] += 1
        elif what == "take":
            assert hosts[me].take() == arrived[me]
            held[me] -= len(arrived[me])
            arrived[me].clear()
        for end in (0, 1):
            while waiting[end] and buffers[end]:
                frame, room = waiting[end].popleft(), buffers[end].popleft()
                arrived[end].append(frame if len(frame) <= room else len(frame))
    assert [host.load(STATUS) for host in hosts] == [UP, UP]
    assert hosts[0].load(TX_HEAD) == hosts[0].sent


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.booleans(), st.integers(0, 20), st.one_of(st.integers(0, 9), st.integers(0, 0xFFFFFFFF))),
            st.tuples(st.booleans(), st.just(-1), st.binary(min_size=DESCRIPTOR_SIZE, max_size=8 * DESCRIPTOR_SIZE)),
        ),
        max_size=40,
    )
)
def test_nothing_that_a_host_does_raises(steps: list[tuple[bool, int, int | bytes]]) -> None:
    hosts = both()
    for which, place, value in steps:
        host = hosts[which]
        if isinstance(value, int):
            host.store(4 * place, value)
        else:
            for ring in (TX, RX):
                host.memory[ring : ring + len(value)] = value
        links = [bool(one.load(STATUS) & NicStatus.LINK) for one in hosts]
        running = [bool(one.load(STATUS) & NicStatus.RUNNING) for one in hosts]
        assert links == [all(running)] * 2


def test_frames_that_come_while_it_sleeps_wake_it() -> None:
    one, other = both()
    at = other.function.offset(pci.PCI_CAP_ID_PM)
    assert at is not None
    power = at + pci.PCI_PM_CTRL
    other.offer()
    other.function.config.write(power, 2, 3)
    frames = [bytes([number]) * 60 for number in range(2)]
    for frame in frames:
        assert one.send(frame) == 1
    assert other.take() == []
    assert other.function.config.read(power, 2) & pci.PCI_PM_CTRL_PME_STATUS
    assert other.take_messages() == []
    other.function.config.write(power, 2, pci.PCI_PM_CTRL_PME_STATUS)
    assert other.take() == frames[:1]
    assert other.take_messages() == [1]
    other.offer()
    assert other.take() == frames[1:]
    assert other.load(STATUS) == UP
