"""The machine `q35-switch`: its tree as docs/machines.md draws it, and devices that work through vfio-pci on it."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.vfio import PciIrq
from pyvfio.drivers import Nvme
from pyvfio.pci import copier, pairnic, testdev
from pyvfio.pci.copier import Descriptor, Operation, Outcome, Record
from pyvfio.pci.pairnic import FrameDescriptor, FrameFlags, NicStatus
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.vfio import Device

PAGE = Path(__file__).resolve().parents[3] / "docs" / "machines.md"
IDS = {
    "0000:00:00.0": "8086:29c0",
    "0000:00:02.0": "1234:11e8",  # edu
    "0000:00:03.0": "8086:3420",  # ioh3420
    "0000:00:04.0": "8086:3420",
    "0000:00:05.0": "8086:3420",
    "0000:00:06.0": "1b36:000c",  # pcie-root-port
    "0000:00:07.0": "1b36:000c",
    "0000:00:08.0": "1b36:000c",
    "0000:00:09.0": "1b36:000c",
    "0000:00:1c.0": "1b36:0010",  # nvme, integrated
    "0000:00:1e.0": "1af4:10f3",  # event collector
    "0000:00:1f.0": "8086:2918",
    "0000:01:00.0": "1b36:0010",  # nvme
    "0000:02:00.0": "8086:10c9",  # igb
    "0000:03:00.0": "104c:8232",  # x3130-upstream
    "0000:04:00.0": "104c:8233",  # xio3130-downstream
    "0000:04:01.0": "104c:8233",
    "0000:04:02.0": "104c:8233",
    "0000:04:03.0": "104c:8233",
    "0000:05:00.0": "8086:10d3",  # e1000e
    "0000:06:00.0": "1af4:10f1",  # copier
    "0000:09:00.0": "1b36:0005",  # pci-testdev
    "0000:09:00.1": "1b36:0005",
    "0000:0a:00.0": "1af4:10f2",  # pair-nic
    "0000:0b:00.0": "1af4:10f2",
    "0001:00:00.0": "8086:29c0",
    "0001:00:01.0": "1b36:000c",
    "0001:01:00.0": "1b36:0010",
}


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    with pyvfio.Host("software", machine="q35-switch") as opened:
        yield opened


@pytest.fixture(params=["group", "iommufd"])
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def started(device: Device, vectors: int) -> Device:
    device.irq(PciIrq.MSIX).enable(vectors)
    device.config.command = regs.Command.MEMORY | regs.Command.MASTER
    return device


def test_its_functions(host: pyvfio.Host) -> None:
    found = {
        name: ":".join(host.device(name).attribute(key).removeprefix("0x") for key in ("vendor", "device"))  # type: ignore[union-attr]
        for name in host.backend.listdir("/sys/bus/pci/devices")
    }
    assert found == IDS


def test_its_slots_are_those_of_the_page(host: pyvfio.Host) -> None:
    drawn = PAGE.read_text().split("The machine `q35-switch` shows all of it:")[1].split("## ")[0]
    numbers = {int(one) for one in re.findall(r"slot (\d+)|pcie-root-port, (\d+)", drawn) for one in one if one}
    numbers |= {18, 19}
    assert {int(name.split("-")[0]) for name in host.backend.listdir("/sys/bus/pci/slots")} == numbers


def test_the_nic_has_virtual_functions(host: pyvfio.Host) -> None:
    nic = host.device("0000:02:00.0")
    assert [nic.attribute(f"sriov_{name}") for name in ("totalvfs", "numvfs", "offset", "stride")] == [
        *("7", "0", "128", "2"),
    ]


def test_who_has_the_network(host: pyvfio.Host) -> None:
    """igb has queues for seven of the eight virtual functions; disks of the host (nvme) are not modelled."""
    assert {address: host.device(address).driver for address in ("0000:02:00.0", "0000:05:00.0", "0000:01:00.0")} == {
        "0000:02:00.0": "igb",
        "0000:05:00.0": "e1000e",
        "0000:01:00.0": None,
    }
    host.device("0000:02:00.0").write("sriov_numvfs", "2")
    assert "0000:02:10.2" in host.backend.listdir("/sys/bus/pci/devices")
    with BoundFunction(host.backend, "0000:06:00.0"):  # a switch without ACS: one group with the network behind it
        (blocker,) = host.device("0000:06:00.0").group.blockers()  # type: ignore[union-attr]
        assert blocker.name == "0000:05:00.0"


def test_virtual_functions_come_and_go(host: pyvfio.Host) -> None:
    """As the igb says: the first 128 places behind it, then every second one; the machine's file has none of them."""
    sysfs, number = Attributes(host.backend), "/sys/bus/pci/devices/0000:02:00.0/sriov_numvfs"
    pyvfio.bind(host.device("0000:02:00.0"))
    sysfs.write("/sys/module/vfio_pci/parameters/enable_sriov", "Y")
    sysfs.write(number, "2")
    there = set(host.backend.listdir("/sys/bus/pci/devices"))
    assert there - set(IDS) == {"0000:02:10.0", "0000:02:10.2"}
    sysfs.write(number, "0")
    assert set(host.backend.listdir("/sys/bus/pci/devices")) == set(IDS)


