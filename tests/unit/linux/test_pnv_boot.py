"""Linux on bare-metal POWER: endpoints, groups, addresses and files as the lab's kernel showed them; and DMA.

Recorded: ``golden/ppc64/lab/platform.json``.  Where that shows nothing, the source is named.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from pci_fixture import errno_of
from pnv_fixture import E1000E, EDU, NVME, Pnv, power_spec, recorded

import pyvfio
from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi.opal import OpalFreezeAction
from pyvfio.drivers import Edu, Nvme
from pyvfio.errors import BadMachine, Misuse
from pyvfio_backends.software.description import PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pci_device import ROM
from pyvfio_backends.software.linux.pci_rom import map_rom
from pyvfio_backends.software.linux.pnv_irq import PnvMessages
from pyvfio_backends.software.linux.pnv_pe import PeFlag
from pyvfio_backends.software.loader import load_machine

DEVICES = sorted(name for name in recorded() if name.count(":") == 2)


@pytest.fixture
def lab() -> Iterator[Pnv]:
    lab = Pnv()
    with lab.host:
        yield lab


def listed(lab: Pnv, name: str) -> list[str]:
    return sorted(lab.host.listdir(f"/sys/bus/pci/devices/{name}"))


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_as_recorded(lab: Pnv, name: str) -> None:
    """Its place, addresses, group, driver and files."""
    one: dict[str, Any] = recorded()[name]
    assert lab.host.readlink(f"/sys/bus/pci/devices/{name}").removeprefix("../../../devices/") == one["path"]
    assert lab.attr(name, "devspec") == one["devspec"]
    assert lab.attr(name, "class") == one["class"]
    assert lab.attr(name, "resource").split("\n")[: len(one["resource"])] == one["resource"]
    group = lab.device(name).iommu_group
    assert (str(group.number) if group is not None else None) == one["group"]
    driver = lab.device(name).driver
    assert (driver.name if driver is not None else None) == one["driver"]
    assert listed(lab, name) == sorted(one["entries"])


def test_groups_are_named_after_endpoints(lab: Pnv) -> None:
    for number, one in recorded()["groups"].items():
        folder = f"/sys/kernel/iommu_groups/{number}"
        assert lab.text(f"{folder}/name").strip() == one["name"]
        assert lab.text(f"{folder}/type").strip() == one["type"]
        assert lab.text(f"{folder}/reserved_regions").strip() == one["reserved_regions"]
        assert list(lab.host.listdir(f"{folder}/devices")) == one["devices"]
    assert set(lab.host.listdir("/sys/kernel/iommu_groups")) == set(recorded()["groups"])


def test_links_to_the_device_tree_and_the_iommu(lab: Pnv) -> None:
    """As the lab's guest showed them in another recording."""
    folder = f"/sys/bus/pci/devices/{NVME}"
    assert lab.host.readlink(f"{folder}/of_node").endswith(
        "../firmware/devicetree/base/pciex@600c3c0200000/pci@0/mass-storage@0"
    )
    assert lab.host.readlink(f"{folder}/iommu") == "../../../virtual/iommu/iommu-phb0002"
    assert list(lab.host.listdir("/sys/class/iommu/iommu-phb0002/devices")) == [NVME]


def test_errors_of_the_root_port_stop_everything(lab: Pnv) -> None:
    """``pnv_ioda_set_peltv``: an endpoint is in the vectors of the bridges above it."""
    endpoints = lab.phb(2).endpoints
    root, nvme = lab.pe("0002:00:00.0"), lab.pe(NVME)
    assert nvme.flags is PeFlag.BUS
    assert endpoints.taken_along(root.number) == {root.number, nvme.number}
    assert endpoints.taken_along(nvme.number) == {nvme.number}


def test_the_root_port_decodes_what_the_host_bridge_has(lab: Pnv) -> None:
    """The recorded port of PHB 0 in another recording: 0x80000000 to 0xffefffff, 0x6000000000000 to 0x6003fbff0ffff."""
    port = lab.function("0000:00:00.0")
    assert port.config_read(bridge_regs.PCI_MEMORY_BASE, 4) == 0xFFE08000
    assert port.config_read(bridge_regs.PCI_PREF_MEMORY_BASE, 4) == 0xBFF10001
    assert port.config_read(bridge_regs.PCI_PREF_BASE_UPPER32, 4) == 0x60000
    assert port.config_read(bridge_regs.PCI_PREF_LIMIT_UPPER32, 4) == 0x6003F
    assert port.config_read(regs.PCI_COMMAND, 2) == 0x0107


