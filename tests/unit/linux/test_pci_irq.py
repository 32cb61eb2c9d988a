"""PCI interrupts in the software kernel: bit vectors in storage, both forms, suppression, counters.

The form that no machine of the lab has (directed) follows ``arch/s390/pci/pci_irq.c`` (6.12).
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyvfio.abi.vfio import PciIrq
from pyvfio.binding import bind
from pyvfio.host import Host
from pyvfio.vfio.device import Device
from pyvfio.vfio.opening import open_device
from pyvfio.zpci.fib import DirectedFib, Fib
from pyvfio.zpci.fmb import Fmb
from pyvfio.zpci.function import FunctionState
from pyvfio.zpci.statistics import measure, read_statistics
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.linux.airq import AirqVector
from pyvfio_backends.software.linux.irq_affinity import read_list, read_mask
from pyvfio_backends.software.linux.numa import list_text, mask_text
from pyvfio_backends.software.linux.zpci_host import zpci_host
from pyvfio_backends.software.machine import Machine
from pyvfio_backends.software.memory import HostMemory
from pyvfio_backends.software.usage import HostSpec

ISC = 2


class Rig:
    """Two bells of a software machine, open with MSI-X on."""

    def __init__(self, **how: Any) -> None:
        spec = MachineSpec(
            "bells", functions=[FunctionSpec(uid=0x10 + n, fid=0x20 + n, model="virtio-bell") for n in range(2)], **how
        )
        self.host = Host("software", machine=spec)
        self.machine: Machine = software_of(self.host.backend).machine
        self.devices: list[Device] = []
        for n in range(2):
            function = self.host.device(f"{0x10 + n:04x}:00:00.0")
            bind(function)
            device = open_device(self.host, function)
            device.irq(PciIrq.MSIX).enable()
            device.config.write_u16(4, 6)
            self.devices.append(device)

    @property
    def interrupts(self) -> Any:
        return zpci_host(self.machine.kernel).interrupts

    def function(self, which: int) -> Any:
        return self.machine.zpci.functions[0x20 + which]

    def signal(self, which: int, vector: int) -> None:
        with self.machine.lock:
            self.function(which).signal(vector)

    def seen(self, which: int, vector: int) -> int:
        return self.devices[which].irq(PciIrq.MSIX).eventfds[vector].read()

    def stored(self, which: int) -> Fib | DirectedFib:
        answer, fib = self.interrupts.processor.stpcifc(self.function(which).fh, 0)
        assert answer.cc == 0
        found: Fib | DirectedFib = fib
        return found

    def text(self) -> dict[str, list[str]]:
        lines = self.host.sysfs.read_text("/proc/interrupts").splitlines()[1:]
        return {name.strip(): rest.split() for name, _, rest in (line.partition(":") for line in lines)}

    def close(self) -> None:
        self.host.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def build(**how: Any) -> Rig:
        made.append(Rig(**how))
        return made[-1]

    yield build
    for rig in made:
        rig.close()


DIRECTED = {"processors": 4, "directed_interrupts": True}


# ---- both forms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, DIRECTED], ids=["floating", "directed"])
def test_each_message_reaches_its_eventfd(make: Callable[..., Rig], how: dict[str, Any]) -> None:
    rig = make(**how)
    for which, vector in itertools.product((0, 1), (0, 3)):
        rig.signal(which, vector)
        assert {(a, b) for a in (0, 1) for b in range(4) if rig.seen(a, b)} == {(which, vector)}
    rig.signal(0, 1)
    rig.signal(0, 1)
    assert [rig.seen(0, vector) for vector in range(4)] == [0, 2, 0, 0]
    assert [rig.seen(1, vector) for vector in range(4)] == [0, 0, 0, 0]


@pytest.mark.parametrize("how", [{}, DIRECTED], ids=["floating", "directed"])
def test_no_bit_is_left(make: Callable[..., Rig], how: dict[str, Any]) -> None:
    rig = make(**how)
    for vector in range(4):
        rig.signal(0, vector)
        rig.signal(1, vector)
    memory = rig.machine.memory
    assert not any(any(block) for block in memory._blocks.values())


@pytest.mark.parametrize("how", [{}, DIRECTED], ids=["floating", "directed"])
def test_a_reset_registers_again(make: Callable[..., Rig], how: dict[str, Any]) -> None:
    rig = make(**how)
    before = rig.stored(0)
    rig.devices[0].reset()
    rig.devices[0].config.write_u16(4, 6)
    assert rig.stored(0) == before
    rig.signal(0, 2)
    assert rig.seen(0, 2) == 1


@pytest.mark.parametrize("how", [{}, DIRECTED], ids=["floating", "directed"])
def test_turning_off_deregisters_and_gives_the_bits_back(make: Callable[..., Rig], how: dict[str, Any]) -> None:
    rig = make(**how)
    first = rig.stored(0)
    irq = rig.devices[0].irq(PciIrq.MSIX)
    irq.disable()
    assert rig.stored(0).noi == 0
    rig.signal(0, 0)
    irq.enable()
    assert rig.stored(0) == first
    rig.signal(0, 0)
    assert rig.seen(0, 0) == 1


@pytest.mark.parametrize("how", [{}, DIRECTED], ids=["floating", "directed"])
def test_a_vector_outside_the_registration_is_an_error_event(make: Callable[..., Rig], how: dict[str, Any]) -> None:
    rig = make(**how)
    with rig.machine.lock:
        rig.function(0).msix.send(0xFE00000000000000, 77)
    rig.machine.clock.settle()
    assert rig.function(0).state is FunctionState.ERROR
    rig.signal(1, 0)
    assert rig.seen(1, 0) == 1


@pytest.mark.parametrize("how", [{}, DIRECTED], ids=["floating", "directed"])
@pytest.mark.parametrize("place", range(12))
def test_interrupts_while_a_handler_runs(
    make: Callable[..., Rig], how: dict[str, Any], place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions interrupt again at some look of the handler into storage: nothing is lost or doubled."""
    rig = make(**how)
    count, scan = itertools.count(), AirqVector.scan

    def watched(self: AirqVector, start: int) -> int:
        found = scan(self, start)
        if next(count) == place:
            rig.function(1).signal(2)
            rig.function(0).signal(1)
        return found

    monkeypatch.setattr(AirqVector, "scan", watched)
    rig.signal(0, 0)
    happened = next(count) > place
    assert (rig.seen(0, 0), rig.seen(0, 1), rig.seen(1, 2)) == ((1, 1, 1) if happened else (1, 0, 0))