def test_all_disks_and_both_segments(host: pyvfio.Host, way: str) -> None:
    for address, order in (("0000:01:00.0", 9), ("0000:00:1c.0", 9), ("0001:01:00.0", 12)):
        with (
            BoundFunction(host.backend, address),
            pyvfio.open_device(host, address, way=way) as device,
            Nvme(device) as disk,
        ):
            assert disk.namespaces[1].order == order
            disk.write(1, b"x" * (1 << order))
            assert disk.read(0, 2) == bytes(1 << order) + b"x" * (1 << order)


def test_the_copier_copies(host: pyvfio.Host, way: str) -> None:
    address = "0000:06:00.0"
    pyvfio.bind(host.device("0000:05:00.0"))  # of the same group
    with BoundFunction(host.backend, address), pyvfio.open_device(host, address, way=way) as device:
        started(device, 1)
        bar = device.bar(copier.BAR)
        assert bar.read_u32(copier.MAGIC) == copier.MAGIC_VALUE
        size = 64 << 10
        with device.space.buffer(size) as ring, device.space.buffer(size) as source, device.space.buffer(size) as to:
            source.view[:] = random.Random(3).randbytes(size)
            work = [
                Descriptor(Operation.COPY, size, source.iova, to.iova, ring.iova + 0x1000),
                Descriptor(Operation.CHECK, size, to.iova, record=ring.iova + 0x1010, flags=copier.INTERRUPT),
            ]
            for number, one in enumerate(work):
                ring.view[number * 64 : number * 64 + 64] = one.pack()
            bar.write_u64(copier.RING, ring.iova)
            bar.write_u32(copier.ENTRIES, 16)
            bar.write_u32(copier.CONTROL, copier.RUN)
            bar.write_u32(copier.TAIL, len(work))
            assert device.irq(PciIrq.MSIX).wait(5) == 1
            assert bytes(to.view) == bytes(source.view)
            crc = zlib.crc32(source.view)
            assert Record.parse(bytes(ring.view[0x1010:0x1020])) == Record(Outcome.DONE, size, crc)


def test_frames_pass_between_the_nics(host: pyvfio.Host, way: str) -> None:
    """Two functions in one machine, each with its own address space: a frame goes from one's memory to the other's."""
    one, other = "0000:0a:00.0", "0000:0b:00.0"
    with (
        BoundFunction(host.backend, one),
        BoundFunction(host.backend, other),
        pyvfio.open_device(host, one, way=way) as sender,
        pyvfio.open_device(host, other, way=way) as receiver,
        sender.space.buffer(0x4000) as sending,
        receiver.space.buffer(0x4000) as receiving,
    ):
        for device, memory in ((sender, sending), (receiver, receiving)):
            bar = started(device, pairnic.VECTORS).bar(pairnic.BAR)
            for ring, size, at in (
                (pairnic.TX_RING, pairnic.TX_SIZE, 0),
                (pairnic.RX_RING, pairnic.RX_SIZE, 0x400),
            ):
                bar.write_u64(ring, memory.iova + at)
                bar.write_u32(size, 8)
            bar.write_u32(pairnic.CONTROL, pairnic.RUN)
        assert sender.bar(pairnic.BAR).read_u32(pairnic.STATUS) & NicStatus.LINK
        receiving.view[0x400:0x410] = FrameDescriptor(receiving.iova + 0x1000, 2000).pack()
        receiver.bar(pairnic.BAR).write_u32(pairnic.RX_TAIL, 1)
        frame = bytes.fromhex("525400000800525400000700") + b"\x08\x00" + b"through the cable" * 20
        sending.view[0x1000 : 0x1000 + len(frame)] = frame
        sending.view[:16] = FrameDescriptor(sending.iova + 0x1000, len(frame)).pack()
        sender.bar(pairnic.BAR).write_u32(pairnic.TX_TAIL, 1)
        assert receiver.irq(PciIrq.MSIX).wait(5, vector=1) == 1
        came = FrameDescriptor.parse(bytes(receiving.view[0x400:0x410]))
        assert (came.length, came.flags) == (len(frame), FrameFlags.DONE)
        assert bytes(receiving.view[0x1000 : 0x1000 + len(frame)]) == frame


def test_the_test_device_counts(host: pyvfio.Host) -> None:
    address = "0000:09:00.1"
    with BoundFunction(host.backend, address), pyvfio.open_device(host, address) as device:
        assert device.bar(testdev.MEMORY_BAR).size == 0x1000
        assert device.bar(testdev.IO_BAR).size == 0x100