def test_addresses_on_the_bus(lab: Pnv) -> None:
    function = lab.function(NVME)
    assert function.config_read(regs.PCI_BASE_ADDRESS_0, 4) == 0x80000004
    assert lab.bridge(2).bus_address(0x600C100000000) == 0x80000000
    assert lab.bridge(2).cpu_address(0x80000000) == 0x600C100000000
    assert lab.bridge(0).bus_address(0x6000000000000) == 0x6000000000000


def bars(lab: Pnv, name: str) -> list[int]:
    return [lab.function(name).config_read(regs.PCI_BASE_ADDRESS_0 + 4 * bar, 4) for bar in range(6)]


def test_who_wakes_up_gets_its_addresses_on_the_bus_back() -> None:
    """``pci_restore_bars``: a function whose power state nobody knows is taken for one that lost its registers."""
    lab = Pnv(pcie_functions=[PcieFunctionSpec("virtio-rng-pci", "phb2")])
    assert bars(lab, NVME) == [0, 0x80000000, 0, 0, 0xC, 0x60080]
    lab.device(NVME).power_state = "unknown"
    assert lab.device(NVME).set_power_state(0)
    assert bars(lab, NVME) == [0, 0x80000000, 0, 0, 0xC, 0x60080]


def test_a_rom_is_switched_on_at_its_address_on_the_bus() -> None:
    """``pci_enable_rom``; its images are found there."""
    lab = Pnv(pcie_functions=[PcieFunctionSpec("e1000e", "phb2")])
    card = lab.device(NVME)
    card.enable()
    assert map_rom(card)
    assert lab.function(NVME).config_read(regs.PCI_ROM_ADDRESS, 4) == 0x80000001
    assert card.resources[ROM].start == 0x600C100000000


@pytest.mark.parametrize("page_size", [1 << 12, 1 << 16])
@pytest.mark.parametrize(("tce", "kind"), [(1, "tce"), (2, "tcev2")])
def test_containers(page_size: int, tce: int, kind: str) -> None:
    """Only those with TCE tables; there is no iommufd.  What a program maps is what the function reads."""
    lab = Pnv(page_size=page_size)
    lab.take(EDU)
    edu = lab.hardware(EDU)
    with pyvfio.Host(lab.host) as host, pyvfio.Container(host) as container, pyvfio.Group(host, 4) as group:
        container.attach(group)
        space = container.set_iommu(tce=tce)
        assert space.kind == kind
        edu.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MASTER)
        with space.buffer(page_size) as buffer:
            buffer.view[:2] = b"ok"
            assert edu.dma_read(buffer.iova, 2) == b"ok"
            edu.dma_write(buffer.iova, b"KO")
            assert bytes(buffer.view[:2]) == b"KO"
            place = buffer.iova
        with pytest.raises(DmaFault):
            edu.dma_read(place, 2)
        assert lab.bridge(4).endpoints.state(lab.pe(EDU).number) == OpalFreezeAction.ALL
    assert "iommu" not in lab.host.listdir("/dev")


def test_extensions(lab: Pnv) -> None:
    """As recorded in ``spapr_tce.json``; EEH's is that of who gives it."""
    container = lab.host.open("/dev/vfio/vfio", os.O_RDWR)
    lab.take(EDU)
    group = lab.host.open("/dev/vfio/4", os.O_RDWR)
    lab.host.ioctl(group, abi.VFIO_GROUP_SET_CONTAINER, struct.pack("=i", container))
    known = {abi.VFIO_SPAPR_TCE_IOMMU, abi.VFIO_SPAPR_TCE_v2_IOMMU}
    for extension in (abi.VFIO_TYPE1_IOMMU, abi.VFIO_TYPE1v2_IOMMU, *known):
        assert bool(lab.host.ioctl(container, abi.VFIO_CHECK_EXTENSION, extension)) is (extension in known)
    assert errno_of(lab.host.ioctl, container, abi.VFIO_SET_IOMMU, abi.VFIO_TYPE1v2_IOMMU) == "ENODEV"


