"""The kinds of PCI functions that Linux on IBM Z meets, on the machine `z17-pci`, and mapping their BARs.

Sources: the drivers' id tables and s390-tools (`pci_kinds`); for mapping ``drivers/vfio/pci/vfio_pci_core.c``
(`vfio_pci_probe_mmaps`, `vfio_pci_core_mmap`), ``drivers/pci/pci-sysfs.c`` (`pci_create_resource_files`),
``arch/s390/pci/pci_fixup.c`` and ``arch/s390/include/asm/pci.h`` of Linux 6.15.  The lab's 6.12 maps nothing, which its
golden data say.
"""

from __future__ import annotations

import gc
import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from pci_fixture import BUS, CONFIG, Device, Pci, errno_of

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import parse_capability_chain
from pyvfio.errors import NotModelled
from pyvfio.zpci.facts import ZpciFacts
from pyvfio.zpci.node import ClpNode
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.loader import find_machine, load_machine
from pyvfio_backends.software.machine import Machine

MACHINE = "z17-pci"
RDWR = mmap.PROT_READ | mmap.PROT_WRITE
SHARED_MEMORY, ROCE, ISM, NVME, GENWQE = "6000:00:00.0", "2000:00:00.0", "3000:00:00.0", "4000:00:00.0", "5000:00:00.0"


class Z17(Pci):
    """The machine of the file, with what `Pci` offers."""

    def __init__(self, **changes: object) -> None:
        spec = load_machine(find_machine(MACHINE))
        for name, value in changes.items():
            setattr(spec, name, value)
        self.machine = Machine(spec)
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.events = self.host.uevents()


@pytest.fixture
def z17() -> Iterator[Z17]:
    lab = Z17()
    with lab.host:
        yield lab


@pytest.fixture
def older() -> Iterator[Z17]:
    lab = Z17(pci_mmap=False)
    with lab.host:
        yield lab


def region(device: Device, index: int, argsz: int = 64) -> tuple[int, int, int, list[int]]:
    """Flags, size and argsz of a region, and the ids of its capabilities."""
    buffer = bytearray(struct.pack("=3I", argsz, 0, index).ljust(max(argsz, 64), b"\0"))
    device.host.ioctl(device.fd, abi.VFIO_DEVICE_GET_REGION_INFO, buffer)
    size, flags, _, at, length, _ = struct.unpack_from("=4IQQ", buffer)
    chain = parse_capability_chain(buffer, at, "region info") if at else []
    return flags, length, size, [each.id for each in chain]


def files(lab: Z17, name: str) -> list[str]:
    return sorted(each for each in lab.host.listdir(f"{BUS}/devices/{name}") if each.startswith("resource"))


# refusals first


def test_isms_bars_are_mapped_by_nobody(z17: Z17) -> None:
    device = z17.open(ISM)
    flags, size, _, capabilities = region(device, 0)
    assert (flags, size, capabilities) == (
        abi.VFIO_REGION_INFO_FLAG_READ | abi.VFIO_REGION_INFO_FLAG_WRITE,
        1 << 48,
        [],
    )
    assert errno_of(z17.host.mmap, device.fd, 0x1000, mmap.MAP_SHARED, RDWR, 0) == "EINVAL"
    assert files(z17, ISM) == ["resource"]


@pytest.mark.parametrize("name", [SHARED_MEMORY, ROCE, ISM, NVME])
def test_an_older_kernel_maps_nothing(older: Z17, name: str) -> None:
    device = older.open(name)
    for index in range(regs.PCI_STD_NUM_BARS):
        assert not region(device, index)[0] & abi.VFIO_REGION_INFO_FLAG_MMAP
        assert errno_of(older.host.mmap, device.fd, 0x1000, mmap.MAP_SHARED, RDWR, index << 40) == "EINVAL"
    assert files(older, name) == ["resource"]
    assert "fidparm" not in older.host.listdir(f"{BUS}/devices/{name}")


