"""Linux as a guest on POWER: groups, addresses, interrupts and files as the POWER lab's pseries guest showed them; DMA.

Where that recording shows nothing, the source is named.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from pci_fixture import errno_of
from pseries_fixture import E1000E, EDU, NVME, TESTDEV, Pseries

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.drivers import Edu, Nvme
from pyvfio.errors import BadMachine, Misuse, NotModelled
from pyvfio_backends.software.description import PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.loader import load_machine

RESOURCES = {
    "0000:00:02.0": {
        0: (0x10000, 0x20, 0x40101),
        1: (0x200080000000, 0x1000, 0x40200),
        4: (0x210000000000, 0x4000, 0x140204),
    },
    "0000:00:03.0": {
        0: (0x10020, 0x20, 0x40101),
        1: (0x200080001000, 0x1000, 0x40200),
        4: (0x210000004000, 0x4000, 0x140204),
    },
    "0000:00:04.0": {
        0: (0x10080, 0x80, 0x40101),
        1: (0x200080020000, 0x1000, 0x40200),
        4: (0x210000020000, 0x4000, 0x14220C),
    },
    E1000E: {
        0: (0x200100000000, 0x20000, 0x40200),
        1: (0x200100020000, 0x20000, 0x40200),
        2: (0x30020, 0x20, 0x40101),
        3: (0x200100040000, 0x4000, 0x40200),
        6: (0x200100080000, 0x40000, 0x44200),
    },
    EDU: {0: (0x200100100000, 0x100000, 0x40200)},
    NVME: {0: (0x200100200000, 0x4000, 0x40200)},
    TESTDEV: {0: (0x200180000000, 0x1000, 0x40200), 1: (0x50100, 0x100, 0x40101)},
}
"""By the number of the resource: where it begins, its size, its flags."""
EVERY = {
    *("ari_enabled", "broken_parity_status", "class", "config", "consistent_dma_mask_bits", "device", "devspec"),
    *("dma_mask_bits", "driver_override", "enable", "iommu", "iommu_group", "irq", "link", "local_cpulist"),
    *("local_cpus", "modalias", "msi_bus", "numa_node", "of_node", "power", "power_state", "remove", "rescan"),
    *("resource", "revision", "subsystem", "subsystem_device", "subsystem_vendor", "uevent", "vendor"),
}
LINK = {"current_link_speed", "current_link_width", "max_link_speed", "max_link_width", "reset", "reset_method"}
HELD = {"driver", "msi_irqs"}
FILES = {
    "0000:00:02.0": EVERY | HELD | {"resource0", "resource1", "resource4"},
    "0000:00:04.0": EVERY | HELD | {"resource0", "resource1", "resource4", "resource4_wc", "virtio0"},
    EDU: EVERY | {"resource0"},
    NVME: EVERY | LINK | {"resource0"},
    TESTDEV: EVERY | {"resource0", "resource1"},
}


@pytest.fixture
def lab() -> Iterator[Pseries]:
    lab = Pseries()
    with lab.host:
        yield lab


@pytest.mark.parametrize("name", RESOURCES)
def test_addresses(lab: Pseries, name: str) -> None:
    found = enumerate(lab.device(name).resources)
    assert {n: (one.start, one.size, one.flags) for n, one in found if one.flags} == RESOURCES[name]


@pytest.mark.parametrize("name", FILES)
def test_files(lab: Pseries, name: str) -> None:
    shown = set(lab.host.listdir(f"/sys/bus/pci/devices/{name}"))
    assert shown - {"virtio1", "virtio2"} == FILES[name]


def test_what_files_say(lab: Pseries) -> None:
    assert lab.attr(E1000E, "devspec") == "/pci@800000020000001/ethernet@1"
    assert lab.attr(EDU, "devspec") == "/pci@800000020000001/legacy-device@2"
    assert lab.attr("0000:00:04.0", "devspec") == "/pci@800000020000000/scsi@4"
    assert lab.attr(EDU, "numa_node") == "-1"
    assert lab.attr(E1000E, "reset_method") == "pm"
    assert lab.attr(NVME, "reset_method") == "flr"
    assert lab.host.readlink(f"/sys/bus/pci/devices/{NVME}/iommu") == "../../virtual/iommu/iommu-phb0001"
    node = lab.host.readlink(f"/sys/bus/pci/devices/{NVME}/of_node")
    assert node == "../../../firmware/devicetree/base/pci@800000020000001/mass-storage@3"


def test_events_tell_of_the_device_tree(lab: Pseries) -> None:
    """Recorded."""
    node = "/pci@800000020000001"
    assert lab.text(f"/sys/bus/pci/devices/{EDU}/uevent").split("\n")[:3] == [
        *("OF_NAME=legacy-device", f"OF_FULLNAME={node}/legacy-device@2", "OF_COMPATIBLE_N=0")
    ]
    assert "\nOF_TYPE=network\nOF_COMPATIBLE_N=0\nOF_ALIAS_0=net0\n" in lab.text(
        f"/sys/bus/pci/devices/{E1000E}/uevent"
    )
    disk = lab.text("/sys/bus/pci/devices/0000:00:04.0/uevent").split("\n")
    assert disk[:4] == [
        *("DRIVER=virtio-pci", "OF_NAME=scsi", "OF_FULLNAME=/pci@800000020000000/scsi@4", "OF_TYPE=block")
    ]
    assert lab.text("/sys/class/pci_bus/0001:00/uevent").split("\n")[:5] == [
        *("OF_NAME=pci", f"OF_FULLNAME={node}", "OF_TYPE=pci", "OF_COMPATIBLE_0=IBM,Logical_PHB", "OF_COMPATIBLE_N=1")
    ]
    assert not any(line.startswith("OF_ALIAS") for line in disk)  # "disk" has no number
    assert lab.text("/sys/devices/pci0001:00/pci_bus/0001:00/waiting_for_supplier") == "0\n"
    link = lab.host.readlink("/sys/devices/pci0001:00/pci_bus/0001:00/of_node")
    assert link == f"../../../../firmware/devicetree/base{node}"


def test_firmware_has_names_for_what_it_boots_from(lab: Pseries) -> None:
    """Recorded (``/proc/device-tree/aliases``)."""
    node = "/sys/firmware/devicetree/base/aliases"
    assert lab.text(f"{node}/disk") == "/pci@800000020000000/scsi@4\0"
    assert lab.text(f"{node}/net0") == "/pci@800000020000001/ethernet@1\0"


def test_a_bridge_is_a_group(lab: Pseries) -> None:
    folder = "/sys/kernel/iommu_groups"
    names = [lab.text(f"{folder}/{number}/name").strip() for number in sorted(lab.host.listdir(folder))]
    assert names == ["domain0-pe0", "domain1-pe0", "domain2-pe0"]
    assert sorted(lab.host.listdir(f"{folder}/1/devices")) == [E1000E, EDU, NVME]
    assert list(lab.host.listdir("/sys/class/iommu/iommu-phb0002/devices")) == [TESTDEV]


def test_interrupts(lab: Pseries) -> None:
    """The recorded guest had one function more on bridge 0, so that those of bridge 1 had numbers one higher."""
    lines = lab.text("/proc/interrupts").split("\n")[1:]
    assert lines[:2] == [
        " 16:          0  XIVE-IPI   0 Edge      IPI-0",
        " 17:          0  XIVE-IRQ 4096 Edge      RAS_EPOW",
    ]
    irqs = [lab.attr(f"0000:00:{slot:02x}.0", "irq") for slot in (4, 2, 3)]
    assert irqs == ["18", "19", "20"]  # what firmware left out comes last
    assert [lab.attr(name, "irq") for name in (E1000E, EDU, NVME, TESTDEV)] == ["21", "22", "23", "0"]
    assert " 24:          0  XIVE-IRQ 4592 Edge      hvc_console" in lines
    opened = lab.open(NVME, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
    event = os.eventfd(0)
    opened.eventfds(abi.VFIO_PCI_MSIX_IRQ_INDEX, 0, event)
    assert "pSeries-PCI-MSI 134266880 Edge" in lab.text("/proc/interrupts")
    opened.close()
    os.close(event)


def test_interrupts_are_given_back(lab: Pseries, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the hypervisor (``ibm,change-msi`` with none): when a program has done, and when there are not as many."""
    before = set(lab.hypervisor._taken)
    opened = lab.open(NVME, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
    events = [os.eventfd(0) for _ in range(3)]
    for _ in range(2):
        opened.eventfds(abi.VFIO_PCI_MSIX_IRQ_INDEX, 0, *events)
        assert len(lab.hypervisor._taken - before) == len(events)
        none = abi.VFIO_IRQ_SET_DATA_NONE | abi.VFIO_IRQ_SET_ACTION_TRIGGER
        opened.set_irqs(none, abi.VFIO_PCI_MSIX_IRQ_INDEX, 0, 0)
        assert lab.hypervisor._taken == before
    usual, asked = lab.hypervisor.take_messages, 0

    def two(count: int) -> int | None:
        nonlocal asked
        asked += 1
        return usual(count) if asked < len(events) else None

    with monkeypatch.context() as patch:
        patch.setattr(lab.hypervisor, "take_messages", two)
        assert errno_of(opened.eventfds, abi.VFIO_PCI_MSIX_IRQ_INDEX, 0, *events) == "ENOSPC"
    assert asked == len(events)
    assert lab.hypervisor._taken == before
    opened.eventfds(abi.VFIO_PCI_MSIX_IRQ_INDEX, 0, *events)
    opened.close()
    assert lab.hypervisor._taken == before
    for event in events:
        os.close(event)


def test_the_machine_says_what_it_is(lab: Pseries) -> None:
    assert "platform\t: pSeries\n" in lab.text("/proc/cpuinfo")
    assert lab.text("/proc/device-tree/compatible") == "qemu,pseries\0"
    bridge = "/proc/device-tree/pci@800000020000001"
    assert lab.bytes(f"{bridge}/ibm,dma-window", 20).hex() == "80000100" + 12 * "00" + "40000000"
    assert lab.bytes(f"{bridge}/ibm,ddw-applicable", 12).hex() == "000020260000202700002028"
    assert lab.text(f"{bridge}/compatible") == "IBM,Logical_PHB\0"


def test_there_is_no_eeh(lab: Pseries) -> None:
    """The extension is 0, and each operation ENODEV, whatever its argument."""
    assert lab.text("/proc/powerpc/eeh") == "EEH Subsystem is globally disabled\neeh_total_mmio_ffs=0\n"
    lab.take(TESTDEV)
    container = lab.host.open("/dev/vfio/vfio", os.O_RDWR)
    group = lab.host.open("/dev/vfio/2", os.O_RDWR)
    lab.host.ioctl(group, abi.VFIO_GROUP_SET_CONTAINER, struct.pack("=i", container))
    extensions = {
        extension: lab.host.ioctl(container, abi.VFIO_CHECK_EXTENSION, extension)
        for extension in (abi.VFIO_TYPE1_IOMMU, abi.VFIO_SPAPR_TCE_IOMMU, abi.VFIO_SPAPR_TCE_v2_IOMMU, abi.VFIO_EEH)
    }
    assert list(extensions.values()) == [0, 1, 1, 0]
    lab.host.ioctl(container, abi.VFIO_SET_IOMMU, abi.VFIO_SPAPR_TCE_v2_IOMMU)
    for request in (spapr.EehPeOp.sized(op=spapr.VFIO_EEH_PE_GET_STATE), spapr.EehPeOp(argsz=1)):
        assert errno_of(lab.host.ioctl, container, spapr.VFIO_EEH_PE_OP, request) == "ENODEV"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("eeh_dev_break", EDU, "machine checks"), ("eeh_force_recover", "hwcheck", "it has nobody to ask, and crashes")],
)
def test_what_would_end_a_guest_s_kernel(lab: Pseries, name: str, text: str, words: str) -> None:
    """``eeh_pseries.c`` has no `next_error`; what the first does was recorded."""
    with pytest.raises(NotModelled, match=words):
        lab.write(f"/sys/kernel/debug/powerpc/{name}", text)