@pytest.mark.parametrize("interrupts", ["msi", "intx", "poll"])
@pytest.mark.parametrize("page_size", [1 << 12, 1 << 16])
def test_edu_works(interrupts: str, page_size: int) -> None:
    lab = Pnv(page_size=page_size)
    with pyvfio.Host(lab.host) as host:
        pyvfio.bind(host.device(EDU))
        with pyvfio.open_device(host, EDU) as device, Edu(device, interrupts=interrupts) as edu:
            assert edu.interrupts == interrupts
            assert edu.factorial(10) == 3628800
            edu.put(b"through the tables", 100)
            assert edu.get(18, 100) == b"through the tables"
            assert edu.interrupt(5) == 5
        assert not lab.phb(4).endpoints.troubled()


def test_a_message_of_another_endpoint_freezes(lab: Pnv) -> None:
    """The vector of the NVMe is its endpoint's; ``opal_pci_set_xive_pe`` said so."""
    with pyvfio.Host(lab.host) as host:
        pyvfio.bind(host.device(EDU))
        with pyvfio.open_device(host, EDU) as device, Edu(device, interrupts="msi") as edu:
            lab.opal.pci_set_xive_pe(4, lab.bridge(4).endpoints.root, 0)
            with pytest.raises(pyvfio.PyvfioError):
                edu.interrupt(1)
            assert lab.pe(EDU).number in [one.number for one in lab.phb(4).endpoints.troubled()]
    assert lab.phb(4).endpoints.troubled() == []  # eeh_dev_release: nobody else is to find it frozen


