"""A copier under copier-vfio-pci: it is stopped in its work, and goes on in another machine as if nothing had been."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.vfio import PciIrq, RegionFlags
from pyvfio.abi.vfio_feature import VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, DeviceFeatureDmaLoggingReport
from pyvfio.abi.vfio_feature import MigrationState as S
from pyvfio.errors import KernelRefused, Misuse, NotAvailable
from pyvfio.pci import copier_control as control
from pyvfio.pci.copier import (
    CONTROL,
    COUNTER,
    DESCRIPTOR_SIZE,
    DONE,
    ENTRIES,
    HEAD,
    RING,
    RUN,
    STATUS,
    TAIL,
    CopierStatus,
    Descriptor,
    Operation,
)
from pyvfio.vfio import Device
from pyvfio_backends.software.description import MachineSpec, PcieIommuSpec
from pyvfio_backends.software.loader import load_machine, machine_files

FIRST, SECOND, NVME = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
PAGE, SIZE, ROOM = 1 << 12, 8, 32
AT, COUNT_AT, SOURCE, TARGET = 0, PAGE, 2 * PAGE, 16 * PAGE
"""Offsets in the memory that all tests map at the same IOVA."""
BASE = 1 << 32
PATTERN = bytes(range(256))


@contextmanager
def copier(name: str = FIRST, machine: str | MachineSpec = "x86-copiers") -> Iterator[Copier]:
    """A copier in a new machine, open, with memory and an interrupt."""
    with ExitStack() as stack:
        host = stack.enter_context(pyvfio.Host("software", machine=machine))
        pyvfio.run(pyvfio.plan_bind(host.device(name), driver="copier-vfio-pci"))
        yield Copier(stack.enter_context(pyvfio.open_device(host, name)), stack)


class Copier:
    """A driver: a ring of descriptors that each copy a piece of the pattern and interrupt."""

    def __init__(self, device: Device, stack: ExitStack) -> None:
        self.device = device
        self.bar = device.bar(0)
        command = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER
        device.config.write(regs.PCI_COMMAND, command.to_bytes(2, "little"))
        self.memory = stack.enter_context(device.space.buffer(ROOM * PAGE, iova=BASE))
        self.irq = device.irq(PciIrq.MSIX)
        self.irq.enable()
        self.tail = 0

    def set_up(self) -> None:
        for register, value in ((RING, BASE + AT), (COUNTER, BASE + COUNT_AT)):
            self.bar.write_u64(register, value)
        self.bar.write_u32(ENTRIES, SIZE)
        self.bar.write_u32(CONTROL, RUN)
        self.memory.view[SOURCE : SOURCE + len(PATTERN)] = PATTERN

    def ask(self, count: int) -> None:
        for _ in range(count):
            place = BASE + TARGET + self.tail * PAGE
            one = Descriptor(Operation.COPY, 256, BASE + SOURCE, place, flags=1, vector=0)
            at = AT + self.tail * DESCRIPTOR_SIZE
            self.memory.view[at : at + DESCRIPTOR_SIZE] = one.pack()
            self.tail = (self.tail + 1) % SIZE
        self.bar.write_u32(TAIL, self.tail)

    def done(self) -> list[int]:
        """The pieces that are there."""
        found = []
        for index in range(SIZE):
            at = TARGET + index * PAGE
            if bytes(self.memory.view[at : at + 256]) == PATTERN:
                found.append(index)
        return found

    @property
    def registers(self) -> dict[int, int]:
        return {at: self.bar.read_u32(at) for at in (STATUS, ENTRIES, HEAD, TAIL, CONTROL, DONE)}


def test_the_upper_half_is_the_drivers() -> None:
    with copier() as one:
        assert (one.bar.size, one.bar.mappable) == (control.OWNERS_HALF, False)
        assert RegionFlags.MMAP not in one.bar.flags
        assert len(one.device.backend.pread(one.device.fileno(), 8, one.bar.offset + control.OWNERS_HALF - 4)) == 4
        for call in (
            lambda: one.device.backend.pread(one.device.fileno(), 4, one.bar.offset + control.PAUSE),
            lambda: one.device.backend.pwrite(one.device.fileno(), bytes(4), one.bar.offset + control.PAUSE),
            lambda: one.device.backend.mmap(one.device.fileno(), PAGE, offset=one.bar.offset),
        ):
            with pytest.raises(OSError, match="Invalid argument"):
                call()


def test_another_device_is_none_for_the_driver() -> None:
    with pyvfio.Host("software", machine="x86-copiers") as host:
        with pytest.raises(pyvfio.PyvfioError):
            pyvfio.run(pyvfio.plan_bind(host.device(NVME), driver="copier-vfio-pci"))
        assert host.device(NVME).driver is None


def test_a_copier_under_plain_vfio_pci_does_not_migrate() -> None:
    with pyvfio.Host("software", machine="x86-copiers") as host:
        pyvfio.run(pyvfio.plan_bind(host.device(FIRST), driver="vfio-pci"))
        with pyvfio.open_device(host, FIRST) as opened, pytest.raises(NotAvailable):
            _ = opened.migration


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0x10, 3), (0x10, 0), (0x14, 1), (0x14, 1 << 13), (0x18, SIZE), (0x1C, SIZE), (0x20, 2), (0x20, 0), (0, 1)],
    ids=["status", "halted", "entries", "many", "head", "tail", "control", "stopped", "ring"],
)
def test_a_state_that_no_copier_can_be_in(offset: int, value: int) -> None:
    with copier() as one:
        one.set_up()
        saved = bytearray(one.device.migration.save())
        at = control.StreamHead.SIZE + offset
        saved[at : at + 4] = value.to_bytes(4, "little")
        before = one.registers
        with pytest.raises(KernelRefused) as caught:
            one.device.migration.resume(bytes(saved))
        assert (caught.value.errno_name, one.device.migration.state) == ("EIO", S.ERROR)
        assert caught.value.next_step == "reset the device"
        assert one.registers == before
        with pytest.raises(KernelRefused):
            one.device.migration.run()
        one.device.reset()
        assert one.device.migration.state is S.RUNNING


@pytest.mark.parametrize("stream", [None, 5, "text", [b"", None], (b"a", "b")], ids=repr)
def test_what_is_no_stream_leaves_the_device_as_it_was(stream: Any) -> None:
    with copier() as one:
        one.set_up()
        before = one.registers
        with pytest.raises(Misuse, match="a stream is bytes"):
            one.device.migration.resume(stream)
        assert (one.device.migration.state, one.registers) == (S.RUNNING, before)


def test_an_iterator_is_looked_at_as_it_goes() -> None:
    with copier() as one, pytest.raises(Misuse, match="not NoneType"):
        one.device.migration.resume(iter([None]))


def test_a_stream_comes_in_anything_that_is_bytes() -> None:
    with copier() as one, copier(SECOND) as other:
        one.set_up()
        saved = one.device.migration.save()
        for stream in (bytearray(saved), memoryview(saved), [saved[:9], bytearray(saved[9:])], iter([saved])):
            other.device.migration.resume(stream)
            assert other.registers == one.registers
            other.device.migration.run()


def test_it_goes_on_in_another_machine() -> None:
    with copier() as one, copier(SECOND) as other:
        one.set_up()
        one.ask(3)
        assert one.irq.wait(5) == 3
        one.device.migration.quiesce()
        one.ask(4)  # the doorbell is heard, and the work waits
        assert (one.done(), one.registers[HEAD], one.registers[TAIL]) == ([0, 1, 2], 3, 7)
        saved = one.device.migration.save()
        before = one.registers

        other.memory.view[:] = one.memory.view[:]
        other.tail = one.tail
        other.device.migration.resume(saved)
        assert other.registers == before
        assert (other.done(), other.irq.poll()) == ([0, 1, 2], 0)
        other.device.migration.run()
        assert other.irq.wait(5) == 4
        assert other.done() == [0, 1, 2, 3, 4, 5, 6]
        assert (other.registers[DONE], other.registers[HEAD]) == (7, 7)
        other.ask(1)
        assert other.done() == list(range(8))
        assert int.from_bytes(other.memory.view[COUNT_AT : COUNT_AT + 8], "little") == 8

        assert one.registers == before  # it is stopped
        one.bar.write_u32(TAIL, 0)
        assert (one.registers, one.done(), one.irq.poll()) == (before, [0, 1, 2], 0)
        one.device.migration.run()  # and would go on here, had it not been moved
        assert one.done() == [0, 1, 2, 3, 4, 5, 6]


def test_a_halted_or_failed_one_comes_as_it_was() -> None:
    with copier() as one, copier(SECOND) as other:
        for prepare in (lambda: None, lambda: one.bar.write_u32(CONTROL, RUN)):
            prepare()
            other.device.migration.resume(one.device.migration.save())
            assert other.registers == one.registers
            for each in (one, other):
                each.device.migration.run()
        assert one.registers[STATUS] == CopierStatus.FAILED


def test_it_is_saved_with_memory_decoding_off() -> None:
    """The driver reaches it whatever the program has in the command register."""
    with copier() as one:
        one.set_up()
        saved = one.device.migration.save()
        one.device.migration.run()
        one.device.config.write(regs.PCI_COMMAND, bytes(2))
        assert one.device.migration.save() == saved
        assert one.device.config.read(regs.PCI_COMMAND, 2) == bytes(2)


def test_closing_lets_it_run() -> None:
    with copier() as one:
        one.set_up()
        one.device.migration.set_state(S.STOP)
        name, space = one.device.name, one.device.space.kind
        assert (name, space) == (FIRST, "iommufd")
        one.device.close()
    with copier() as again:
        assert again.device.migration.state is S.RUNNING


def test_what_it_writes_is_logged() -> None:
    with copier() as one:
        one.set_up()
        with one.device.log_dma() as log:
            assert log.page_size == PAGE
            assert not log.take(BASE, ROOM * PAGE)
            one.ask(2)
            found = log.take(BASE, ROOM * PAGE)
            assert [(one_.iova - BASE, one_.length) for one_ in found.ranges()] == [
                (COUNT_AT, PAGE),
                (TARGET, 2 * PAGE),
            ]
            assert not log.take(BASE, ROOM * PAGE)  # it was forgotten
            one.ask(1)
            assert log.take(BASE, ROOM * PAGE, page_size=16 * PAGE).count == 2
            one.ask(1)
            assert log.take(BASE + TARGET, 16 * PAGE).count == 1
            assert log.take(BASE, ROOM * PAGE).count == 1  # the counter's page, outside the last range
        report = DeviceFeatureDmaLoggingReport(iova=BASE, length=PAGE, page_size=PAGE, bitmap=one.memory.address)
        with pytest.raises(KernelRefused) as caught:
            one.device.feature.ask(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, bytes(report))
        assert caught.value.errno_name == "EINVAL"  # there is no log any more


def test_the_iommu_notes_what_it_writes() -> None:
    """The same by an IOMMU that notes writes, through iommufd; and nothing is missed in an unmap."""
    spec = load_machine(machine_files()["x86-copiers"])
    iommu = PcieIommuSpec(dirty_tracking=True)
    host = dataclasses.replace(spec.host, cmdline="intel_iommu=sm_on")
    with copier(machine=dataclasses.replace(spec, pcie_iommus=[iommu], host=host)) as one:
        space = one.device.space
        one.device.attach(space, dirty_tracking=True)
        one.set_up()
        with space.dirty_log() as log:
            assert list(log.dirty()) == []
            one.ask(2)
            assert [(found.iova - BASE, found.length) for found in log.dirty()] == [
                (COUNT_AT, PAGE),
                (TARGET, 2 * PAGE),
            ]
            assert not log.take(BASE, ROOM * PAGE)
            one.ask(1)
            one.device.migration.stop()
            bitmap = log.unmap(BASE, ROOM * PAGE)
            assert [found.iova - BASE for found in bitmap.ranges()] == [COUNT_AT, TARGET + 2 * PAGE]
            assert space.mappings() == []


def test_only_one_log_at_a_time_and_only_its_ranges() -> None:
    with copier() as one:
        one.set_up()
        with one.device.log_dma([(BASE + TARGET, 2 * PAGE)], page_size=PAGE) as log:
            with pytest.raises(KernelRefused) as caught:
                one.device.log_dma()
            assert caught.value.errno_name == "EINVAL"
            one.ask(4)
            assert [found.length for found in log.take(BASE, ROOM * PAGE).ranges()] == [2 * PAGE]
        one.device.log_dma().close()
