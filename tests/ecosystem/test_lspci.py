"""Debian's lspci on dumps of our functions: everything is parsed, and nothing is complained about."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import AcsBits, ExpressType
from pyvfio.backend import Backend, open_backend
from pyvfio_backends.software.hardware.devices.nvme.storage import MemoryStorage, Namespace
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.capabilities import (
    Msi,
    Msix,
    PowerManagement,
    VendorSpecific,
    VitalProductData,
)
from pyvfio_backends.software.hardware.pcie.dpc import Dpc
from pyvfio_backends.software.hardware.pcie.dump import dump, dump_lines
from pyvfio_backends.software.hardware.pcie.event_collector import EventCollector
from pyvfio_backends.software.hardware.pcie.express import Express, Slot
from pyvfio_backends.software.hardware.pcie.extended import (
    Acs,
    Ari,
    Ats,
    CollectorAssociation,
    DesignatedVendor,
    Ltr,
    Pasid,
    SerialNumber,
    Vc,
    VendorSpecificExtended,
)
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import (
    ioh3420,
    pcie_pci_bridge,
    pxb_host,
    q35_host,
    root_port,
    x3130_upstream,
    xio3130_downstream,
)
from pyvfio_backends.software.hardware.pcie.peripherals import copier, edu, nic_pair, nvme, pci_testdev
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_backends.software.hardware.pcie.sriov import Sriov, VfBar
from pyvfio_fixtures import machines

DEVICES = "/sys/bus/pci/devices"
PREFETCH64 = regs.PCI_BASE_ADDRESS_MEM_TYPE_64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
COMPLAINT = re.compile(
    r"warning|!!!|bogus|broken|\binvalid\b|unable|error \d|corrupt|chain looping|too short|<\?+>", re.I
)


def everything() -> RootComplex:
    """All ports there are, and an endpoint with every capability there is."""
    complex_ = RootComplex()
    bus = complex_.add_root_bus()
    complex_.add_root_bus(0, 0x40).plug(root_port(Slot(11)), 0)
    further = complex_.add_root_bus(0x10001, 0)
    bus.plug(q35_host(), 0)
    bus.plug(pxb_host(), 0xE)
    bus.plug(ioh3420(Slot(1)), 8).plug(_endpoint())
    up = bus.plug(root_port(Slot(3)), 9).plug(x3130_upstream())
    for number in range(2):
        port = up.secondary.plug(xio3130_downstream(Slot(number)), number)
        for function in range(2):
            port.plug(_endpoint(), function)
    bridge = bus.plug(root_port(), 10).plug(pcie_pci_bridge())
    bridge.secondary.plug(Function(_config(), [Bar(0, 0x20, regs.PCI_BASE_ADDRESS_SPACE_IO, Memory(0x20))]), 4)
    integrated = Function(_config())
    integrated.add(Express(ExpressType.RC_END))
    bus.plug(integrated, 2)
    collector = EventCollector(ConfigSpace(Identity(0x8086, 1, class_code=0x080700)))
    collector.add(Express(ExpressType.RC_EC))
    collector.add(Aer(root=True))
    collector.add(CollectorAssociation(1 << 2, (0x41, 0x4F)))
    bus.plug(collector, 3)
    contained = root_port(Slot(12))
    contained.add(Dpc())
    contained.finish()
    further.plug(contained, 1)
    Firmware().set_up(complex_)
    return complex_


def _config() -> ConfigSpace:
    return ConfigSpace(Identity(0x1234, 0x11E8, 0x1AF4, 0x1100, 0x020000, 0x10), interrupt_pin=1)


def _endpoint() -> Function:
    table = Memory(0x4000)
    function = Function(
        _config(), [Bar(0, 0x4000, PREFETCH64, table), Bar(2, 0x1000, 0, Memory(0x1000))], rom_size=0x10000
    )
    for capability in (
        PowerManagement(pme=regs.PCI_PM_CAP_PME_D0),
        Express(ExpressType.ENDPOINT, speed=4, width=16, flr=True, ltr=True),
        Msi(8, maskable=True),
        Msix(17, 2),
        VitalProductData(),
        VendorSpecific(b"vendor's"),
        Aer(),
        Acs(AcsBits.RR | AcsBits.CR | AcsBits.DT),
        Ari(),
        Ats(),
        Pasid(),
        SerialNumber(0x0102030405060708),
        Vc(),
        VendorSpecificExtended(0x1234, b"extended"),
        DesignatedVendor(0x1E98, 0x23, b"designated"),
        Sriov(8, 0x10CA, 128, 2, [VfBar(0, 0x4000, PREFETCH64), VfBar(3, 0x4000, 0)]),
        Ltr(),
    ):
        function.add(capability)
    return function


def test_every_function_is_parsed_without_complaint(lspci: Callable[..., str], tmp_path: Path) -> None:
    complex_ = everything()
    path = tmp_path / "dump"
    path.write_text(dump(complex_))
    text = lspci("-vvv", "-D", path=path)
    names = re.findall(r"^([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.\d) ", text, re.M)
    assert len(names) == sum(1 for _ in complex_.functions()) == 19
    foreign = re.compile(r"Vendor[ -]Specific.*<\?>$")  # whose content only the vendor knows
    lines = [line for line in text.splitlines() if not foreign.search(line)]
    assert [line for line in lines if COMPLAINT.search(line)] == []
    for name in (
        "Power Management version 3",
        "Express (v2) Endpoint",
        "Express (v2) Root Port (Slot+)",
        "Express (v2) Upstream Port",
        "Express (v2) Downstream Port (Slot+)",
        "Express (v2) PCI-Express to PCI/PCI-X Bridge",
        "Express (v2) Root Complex Integrated Endpoint",
        "Express (v2) Root Complex Event Collector",
        "MSI: Enable- Count=1/8 Maskable+ 64bit+",
        "MSI-X: Enable- Count=17 Masked-",
        "Vital Product Data",
        "Vendor Specific Information: Len=0b",
        "Advanced Error Reporting",
        "Access Control Services",
        "Alternative Routing-ID Interpretation (ARI)",
        "Address Translation Service (ATS)",
        "Process Address Space ID (PASID)",
        "Device Serial Number 01-02-03-04-05-06-07-08",
        "Virtual Channel",
        "Vendor Specific Information: ID=1234 Rev=0 Len=010",
        "Designated Vendor-Specific: Vendor=1e98 ID=0023 Rev=0 Len=20",
        "Single Root I/O Virtualization (SR-IOV)",
        "Latency Tolerance Reporting",
        "RCiEPBitmap: RCiEP at Device(s): 2",
        "AssociatedBusNumbers: 41-4f",
        "Downstream Port Containment",
        "Subsystem: 1b36:0000",
    ):
        assert name in text, name


def test_devices_that_do_something_are_parsed_without_complaint(lspci: Callable[..., str], tmp_path: Path) -> None:
    complex_ = RootComplex()
    bus = complex_.add_root_bus()
    disk = nvme([Namespace(MemoryStorage(0x1000))]).function
    nics = [card.function for card in nic_pair(b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2")]
    for device, function in enumerate((edu().function, pci_testdev().function, disk, copier().function, *nics), 1):
        if function.express_type is None:
            bus.plug(function, device)
        else:
            bus.plug(root_port(), device).plug(function)
    Firmware().set_up(complex_)
    path = tmp_path / "dump"
    path.write_text(dump(complex_))
    text = lspci("-vvv", "-D", "-n", path=path)
    assert [line for line in text.splitlines() if COMPLAINT.search(line)] == []
    for name in ("[1234:11e8]", "[1b36:0005]", "[1b36:0010]", "[1af4:10f1]", "[1af4:10f2]"):
        assert name in text, name


def _most_virtual_functions(backend: Backend, path: str) -> None:
    """As many as a driver makes."""
    with backend_file(backend, f"{path}/sriov_totalvfs", os.O_RDONLY) as fd:
        total = backend.pread(fd, 16, 0)
    with backend_file(backend, f"{path}/sriov_numvfs", os.O_WRONLY) as fd:
        backend.pwrite(fd, total, 0)


@contextmanager
def backend_file(backend: Backend, path: str, flags: int) -> Iterator[int]:
    fd = backend.open(path, flags)
    try:
        yield fd
    finally:
        backend.close(fd)


MACHINES = [name for name, path in machines().items() if "pci" in path.read_text()]


def test_there_are_machines() -> None:
    assert {"contract-x86", "lab-x86", "q35-switch", "x86-copiers", "x86-no-iommu"} <= set(MACHINES)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_function_of_a_machine_is_parsed_without_complaint(
    machine: str, lspci: Callable[..., str], tmp_path: Path
) -> None:
    """As Linux left them, read from sysfs; with the virtual functions that drivers make."""
    lines: list[str] = []
    with open_backend("software", machine=machine) as backend:
        for name in backend.listdir(DEVICES):
            if {"driver", "sriov_totalvfs"} <= set(backend.listdir(f"{DEVICES}/{name}")):
                _most_virtual_functions(backend, f"{DEVICES}/{name}")
        names = sorted(backend.listdir(DEVICES))
        for name in names:
            fd = backend.open(f"{DEVICES}/{name}/config", os.O_RDONLY)
            lines += dump_lines(name, backend.pread(fd, 1 << 12, 0))
            backend.close(fd)
    path = tmp_path / "dump"
    path.write_text("\n".join(lines))
    text = lspci("-vvv", "-xxxx", "-D", "-n", path=path)
    assert re.findall(r"^([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.\d) ", text, re.M) == names
    foreign = re.compile(r"Vendor[ -]Specific.*<\?>$")
    assert [line for line in text.splitlines() if COMPLAINT.search(line) and not foreign.search(line)] == []
    rows = re.compile(r"^[0-9a-f]{2,3}: .*$", re.M)
    assert rows.findall(text) == rows.findall(path.read_text())


def test_what_lspci_dumps_is_what_we_wrote(lspci: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_text(dump(everything()))
    again = lspci("-xxxx", "-D", path=path)
    rows = re.compile(r"^[0-9a-f]{2,3}: .*$", re.M)
    assert rows.findall(again) == rows.findall(path.read_text())


def test_the_tree_is_the_one_that_was_built(lspci: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_text(dump(everything()))
    tree = lspci("-t", path=path)
    assert "+-08.0-[01]----00.0" in tree
    assert re.search(r"\+-09\.0-\[02-05\]----00\.0-\[03-05\]--\+-00\.0-\[04\]--\+-00\.0", tree), tree
    assert "+-0a.0-[06-07]----00.0-[07]----04.0" in tree
    assert "[0000:40]---00.0-[41]--" in tree