# ---- floating ----------------------------------------------------------------------------------------------------


def test_the_registration_is_the_kernels(make: Callable[..., Rig]) -> None:
    """``zpci_set_airq``: a vector and a summary bit for each function."""
    rig = make()
    one, two = rig.stored(0), rig.stored(1)
    assert isinstance(one, Fib)
    assert isinstance(two, Fib)
    assert (one.isc, one.noi, one.aibvo, one.sum) == (ISC, 4, 0, 1)
    assert (one.aisb, one.aisbo, two.aisb, two.aisbo) == (two.aisb, 0, one.aisb, 1)
    assert one.aibv != two.aibv


def test_suppressed_interruptions_are_counted(make: Callable[..., Rig]) -> None:
    rig = make()
    processor = rig.interrupts.processor
    for _ in range(3):
        rig.signal(0, 0)
    counts = processor.interruptions
    assert (counts.made[ISC], counts.suppressed[ISC]) == (3, 0)
    with rig.machine.lock:
        counts._armed[ISC] = False  # as in a handler
        rig.function(0).signal(1)
    assert counts.suppressed[ISC] == 1
    assert rig.seen(0, 1) == 0
    processor.sic(1, ISC)
    rig.signal(1, 0)
    assert rig.seen(0, 1) == 1


# ---- directed ----------------------------------------------------------------------------------------------------


def test_the_directed_registration_is_the_kernels(make: Callable[..., Rig]) -> None:
    rig = make(**DIRECTED)
    assert (rig.stored(0), rig.stored(1)) == (
        DirectedFib(fc=rig.stored(0).fc, pba=rig.stored(0).pba, pal=rig.stored(0).pal, noi=4, dibvo=0),
        DirectedFib(fc=rig.stored(1).fc, pba=rig.stored(1).pba, pal=rig.stored(1).pal, noi=4, dibvo=4),
    )


def test_a_processor_that_is_away_is_told_when_it_is_back(make: Callable[..., Rig]) -> None:
    rig = make(**DIRECTED)
    directed = rig.interrupts.processor.interruptions.directed
    directed.dispatch(0, False)
    rig.signal(0, 3)
    rig.signal(1, 1)
    assert (rig.seen(0, 3), directed.processors[0].fallbacks) == (0, 2)
    directed.dispatch(0, True)
    assert (rig.seen(0, 3), rig.seen(1, 1)) == (1, 1)
    rig.signal(0, 3)
    assert rig.seen(0, 3) == 1
    text = rig.text()
    assert (text["PCF"][0], text["PCD"][0]) == ("2", "1")