@pytest.mark.parametrize("interrupts", ["msi", "intx", "poll"])
def test_edu_works(interrupts: str) -> None:
    lab = Pseries()
    with pyvfio.Host(lab.host) as host:
        pyvfio.bind(host.device(EDU))
        with pyvfio.open_device(host, EDU) as device, Edu(device, interrupts=interrupts) as edu:
            assert edu.interrupts == interrupts
            assert edu.factorial(10) == 3628800
            edu.put(b"through the tables", 100)
            assert edu.get(18, 100) == b"through the tables"
            assert edu.interrupt(5) == 5


def test_the_library_gets_a_second_window(lab: Pseries) -> None:
    """It asks for one level, as that is all there is."""
    with pyvfio.Host(lab.host) as host:
        pyvfio.bind(host.device(TESTDEV))
        with pyvfio.open_device(host, TESTDEV) as device:
            assert [(one.start, one.last) for one in device.space.ranges()] == [(0, (1 << 30) - 1)]
            assert device.space.table.grow(1 << 30)
            assert lab.phb(2).dma.active[1].start == 1 << 59


def test_nvme_moves_data(lab: Pseries) -> None:
    with pyvfio.Host(lab.host) as host:
        pyvfio.bind(host.device(NVME))
        with pyvfio.open_device(host, NVME) as device, Nvme(device) as nvme:
            nvme.write(3, b"n" * 512)
            assert nvme.read(3, 1) == b"n" * 512


