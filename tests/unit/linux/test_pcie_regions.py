"""Regions of PCI Express functions through vfio-pci: flags, widths, mappings, the expansion ROM, I/O.

Where no other source is named, it is what the x86 lab's kernel answered (``fixtures/golden/x86/lab/regions`` and
``mmap_holds_device``).
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Iterator

import pytest
from pci_fixture import BUS, VFIO, Device, errno_of
from pcie_fixture import EDU, NVME, Pcie, lab_spec

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import parse_capability_chain
from pyvfio.errors import Misuse
from pyvfio.host import Host
from pyvfio.pci import edu
from pyvfio.process import EventFd
from pyvfio.vfio.opening import open_device
from pyvfio_backends.software.description import PcieFunctionSpec
from pyvfio_backends.software.linux.pci_rom import rom_size
from pyvfio_backends.software.register_mapping import RegisterMapping

TESTDEV, E1000E, IGB = "0000:00:07.0", "0000:41:00.0", "0000:03:00.0"
MEMORY = regs.PCI_COMMAND_MEMORY
ROM = abi.VFIO_PCI_ROM_REGION_INDEX


@pytest.fixture
def lab() -> Iterator[Pcie]:
    pcie = Pcie()
    with pcie.host:
        yield pcie


def opened(lab: Pcie, name: str, command: int = MEMORY | regs.PCI_COMMAND_IO) -> Device:
    device = lab.open(name)
    device.write(command.to_bytes(2, "little"), regs.PCI_COMMAND)
    return device


def region(device: Device, index: int, argsz: int = 256) -> tuple[int, int, list[int]]:
    """Flags, size and ids of capabilities."""
    buffer = bytearray(struct.pack("=IIIIQQ", argsz, 0, index, 0, 0, 0).ljust(argsz, b"\0"))
    device.host.ioctl(device.fd, abi.VFIO_DEVICE_GET_REGION_INFO, buffer)
    _, flags, _, at, size, _ = struct.unpack_from("=IIIIQQ", buffer)
    return flags, size, [one.id for one in parse_capability_chain(buffer, at, "region")] if at else []


@pytest.mark.parametrize(
    ("name", "index", "flags", "size", "capabilities"),
    [
        (EDU, 0, 7, 1 << 20, []),
        (EDU, 1, 0, 0, []),
        (EDU, ROM, 0, 0, []),
        (E1000E, 1, 7, 0x20000, []),
        (E1000E, 2, 3, 0x20, []),
        (E1000E, 3, 15, 0x4000, [3]),
        (E1000E, ROM, 1, 0x40000, []),
        (NVME, 0, 15, 0x4000, [3]),
        (TESTDEV, 1, 3, 0x100, []),
    ],
)
def test_flags_and_sizes(lab: Pcie, name: str, index: int, flags: int, size: int, capabilities: list[int]) -> None:
    assert region(lab.open(name), index) == (flags, size, capabilities)


def test_a_rom_is_an_image_and_ones(lab: Pcie) -> None:
    device = opened(lab, E1000E)
    image = device.read(0x40000, 0, ROM)
    assert image[:4].hex() == "55aad5e9"
    end = 0xD5 * 512
    assert image[end - 1 :] == b"\0" + b"\xff" * (len(image) - end)
    assert rom_size(lambda at, size: int.from_bytes(image[at : at + size], "little"), len(image)) == end
    assert device.read(8, 0x3FFFE, ROM) == b"\xff\xff"
    assert errno_of(device.write, b"\0", 0, ROM) == "EINVAL"
    assert errno_of(device.read, 1, 0x40000, ROM) == "EINVAL"
    assert bytes.fromhex(lab.config(E1000E, regs.PCI_ROM_ADDRESS, 4))[0] & 1 == 0


def test_a_rom_cannot_be_read_without_memory(lab: Pcie) -> None:
    """``vfio_pci_bar_rw``: the image is looked at first, and there is none then.  The size is told all the same."""
    device = opened(lab, E1000E, 0)
    assert errno_of(device.read, 4, 0, ROM) == "ENOMEM"
    assert region(device, ROM) == (1, 0x40000, [])


def test_the_rom_in_sysfs(lab: Pcie) -> None:
    path = f"{BUS}/devices/{E1000E}/rom"
    assert errno_of(lab.bytes, path, 4) == "EINVAL"
    lab.write(f"{BUS}/devices/{E1000E}/enable", "1")
    lab.write(path, "1")
    assert lab.bytes(path, 4).hex() == "55aad5e9"
    assert lab.bytes(path, 4, 0xD5 * 512 - 2) == b"\0\0"


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (b"", 0),
        (b"\x55\xaa" + bytes(0x1E), 0),
        (
            b"\x55\xaa"
            + bytes(0x16)
            + b"\x1c\0\0\0PCIR"
            + bytes(6)
            + b"\x18\0"
            + bytes(4)
            + b"\1\0"
            + bytes(3)
            + b"\x80",
            0,
        ),
        (
            (
                b"\x55\xaa"
                + bytes(0x16)
                + b"\x1c\0\0\0PCIR"
                + bytes(6)
                + b"\x18\0"
                + bytes(4)
                + b"\2\0"
                + bytes(3)
                + b"\x80"
            ).ljust(2048, b"\0"),
            1024,
        ),
        (
            (
                b"\x55\xaa" + bytes(0x16) + b"\x1c\0\0\0PCIR" + bytes(6) + b"\x18\0" + bytes(4) + b"\2\0" + bytes(4)
            ).ljust(2048, b"\0"),
            1024,
        ),
    ],
    ids=["none", "no structure", "structure past the end", "one image", "no second one"],
)
def test_how_much_of_a_rom_is_images(image: bytes, size: int) -> None:
    """``pci_get_rom_size`` in drivers/pci/rom.c."""
    assert rom_size(lambda at, width: int.from_bytes(image[at : at + width], "little"), len(image)) == size


def test_accesses_of_every_width(lab: Pcie) -> None:
    device = opened(lab, EDU)
    assert device.read(4, edu.ID, 0).hex() == "ed000001"
    assert errno_of(device.read, 4, 1 << 20, 0) == "EINVAL"
    assert device.read(8, (1 << 20) - 4, 0) == b"\xff" * 4
    assert device.write(b"\x55\x55\xaa\xaa", edu.LIVE, 0) == 4
    assert device.read(4, edu.LIVE, 0) == b"\xaa\xaa\x55\x55"
    device.write(bytes(2), regs.PCI_COMMAND)
    assert errno_of(device.read, 4, 0, 0) == "EIO"
    assert errno_of(device.write, bytes(4), 0, 0) == "EIO"


def test_io_is_not_asked_for_memory(lab: Pcie) -> None:
    """``vfio_pci_core_do_io_rw``: only memory BARs test whether memory is on; I/O that is off reads as ones."""
    device = opened(lab, TESTDEV, regs.PCI_COMMAND_IO)
    assert errno_of(device.read, 4, 0, 0) == "EIO"
    device.write(b"\0", 0, 1)
    assert device.read(14, 0x10, 1).rstrip(b"\0")[:10] != b"\xff" * 10
    device.write(b"\0\0", regs.PCI_COMMAND)
    assert device.read(4, 0, 1) == b"\xff" * 4


def test_registers_that_are_mapped(lab: Pcie) -> None:
    device = opened(lab, EDU)
    area = lab.host.mmap(device.fd, 1 << 20)
    area[edu.LIVE : edu.LIVE + 4] = b"\x55\x55\xaa\xaa"
    assert area[edu.LIVE : edu.LIVE + 4] == b"\xaa\xaa\x55\x55"
    assert (len(area), area.size()) == (1 << 20, 1 << 20)
    with pytest.raises(TypeError):
        memoryview(area)
    event = EventFd()
    device.eventfds(abi.VFIO_PCI_INTX_IRQ_INDEX, 0, event.fileno())
    area[edu.RAISE : edu.RAISE + 4] = b"\1\0\0\0"
    assert event.read() == 1
    device.write(bytes(2), regs.PCI_COMMAND)
    assert errno_of(area.__getitem__, slice(0, 4)) == "EIO"  # SIGBUS of a program
    area.close()
    with pytest.raises(ValueError):
        area[0]


def test_a_mapping_is_cut_into_the_widest_aligned_accesses() -> None:
    seen: list[tuple[int, int]] = []

    def load(offset: int, size: int) -> int:
        seen.append((offset, size))
        return 0

    area = RegisterMapping(4096, load, lambda offset, size, value: None, writable=False)
    assert area[3:17] == bytes(14)
    assert area[5] == 0
    assert seen == [(3, 1), (4, 4), (8, 8), (16, 1), (5, 1)]
    with pytest.raises(TypeError):
        area[0:4] = bytes(4)
    with pytest.raises(ValueError):
        area[0:4:2]
    with pytest.raises(IndexError):
        area[4096]


@pytest.mark.parametrize(
    ("region_index", "length", "flags", "answer"),
    [
        (0, 4096, mmap.MAP_PRIVATE, "EINVAL"),
        (0, (1 << 20) + 4096, mmap.MAP_SHARED, "EINVAL"),
        (1, 4096, mmap.MAP_SHARED, "EINVAL"),
        (ROM, 4096, mmap.MAP_SHARED, "EINVAL"),
        (abi.VFIO_PCI_CONFIG_REGION_INDEX, 4096, mmap.MAP_SHARED, "EINVAL"),
        (abi.VFIO_PCI_VGA_REGION_INDEX, 4096, mmap.MAP_SHARED, "EINVAL"),
    ],
)
def test_what_cannot_be_mapped(lab: Pcie, region_index: int, length: int, flags: int, answer: str) -> None:
    device = opened(lab, EDU)
    assert errno_of(lab.host.mmap, device.fd, length, flags, offset=region_index << 40) == answer


def test_a_mapping_holds_the_device(lab: Pcie) -> None:
    device = opened(lab, EDU)
    event = EventFd()
    device.eventfds(abi.VFIO_PCI_REQ_IRQ_INDEX, 0, event.fileno())
    area = lab.host.mmap(device.fd, 4096)
    number = lab.group_of(EDU)
    device.close()
    assert errno_of(lab.host.open, f"/dev/vfio/{number}", os.O_RDWR) == "EBUSY"
    unbind = threading.Thread(target=lab.write, args=(f"{VFIO}/unbind", EDU))
    unbind.start()
    assert event.wait(5) >= 1
    assert unbind.is_alive()
    area.close()
    unbind.join(5)
    assert not unbind.is_alive()
    assert lab.driver(EDU) is None


MEMORIES = {"0000:00:10.0": ("ivshmem", {"size": 0x10000}), "0000:00:11.0": ("pci-testdev", {"membar": 0x10000})}


@pytest.fixture
def memories() -> Iterator[Pcie]:
    more = [
        PcieFunctionSpec(model, behind="0000:00", at=name[-4:], options=dict(options))
        for name, (model, options) in MEMORIES.items()
    ]
    pcie = Pcie(pcie_functions=[*lab_spec().pcie_functions, *more])
    with pcie.host:
        yield pcie


@pytest.mark.parametrize("name", MEMORIES)
def test_memory_is_mapped_as_memory(memories: Pcie, name: str) -> None:
    device = opened(memories, name)
    assert region(device, 2) == (7, 0x10000, [])
    area = memories.host.mmap(device.fd, 0x10000, offset=2 << 40)
    with memoryview(area) as view:
        view[0x1000:0x1004] = b"real"
    assert device.read(4, 0x1000, 2) == b"real"
    device.write(b"back", 0x2000, 2)
    assert area[0x2000:0x2004] == b"back"
    bar = memories.hardware(name).bars[2]
    memories.complex.store(memories.hardware(name).address(bar) + 0x3000, 4, 0x11223344)
    assert area[0x3000:0x3004] == bytes.fromhex("44332211")
    shared = memories.host.mmap(memories.host.open(f"{BUS}/devices/{name}/resource2", os.O_RDWR), 0x10000)
    assert shared[0x1000:0x1004] == b"real"
    for one in (area, shared):
        one.close()


def test_devices_copy_between_each_others_memory(memories: Pcie) -> None:
    """A device writes into memory of another: what it wrote is what a program has mapped."""
    device = opened(memories, "0000:00:10.0")
    area = memories.host.mmap(device.fd, 0x10000, offset=2 << 40)
    bar = memories.hardware("0000:00:10.0").bars[2]
    target = memories.hardware("0000:00:10.0").address(bar)
    other = opened(memories, EDU, MEMORY | regs.PCI_COMMAND_MASTER)
    memories.hardware(EDU).dma_write(target, b"peer")
    assert area[:4] == b"peer"
    area.close()
    other.close()


@pytest.mark.parametrize(("model", "options"), [("ivshmem", {"size": 0x1001}), ("pci-testdev", {"membar": 8})])
def test_a_memory_that_cannot_be(model: str, options: dict[str, int]) -> None:
    spec = PcieFunctionSpec(model, behind="0000:00", at="10.0", options=options)
    with pytest.raises(Misuse, match="no power of two"):
        Pcie(pcie_functions=[*lab_spec().pcie_functions, spec])


def test_the_client_maps_memory(memories: Pcie) -> None:
    memories.take("0000:00:10.0")
    with open_device(Host(memories.host), "0000:00:10.0") as device:
        device.config.command |= MEMORY
        memory = device.region(2)
        memory.write_u32(8, 0xCAFE)
        assert memory.access == "mmap"
        assert memory.read(8, 4) == b"\xfe\xca\0\0"


def test_the_client_says_how_it_reaches_registers(lab: Pcie) -> None:
    lab.take(EDU)
    with open_device(Host(lab.host), EDU) as device:
        device.config.command |= MEMORY
        registers = device.region(0)
        assert registers.read_u32(edu.ID) == edu.IDENTIFICATION
        assert registers.access == "pread"
        assert "software machine" in registers.access_note