@pytest.mark.parametrize(
    ("cmdline", "floating"),
    [("", False), ("pci=force_floating", True), ("quiet pci=nomio,force_floating ro", True), ("force_floating", False)],
)
def test_the_kernels_parameter(make: Callable[..., Rig], cmdline: str, floating: bool) -> None:
    rig = make(**DIRECTED, host=HostSpec(cmdline=cmdline))
    rig.signal(0, 0)
    assert (rig.seen(0, 0), isinstance(rig.stored(0), Fib)) == (1, floating)


def test_more_vectors_than_the_processors_have(make: Callable[..., Rig]) -> None:
    """All functions share 2048 bits (``zpci_directed_irq_init``)."""
    rig = make(**DIRECTED)
    bits = rig.interrupts.delivery._bits
    taken = bits.allocate(2048 - 8)
    rig.devices[0].irq(PciIrq.MSIX).disable()
    rig.devices[0].irq(PciIrq.MSIX).enable()
    more = bits.allocate(4)
    assert (taken, more) == (8, -1)


def test_a_machine_file_with_directed_interrupts() -> None:
    with Host("software", machine="z17-pci") as host:
        machine: Machine = software_of(host.backend).machine
        function = next(one for one in machine.zpci.functions.values() if one.uid == 0x4000)
        assert function.query_group().dnoi == function.query_group().noi
        bind(host.device("4000:00:00.0"))
        with open_device(host, "4000:00:00.0") as device, device.irq(PciIrq.MSIX) as irq:
            irq.enable()
            device.config.write_u16(4, 6)
            with machine.lock:
                function.signal(1)
            assert irq.eventfds[1].read() == 1
        text = host.sysfs.read_text("/proc/interrupts")
        assert len(text.splitlines()[0].split()) == 4


def test_an_interrupt_is_given_to_another_processor(make: Callable[..., Rig]) -> None:
    rig = make(**DIRECTED)
    number = sorted(rig.host.backend.listdir("/sys/bus/pci/devices/0010:00:00.0/msi_irqs"), key=int)[2]
    folder = f"/proc/irq/{number}"
    assert rig.host.sysfs.read_text(f"{folder}/smp_affinity_list") == "0-3"
    rig.host.sysfs.write_text(f"{folder}/smp_affinity_list", "3,2")
    assert rig.host.sysfs.read_text(f"{folder}/smp_affinity") == "c"
    rig.signal(0, 2)
    rig.signal(0, 1)
    assert (rig.seen(0, 2), rig.seen(0, 1)) == (1, 1)
    text = rig.text()
    assert text[number][:4] == ["0", "0", "1", "0"]
    assert text["PCD"][:4] == ["1", "0", "1", "0"]
    rig.devices[0].reset()
    rig.devices[0].config.write_u16(4, 6)
    rig.signal(0, 2)
    assert rig.text()[number][:4] == ["0", "0", "2", "0"]


@pytest.mark.parametrize(
    ("file", "text", "code"),
    [
        ("smp_affinity", "0", errno.EINVAL),
        ("smp_affinity", "10", errno.EINVAL),
        ("smp_affinity", "x", errno.EINVAL),
        ("smp_affinity", "123456789", errno.EOVERFLOW),
        ("smp_affinity_list", "4", errno.ERANGE),
        ("smp_affinity_list", "2-1", errno.EINVAL),
        ("smp_affinity_list", "", errno.EINVAL),
    ],
)
def test_processors_that_there_are_not(make: Callable[..., Rig], file: str, text: str, code: int) -> None:
    backend = make(**DIRECTED).host.backend
    fd = backend.open(f"/proc/irq/3/{file}", os.O_RDWR)
    with pytest.raises(OSError) as caught:
        backend.write(fd, f"{text}\n".encode())
    backend.close(fd)
    assert caught.value.errno == code


@pytest.mark.parametrize(("mask", "bits", "text", "ranges"), [
    (1, 1, "1", "0"), (0xF, 4, "f", "0-3"), (0x15, 5, "15", "0,2,4"), (1 << 33, 64, "00000002,00000000", "33"),
    (1 << 32, 33, "1,00000000", "32"),
])  # fmt: skip
def test_masks_as_the_kernel_writes_them(mask: int, bits: int, text: str, ranges: str) -> None:
    assert (mask_text(mask, bits), list_text(mask)) == (text, ranges)
    assert (read_mask(text.encode()), read_list(ranges.encode(), bits)) == (mask, mask)


# ---- /proc/interrupts --------------------------------------------------------------------------------------------