def test_what_is_frozen_reads_as_ones_in_a_program(lab: Pnv) -> None:
    """All reads give ones, writes are lost (``Documentation/arch/powerpc/eeh-pci-error-recovery.rst``)."""
    opened = lab.open(EDU, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
    number, identity, ones = lab.pe(EDU).number, 0x010000ED.to_bytes(4, "little"), b"\xff" * 4
    opened.write(regs.PCI_COMMAND_MEMORY.to_bytes(2, "little"), regs.PCI_COMMAND)
    mapped = lab.host.mmap(opened.fd, 0x100000, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, 0)

    def both() -> tuple[bytes, bytes]:
        return opened.read(4, 0, region=abi.VFIO_PCI_BAR0_REGION_INDEX), mapped[0:4]

    assert both() == (identity, identity)
    lab.bridge(4).endpoints.freeze(number)
    assert both() == (ones, ones)
    assert lab.bridge(4).endpoints.state(number) == OpalFreezeAction.ALL
    assert lab.bridge(4).endpoints.unfreeze(number, OpalFreezeAction.ALL)
    assert both() == (identity, identity)
    mapped.close()


def test_all_ones_are_told(lab: Pnv) -> None:
    """Where EEH finds out (``eeh_check_failure``): a load, of what is frozen by nobody's error."""
    eeh = lab.bridge(4).eeh
    assert eeh is not None
    function, device = lab.function(EDU), lab.device(EDU)
    device.enable()
    assert function.bar_read(0, 0, 4) == 0x010000ED
    assert eeh.stats.total_mmio_ffs == 0
    lab.bridge(4).endpoints.freeze(lab.pe(EDU).number)
    assert function.bar_read(0, 0, 4) == 0xFFFFFFFF
    assert (eeh.stats.total_mmio_ffs, eeh.stats.slot_resets) == (1, 1)


def test_the_card_goes_and_comes_back(lab: Pnv) -> None:
    """``pnv_ioda_release_pe``: the endpoint, its group and its segment are free then, and the same ones come again."""
    before = lab.pe(EDU).number
    lab.write(f"/sys/bus/pci/devices/{EDU}/remove", "1")
    assert "4" not in lab.host.listdir("/sys/kernel/iommu_groups")
    assert lab.phb(4).rids[0x100] == lab.phb(4).model.reserved
    assert lab.bridge(4).endpoints.of(0x100) is None
    lab.write("/sys/bus/pci/rescan", "1")
    assert lab.pe(EDU).number == before
    assert lab.device(EDU).iommu_group is not None
    assert lab.phb(4).rids[0x100] == before


def test_interrupts(lab: Pnv) -> None:
    """As another recording of the lab's guest has them, but that it had one device more."""
    lines = lab.text("/proc/interrupts").split("\n")[1:]
    assert lines[:2] == [
        " 16:          0  XIVE-IPI   0 Edge      IPI-0",
        " 17:          0  XIVE-IRQ 1048560 Level     opal-psi#0:fsp",
    ]
    assert " 31:          0  XIVE-IRQ 1044478 Level     opal-phb#0000-inf" in lines
    assert " 37:          0  XIVE-IRQ 1036286 Level     opal-phb#0003-inf" in lines
    assert " 43:          0  OPAL EVT  11 Level     opal-msg" in lines
    assert [lab.attr(f"{domain:04x}:01:00.0", "irq") for domain in range(5)] == ["44", "45", "46", "47", "48"]
    assert " 49:          0  OPAL EVT   9 Level     opal-eeh" in lines
    opened = lab.open(NVME, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
    opened.eventfds(abi.VFIO_PCI_MSIX_IRQ_INDEX, 0, -1, -1)
    assert set(lab.irqs(NVME)) == {"55", "56"}  # after those of two virtio devices
    opened.set_irqs(abi.VFIO_IRQ_SET_DATA_NONE | abi.VFIO_IRQ_SET_ACTION_TRIGGER, abi.VFIO_PCI_MSIX_IRQ_INDEX, 0, 0)
    opened.close()


def test_messages_of_a_function_begin_at_a_multiple_of_their_number(lab: Pnv) -> None:
    """``msi_bitmap_alloc_hwirqs`` aligns to the order of their number: of MSI the low bits of the data tell which."""
    messages = lab.bridge(4).messages
    assert isinstance(messages, PnvMessages)
    taken = {0, 9}
    messages.is_taken = lambda interrupt: interrupt in taken  # type: ignore[method-assign]
    assert [messages.take(count) for count in (1, 2, 4, 8, 16, 32)] == [1, 2, 4, 16, 16, 32]
    taken.update(range(lab.phb(4).model.messages - 3))
    assert messages.take(2) == lab.phb(4).model.messages - 2
    with pytest.raises(OSError, match="No space left"):
        messages.take(4)


def test_what_the_log_is_told_of_endpoints(lab: Pnv) -> None:
    """``pnv_pci_ioda_pe_dump``, ``pnv_pci_diag_data_set``."""
    folder = "/sys/kernel/debug/powerpc/PCI0004"
    lab.write(f"{folder}/dump_ioda_pe_state", "1")
    lines = kernel_log(lab.kernel).lines[-3:]
    assert lines[0] == "pci 0004:01     : [PE# fd] rid: 0100 dev count:  1 flags: bus "
    assert lines[1] == "pci 0004:00     : [PE# fe] rid: 0000 dev count:  1 flags: bus "
    assert lines[2].endswith("[PE# ff] rid: 0000 dev count:  0 flags: ")
    lab.write(f"{folder}/dump_diag_regs", "1")
    assert kernel_log(lab.kernel).lines[3].startswith("PHB4 PHB#4 Diag-data")
    assert errno_of(lab.write, f"{folder}/dump_diag_regs", "no number") == "EINVAL"
    assert errno_of(lab.text, f"{folder}/dump_diag_regs") == "EACCES"


def test_the_device_tree(lab: Pnv) -> None:
    """As in the lab's guest: numbers are big-endian, words end with a zero."""
    assert lab.text("/proc/device-tree/model") == recorded()["machine"]
    node = f"/sys/bus/pci/devices/{NVME}/of_node"
    assert lab.text(f"{node}/name") == "mass-storage\0"
    assert lab.bytes(f"{node}/vendor-id", 4).hex() == "00001b36"
    assert lab.bytes(f"{node}/class-code", 4).hex() == "00010802"
    assert lab.bytes(f"{node}/reg", 20).hex() == "00010000" + 16 * "00"
    assert lab.bytes(f"{node}/../../ibm,opal-num-pes", 4).hex() == "00000100"
    assert "interrupts" not in lab.host.listdir(f"{node}/..")


def test_events_tell_of_the_device_tree(lab: Pnv) -> None:
    """``of_device_uevent``, as another recording of the lab's guest shows it: of functions, ports, and buses."""
    node = "OF_FULLNAME=/pciex@600c3c0200000"
    function = lab.text(f"/sys/bus/pci/devices/{NVME}/uevent").split("\n")[:4]
    assert function == ["OF_NAME=mass-storage", f"{node}/pci@0/mass-storage@0", "OF_COMPATIBLE_N=0", "PCI_CLASS=10802"]
    behind = ["OF_NAME=pci", f"{node}/pci@0", "OF_TYPE=pciex", "OF_COMPATIBLE_N=0"]
    assert lab.text("/sys/bus/pci/devices/0002:00:00.0/uevent").split("\n")[:4] == behind
    assert lab.text("/sys/class/pci_bus/0002:01/uevent").split("\n")[:4] == behind
    assert lab.text("/sys/class/pci_bus/0002:00/uevent").split("\n")[:6] == [
        *("OF_NAME=pciex", node, "OF_TYPE=pciex", "OF_COMPATIBLE_0=ibm,power9-pciex"),
        *("OF_COMPATIBLE_1=ibm,ioda3-phb", "OF_COMPATIBLE_N=2"),
    ]
    link = lab.host.readlink("/sys/devices/pci0002:00/pci_bus/0002:00/of_node")
    assert link == "../../../../firmware/devicetree/base/pciex@600c3c0200000"


def test_a_device_without_an_endpoint_cannot_be_enabled(lab: Pnv) -> None:
    """``pnv_pci_enable_device_hook``."""
    lab.function(E1000E).pe = None
    enable = f"/sys/bus/pci/devices/{E1000E}/enable"
    assert errno_of(lab.write, enable, "1") == "EINVAL"
    assert lab.text(enable) == "0\n"


def test_nvme_moves_data() -> None:
    others = [one for one in power_spec("lab-ppc64").pcie_functions if one.model != "nvme"]
    lab = Pnv(pcie_functions=[*others, PcieFunctionSpec("nvme", "phb2", options={"size": 1 << 20})])
    with pyvfio.Host(lab.host) as host:
        pyvfio.bind(host.device(NVME))
        with pyvfio.open_device(host, NVME) as device, Nvme(device) as nvme:
            nvme.write(3, b"n" * 512)
            assert nvme.read(3, 1) == b"n" * 512


@pytest.mark.parametrize(
    ("phbs", "words"),
    [
        ([PciePhbSpec(model="P7IOC")], "no model 'P7IOC'"),
        ([PciePhbSpec(), PciePhbSpec()], "segment 0000 is another's"),
        ([PciePhbSpec(segment=96)], "segments are 0 to 95"),
        ([PciePhbSpec(id="a"), PciePhbSpec(segment=1, id="a")], "this id is there already"),
        ([PciePhbSpec(slot=-2)], "slots have numbers from 0 to 8191"),
    ],
)
def test_no_such_host_bridge(phbs: list[PciePhbSpec], words: str) -> None:
    with pytest.raises(Misuse, match=words):
        Pnv(pcie_phbs=phbs, pcie_functions=[])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('architecture = "ppc64le"\n[[pcie.bus]]', "has none"),
        ('architecture = "x86_64"\n[[pcie.phb]]', "has none"),
        ('architecture = "ppc64"\n[[pcie.phb]]\nsegment = 0\nmodel = "PHB5"', "no model 'PHB5'"),
        ('architecture = "ppc64"\n[[pcie.function]]\nmodel = "edu"\nbehind = "phb0"', "no bus or port 'phb0'"),
    ],
)
def test_no_such_machine_file(text: str, words: str, tmp_path: Any) -> None:
    file = tmp_path / "m.toml"
    file.write_text(f'[machine]\nname = "m"\n{text}\n')
    with pytest.raises(BadMachine, match=words):
        load_machine(file)