@pytest.mark.parametrize(
    ("length", "flags", "offset"),
    [
        (0x1000, mmap.MAP_PRIVATE, 2 << 40),
        (0x1000, mmap.MAP_SHARED, 1 << 40),  # no such BAR
        (0x1000, mmap.MAP_SHARED, CONFIG << 40),
        (0x1000, mmap.MAP_SHARED, abi.VFIO_PCI_ROM_REGION_INDEX << 40),
        ((4 << 20) + 0x1000, mmap.MAP_SHARED, 2 << 40),
        (0x1000, mmap.MAP_SHARED, 2 << 40 | 4 << 20),
    ],
)
def test_what_cannot_be_mapped(z17: Z17, length: int, flags: int, offset: int) -> None:
    device = z17.open(SHARED_MEMORY)
    assert errno_of(z17.host.mmap, device.fd, length, flags, RDWR, offset) == "EINVAL"


def test_a_mapping_that_outlives_the_machine_closes_nothing_of_others() -> None:
    """The number that kept its file open may be somebody else's by the time it goes."""
    lab = Z17()
    with lab.host:
        mapped = lab.host.mmap(lab.open(SHARED_MEMORY).fd, 0x1000, mmap.MAP_SHARED, RDWR, 2 << 40)
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(16)]
    mapped.close()
    assert [os.fstat(fd).st_rdev for fd in others] == [os.stat(os.devnull).st_rdev] * 16
    for fd in others:
        os.close(fd)


def test_the_memory_of_a_function_that_was_unplugged_goes_with_the_machine() -> None:
    gc.collect()  # what earlier tests left is not this one's
    before = os.listdir("/proc/self/fd")
    lab = Z17()
    with lab.host:
        device = lab.open(SHARED_MEMORY)
        lab.machine.zpci.unplug(next(f.fid for f in lab.machine.zpci.all_functions() if f.uid == 0x6000), surprise=True)
        lab.host.mmap(device.fd, 0x1000, mmap.MAP_SHARED, RDWR, 2 << 40).close()
    assert sorted(os.listdir("/proc/self/fd")) == sorted(before)


@pytest.mark.parametrize("name", [ROCE, NVME, SHARED_MEMORY])
def test_registers_are_not_mapped_here_though_the_kernel_would(z17: Z17, name: str) -> None:
    device = z17.open(name)
    assert region(device, 0)[0] & abi.VFIO_REGION_INFO_FLAG_MMAP
    with pytest.raises(NotModelled, match="a mapping of the registers"):
        z17.host.mmap(device.fd, 0x1000, mmap.MAP_SHARED, RDWR, 0)


@pytest.mark.parametrize(
    ("name", "bar", "what"),
    [(ROCE, 0, "RoCE Express2"), (ISM, 0, "ISM"), (ISM, 2, "ISM"), (GENWQE, 0, "GenWQE")],
)
def test_what_has_no_behaviour_says_so(z17: Z17, name: str, bar: int, what: str) -> None:
    device = z17.open(name)
    with pytest.raises(NotModelled, match=what):
        device.read(4, 0, bar)
    with pytest.raises(NotModelled, match=what):
        device.write(bytes(4), 0, bar)