def test_the_counters(make: Callable[..., Rig]) -> None:
    rig = make()
    for vector in (0, 0, 2):
        rig.signal(1, vector)
    text = rig.text()
    assert text["AIO"] == ["3"]
    assert text["PCF"] == ["3", "[AIO]", "PCI", "Floating", "Interrupt"]
    assert text["MSI"][0] == "3"
    numbers = sorted(rig.host.backend.listdir("/sys/bus/pci/devices/0011:00:00.0/msi_irqs"), key=int)
    assert [text[number] for number in numbers] == [
        [count, "PCI-MSI", f"vfio-msix[{vector}](0011:00:00.0)"] for vector, count in enumerate("2010")
    ]
    rig.devices[1].irq(PciIrq.MSIX).disable()
    assert not set(numbers) & set(rig.text())


def test_a_column_for_each_processor(make: Callable[..., Rig]) -> None:
    rig = make(**DIRECTED)
    rig.signal(0, 0)
    head = rig.host.sysfs.read_text("/proc/interrupts").splitlines()[0]
    assert head.split() == ["CPU0", "CPU1", "CPU2", "CPU3"]
    assert rig.text()["PCD"][:4] == ["1", "0", "0", "0"]


def test_what_was_set_up_at_boot_is_told_to_the_machine_when_it_matters() -> None:
    spec = MachineSpec(
        "held", functions=[FunctionSpec(uid=n, fid=n, model="virtio-rng", driver="virtio-pci") for n in (1, 2, 3)]
    )
    with Host("software", machine=spec) as host:
        machine: Machine = software_of(host.backend).machine
        interrupts = zpci_host(machine.kernel).interrupts
        host.sysfs.write_text("/sys/bus/pci/drivers/virtio-pci/unbind", "0002:00:00.0")
        assert interrupts._delivery is None
        with machine.lock:
            machine.zpci.functions[3].signal(1)
        lines = machine.kernel.interrupts.lines
        assert {line.name: line.counts for line in lines.values()} == {
            "virtio0-config": [0],
            "virtio0-input": [0],
            "virtio2-config": [0],
            "virtio2-input": [1],
        }
        assert interrupts.processor.stpcifc(machine.zpci.functions[1].fh, 0)[1].noi == 2
        assert interrupts.processor.stpcifc(machine.zpci.functions[2].fh, 0)[1].noi == 0


def test_linux_has_functions_measured_by_instructions() -> None:
    """``zpci_fmb_enable_device``: STORE PCI FUNCTION CONTROLS shows where the block is, and storage has it."""
    spec = MachineSpec(
        "measured", functions=[FunctionSpec(uid=n, fid=n, model="virtio-rng", driver="virtio-pci") for n in (1, 2)]
    )
    with Host("software", machine=spec) as host:
        machine: Machine = software_of(host.backend).machine
        processor = zpci_host(machine.kernel).interrupts.processor

        def place(fid: int) -> int:
            stored: int = processor.stpcifc(machine.zpci.functions[fid].fh, 0)[1].fmb
            return stored

        first, second = place(1), place(2)
        assert 0 not in (first, second)
        assert first != second
        host.sysfs.read_bytes("/sys/bus/pci/devices/0001:00:00.0/config")
        machine.clock.advance(8)
        block = Fmb.from_bytes(machine.memory.read(first, Fmb.SIZE))
        told = read_statistics(host.function("0001:00:00.0"))
        assert (block.samples, block.loads) == (told.samples, told.counters["load operations"])
        assert block.samples == 2
        assert block.loads
        measure(host.function("0001:00:00.0"), False)
        assert (place(1), place(2)) == (0, second)
        measure(host.function("0001:00:00.0"), True)
        assert place(1)
        bind(host.function("0001:00:00.0"))
        with open_device(host, "0001:00:00.0"):
            assert place(1) == 0  # reset when it was opened


# ---- vectors -----------------------------------------------------------------------------------------------------


def test_bits_are_given_out_in_runs() -> None:
    vector = AirqVector(HostMemory(4096), 8, allocate=True)
    assert [vector.allocate(3), vector.allocate(), vector.allocate(4), vector.allocate()] == [0, 3, 4, -1]
    vector.free(1, 2)
    assert [vector.allocate(3), vector.allocate(2), vector.end] == [-1, 1, 8]
    vector.free(4, 4)
    assert vector.end == 4


def test_scanning_goes_on_where_it_was() -> None:
    memory = HostMemory(4096)
    vector = AirqVector(memory, 100)
    memory.write(vector.address, bytes.fromhex("8001000000000001 0000003000000000"))
    memory.write(vector.address + 12, b"\x0f")  # bits 100 to 103 are behind its end
    found, at = [], 0
    while (at := vector.scan(at)) >= 0:
        found.append(at)
    assert found == [0, 15, 63, 90, 91]
    assert vector.scan(0) == -1