def test_ports(lab: Pseries) -> None:
    """Shown as they are on the bus (``pci_resource_to_user``); they reach the function, port 0 too."""
    shown = lab.attr(TESTDEV, "resource").split("\n")[1]
    assert shown == "0x0000000000000100 0x00000000000001ff 0x0000000000040101"
    lab.device(TESTDEV).enable()
    before = lab.function(TESTDEV).bar_read(1, 0, 1)
    lab.write(f"/sys/bus/pci/devices/{TESTDEV}/remove", "1")
    lab.write("/sys/bus/pci/rescan", "1")
    assert lab.device(TESTDEV).resources[1].start == 0x50000
    assert lab.attr(TESTDEV, "resource").split("\n")[1] == "0x0000000000000000 0x00000000000000ff 0x0000000000040101"
    lab.device(TESTDEV).enable()
    assert lab.function(TESTDEV).bar_read(1, 0, 1) == before != 0xFF


def test_at_boot_nobody_looks_how_fast_links_can_be(lab: Pseries) -> None:
    """``max_link_speed`` is unknown as recorded, until the function is found anew (``pci_setup_device``)."""
    assert (lab.attr(NVME, "max_link_speed"), lab.attr(NVME, "current_link_speed")) == ("Unknown", "2.5 GT/s PCIe")
    lab.write(f"/sys/bus/pci/devices/{NVME}/remove", "1")
    lab.write("/sys/bus/pci/rescan", "1")
    assert lab.attr(NVME, "max_link_speed") == "2.5 GT/s PCIe"