def test_msi_is_there_but_not_switched_on(z17: Z17) -> None:
    device = z17.open(ISM)
    buffer = bytearray(struct.pack("=4I", 16, 0, abi.VFIO_PCI_MSI_IRQ_INDEX, 0))
    device.host.ioctl(device.fd, abi.VFIO_DEVICE_GET_IRQ_INFO, buffer)
    assert struct.unpack("=4I", buffer)[3] == 1
    at = regs.PCI_CAPABILITY_LIST
    at = device.read(1, at)[0]
    assert device.read(1, at)[0] == regs.PCI_CAP_ID_MSI
    device.write(struct.pack("<H", regs.PCI_MSI_FLAGS_ENABLE | 3 << 4), at + regs.PCI_MSI_FLAGS)
    assert device.read(2, at + regs.PCI_MSI_FLAGS) == bytes(2)  # the copy's lower byte takes all that is written
    device.write(b"\x10\x20\x30\x40", at + regs.PCI_MSI_ADDRESS_LO)
    assert device.read(4, at + regs.PCI_MSI_ADDRESS_LO) == b"\x10\x20\x30\x40"
    assert z17.config(ISM, at + regs.PCI_MSI_ADDRESS_LO, 4) == "00000000"
    assert errno_of(device.set_irqs, abi.VFIO_IRQ_SET_DATA_NONE | abi.VFIO_IRQ_SET_ACTION_TRIGGER,
                    abi.VFIO_PCI_MSI_IRQ_INDEX, 0, 1) == "EINVAL"  # fmt: skip


# identities


@pytest.mark.parametrize(
    ("name", "ids", "class_", "pft", "mio", "bars"),
    [
        ("1000:00:00.0", "15b3:1015", "0x020000", "0x0a", "1", {0: 1 << 25}),
        (ROCE, "15b3:1016", "0x020000", "0x0a", "1", {0: 1 << 20}),
        ("2001:00:00.0", "15b3:1004", "0x020000", "0x02", "1", {2: 1 << 23}),
        (ISM, "1014:04ed", "0x000000", "0x05", "0", {0: 1 << 48, 2: 1 << 12}),
        (NVME, "1b36:0010", "0x010802", "0x0b", "1", {0: 1 << 14}),
        (GENWQE, "1014:044b", "0x120000", "0x00", "1", {0: 1 << 27}),
        (SHARED_MEMORY, "1af4:1110", "0x050000", "0x00", "1", {0: 1 << 8, 2: 4 << 20}),
    ],
)
def test_who_they_are(z17: Z17, name: str, ids: str, class_: str, pft: str, mio: str, bars: dict[int, int]) -> None:
    vendor, device = (z17.attr(name, file).removeprefix("0x") for file in ("vendor", "device"))
    assert f"{vendor}:{device}" == ids
    assert [z17.attr(name, file) for file in ("class", "pft", "mio_enabled")] == [class_, pft, mio]
    lines = [[int(word, 16) for word in line.split()] for line in z17.attr(name, "resource").splitlines()]
    assert {bar: last - first + 1 for bar, (first, last, flags) in enumerate(lines[:6]) if flags} == bars
    assert all((first >> 48 == 0xFFFF) == (mio == "1") for first, _, flags in lines[:6] if flags)


def test_what_is_told_is_told_alike(z17: Z17) -> None:
    """Attribute files, CLP and VFIO's capability chain say the same of a function."""
    with ClpNode(z17.host) as node:
        handles = {entry.fid: entry for entry in node.list()}
        assert (len(handles), handles[0x5001].configured) == (9, 0)
        for name in (ROCE, ISM, NVME, GENWQE):
            device = z17.open(name)
            fid = int(z17.attr(name, "function_id"), 16)
            told = node.function(int(z17.attr(name, "function_handle"), 16))
            assert told.fid == fid
            for attribute in ("uid", "pchid", "vfn", "pft", "pfgid"):
                assert getattr(told, attribute) == int(z17.attr(name, attribute), 16), attribute
            assert told.port == int(z17.attr(name, "port"))
            assert told.fidparm == int(z17.attr(name, "fidparm"), 16) == int(name == ROCE)
            assert told.pfip == bytes(int(z17.attr(name, f"pfip/segment{n}"), 16) for n in range(4))
            util = z17.bytes(f"{BUS}/devices/{name}/util_string")
            assert util == (told.utility if told.utility_available else bytes(64))
            facts = ZpciFacts.from_capabilities(device.info()[1])
            assert facts is not None
            assert facts.base is not None
            assert facts.group is not None
            assert (facts.base.pchid, facts.base.vfn, facts.base.pft, facts.base.gid) == (
                *(told.pchid, told.vfn),
                *(told.pft, told.pfgid),
            )
            assert (facts.pfip, facts.util_raw) == (told.pfip, told.utility if told.utility_available else b"")
            assert facts.base.start_dma == told.sdma
            assert facts.base.end_dma <= told.edma
            group = node.group(told.pfgid)
            assert (facts.group.noi, facts.group.mui, facts.group.version, facts.group.imaxstbl) == (
                *(group.noi, group.mui),
                *(group.version, group.maxstbl),
            )
            told_text = told.utility_text
            assert (facts.util or "") == told_text
        assert node.function(handles[0x2000].fh | 1 << 31).utility_text.startswith("NET25")


def test_virtual_functions_of_both_ports_are_on_the_bus_of_their_adapter(z17: Z17) -> None:
    z17.take("1000:00:00.0")
    z17.write("/sys/module/vfio_pci/parameters/enable_sriov", "1")
    z17.write(f"{BUS}/devices/1000:00:00.0/sriov_numvfs", "2")
    virtual = [name for name in z17.host.listdir(f"{BUS}/devices") if name.startswith("1000:00:01")]
    assert sorted(virtual) == ["1000:00:01.0", "1000:00:01.1"]
    assert z17.attr("1000:00:01.1", "device") == "0x1016"
    assert [z17.attr("1000:00:01.1", file) for file in ("function_id", "uid", "vfn")] == [
        "0x00000101",
        "0x1011",
        "0x0002",
    ]
    assert z17.host.readlink(f"{BUS}/devices/1000:00:00.0/virtfn1").endswith("1000:00:01.1")


def test_without_uid_checking_the_same_functions_are_counted() -> None:
    lab = Z17(uid_checking=False)
    with lab.host:
        names = sorted(lab.host.listdir(f"{BUS}/devices"))
        # Those with a routing identifier come last; a standby function has its domain, too.
        assert names == [f"{n:04x}:00:00.0" for n in (0, 1, 2, 3, 4, 6, 7)] + ["0007:00:00.1"]
        assert {lab.attr(name, "uid_is_unique") for name in names} == {"0"}


# what does work


def test_the_registers_of_a_controller_that_nobody_started(z17: Z17) -> None:
    device = z17.open(NVME)
    assert struct.unpack("<Q", device.read(8, 0, 0))[0] & 0xFFFF == 0x7FF
    assert device.read(4, 8, 0) == struct.pack("<I", 0x00010400)
    device.write(struct.pack("<Q", 0x123456789ABC), 0x28, 0)
    assert struct.unpack("<2I", device.read(8, 0x28, 0)) == (0x56789000, 0x1234)
    device.write(struct.pack("<I", 6), 0x0C, 0)
    device.write(struct.pack("<I", 2), 0x10, 0)
    assert device.read(4, 0x10, 0) == struct.pack("<I", 4)
    assert device.read(4, 0x1C, 0) == bytes(4)


def test_the_vectors_of_a_table_among_registers(z17: Z17) -> None:
    device = z17.open(ROCE)
    eventfd = os.eventfd(0, os.EFD_NONBLOCK)
    device.write(struct.pack("<H", regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_MEMORY), regs.PCI_COMMAND)
    try:
        device.eventfds(abi.VFIO_PCI_MSIX_IRQ_INDEX, 0, eventfd)
        assert len(z17.irqs(ROCE)) == 1
        z17.machine.zpci.function(0x2000).signal(0)  # as the adapter would
        assert os.eventfd_read(eventfd) == 1
    finally:
        os.close(eventfd)
    assert device.read(4, 0x2000, 0) == b"\xff" * 4  # the table is the kernel's