def test_the_group_stays_without_devices(lab: Pseries) -> None:
    """``iommu_register_group``: it is the bridge's."""
    lab.write(f"/sys/bus/pci/devices/{TESTDEV}/remove", "1")
    assert list(lab.host.listdir("/sys/kernel/iommu_groups/2/devices")) == []
    lab.write("/sys/bus/pci/rescan", "1")
    assert list(lab.host.listdir("/sys/kernel/iommu_groups/2/devices")) == [TESTDEV]
    assert lab.device(TESTDEV).resources[0].flags == 0x40200


def test_what_is_not_mapped_freezes_nothing(lab: Pseries) -> None:
    edu = lab.hardware(EDU)
    edu.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_MEMORY)
    with pytest.raises(DmaFault):
        edu.dma_read(0, 4)
    assert lab.function(EDU).bar_read(0, 0, 4) == 0x010000ED


def test_virtual_functions_are_switched_off() -> None:
    """``pseries_disable_sriov_resources``: they have no addresses, which the core calls ENOMEM (``sriov_enable``)."""
    lab = Pseries(pcie_functions=[PcieFunctionSpec("igb", "phb1", "01.0")])
    assert errno_of(lab.write, "/sys/bus/pci/devices/0001:00:01.0/sriov_numvfs", "1") != ""


@pytest.mark.parametrize(
    ("phbs", "functions", "words"),
    [
        ([PciePhbSpec(model="PHB4")], [], "no model 'PHB4' on a pseries"),
        ([PciePhbSpec(), PciePhbSpec()], [], "segment 0000 is another's"),
        ([PciePhbSpec(segment=31)], [], "segments are 0 to 30"),
        ([PciePhbSpec(slot=1)], [], "slots are not modelled"),
        ([PciePhbSpec(id="a"), PciePhbSpec(1, id="a")], [], "this id is there already"),
        ([PciePhbSpec()], [PcieFunctionSpec("pcie-root-port", "phb0")], "bridges below a host bridge are not modelled"),
    ],
)
def test_no_such_host_bridge(phbs: list[PciePhbSpec], functions: list[PcieFunctionSpec], words: str) -> None:
    with pytest.raises(Misuse, match=words):
        Pseries(pcie_phbs=phbs, pcie_functions=functions)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('architecture = "ppc64le"\nplatform = "cell"', "no platform 'cell'"),
        ('architecture = "x86_64"\nplatform = "pseries"', "only POWER has several"),
        ('architecture = "ppc64"\nplatform = "pseries"\n[[pcie.phb]]\nmodel = "PHB4"', "no model 'PHB4'"),
        ('architecture = "ppc64"\nplatform = "powernv"\n[[pcie.phb]]\nmodel = "spapr-pci-host-bridge"', "no model"),
    ],
)
def test_no_such_machine_file(text: str, words: str, tmp_path: Any) -> None:
    file = tmp_path / "m.toml"
    file.write_text(f'[machine]\nname = "m"\n{text}\n')
    with pytest.raises(BadMachine, match=words):
        load_machine(file)