@pytest.mark.parametrize(
    ("name", "bar", "capabilities"),
    [(ROCE, 0, [abi.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE]), (SHARED_MEMORY, 2, []), (GENWQE, 0, [])],
)
def test_regions_say_what_can_be_mapped(z17: Z17, name: str, bar: int, capabilities: list[int]) -> None:
    device = z17.open(name)
    flags, _, argsz, found = region(device, bar)
    assert flags & abi.VFIO_REGION_INFO_FLAG_MMAP
    assert bool(flags & abi.VFIO_REGION_INFO_FLAG_CAPS) == bool(capabilities)
    assert (found, argsz) == (capabilities, 64)
    assert region(device, bar, 32)[2:] == (32 + 8 * len(capabilities), [])


def test_memory_is_the_same_through_a_mapping_and_an_instruction(z17: Z17) -> None:
    device = z17.open(SHARED_MEMORY)
    with z17.host.mmap(device.fd, 0x2000, mmap.MAP_SHARED, RDWR, 2 << 40 | 0x1000) as mapped:
        mapped[0:4] = b"here"
        assert device.read(4, 0x1000, 2) == b"here"
        device.write(b"there", 0x2FF8, 2)
        assert mapped[0x1FF8:0x1FFD] == b"there"
        path = f"{BUS}/devices/{SHARED_MEMORY}/resource2_wc"
        fd = z17.host.open(path, os.O_RDWR)
        with z17.host.mmap(fd, 4 << 20, mmap.MAP_SHARED, RDWR, 0) as whole:
            assert whole[0x2FF8:0x2FFD] == b"there"
        assert errno_of(z17.host.mmap, fd, 0x2000, mmap.MAP_SHARED, RDWR, (4 << 20) - 0x1000) == "EINVAL"
        assert errno_of(z17.host.pread, fd, 4, 0) == "EIO"
        z17.host.close(fd)
    assert files(z17, SHARED_MEMORY) == ["resource", "resource0", "resource2", "resource2_wc"]


@pytest.mark.parametrize("close", [True, False])
def test_a_mapping_keeps_the_device_open(z17: Z17, close: bool) -> None:
    """The group has a user until it is unmapped (the README of the x86 lab: a live mapping keeps the device open)."""
    device = z17.open(SHARED_MEMORY)
    mapped = z17.host.mmap(device.fd, 0x1000, mmap.MAP_SHARED, RDWR, 2 << 40)
    z17.host.close(device.fd)
    z17.host.close(device.group)
    z17.host.close(device.container)
    number = z17.host.readlink(f"{BUS}/devices/{SHARED_MEMORY}/iommu_group").rsplit("/", 1)[-1]
    assert errno_of(z17.host.open, f"/dev/vfio/{number}", os.O_RDWR) == "EBUSY"
    mapped[0:4] = b"kept"
    if close:
        mapped.close()
    else:
        del mapped
        gc.collect()
    again = Device(z17, SHARED_MEMORY)
    assert again.read(4, 0, 2) == b"kept"


def test_the_library_reads_and_writes_where_a_mapping_takes_instructions() -> None:
    host = pyvfio.Host("software", machine=MACHINE)
    with host:
        pyvfio.bind(host.device(SHARED_MEMORY))
        with pyvfio.open_device(host, SHARED_MEMORY) as device:
            memory = device.region(2)
            memory.write_u32(8, 0x11223344)
            assert memory.read(8, 4) == b"\x44\x33\x22\x11"
            assert (memory.mappable, memory.access) == (True, "pread")
            assert "PCI instructions" in memory.access_note
            assert device.region(0).read_u32(8) == 0


def test_descriptors_of_memory_end_with_the_machine() -> None:
    gc.collect()  # what earlier tests left is not this one's
    before = len(os.listdir("/proc/self/fd"))
    lab = Z17()
    with lab.host:
        lab.open(SHARED_MEMORY).write(b"1234", 0, 2)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_size_that_is_no_power_of_two_is_refused() -> None:
    for size in (3 << 12, 0x800):
        with pytest.raises(pyvfio.errors.Misuse, match="power of two"):
            Pci(FunctionSpec(0x90, 0x90, "ivshmem", options={"size": size}))
