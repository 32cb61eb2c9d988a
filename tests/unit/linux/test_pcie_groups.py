"""Groups of PCI Express functions: the machine's Linux against the library's account of them, and single rules."""

from __future__ import annotations

import dataclasses
import os
from random import Random

import pytest
from pcie_fixture import lab_spec

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.pci.grouping import explain
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import PcieBusSpec, PcieFunctionSpec
from pyvfio_backends.software.linux.pci_acs import REQUIRED
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pcie_function import PcieFunction
from pyvfio_backends.software.linux.pcie_groups import find_group
from pyvfio_backends.software.machine import Machine

ROOT_PORTS = ("ioh3420", "pcie-root-port")
ENDPOINTS = ("e1000e", "edu", "nvme", "pci-testdev")
MANY = int(os.environ.get("PYVFIO_TREES", "25"))


class Tree:
    """A random tree of functions, in the words of a machine file."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.specs: list[PcieFunctionSpec] = []
        self.slots = 0
        for device in range(1, random.randrange(3, 9)):
            self.device("0000:00", device, depth=0)

    def add(self, model: str, behind: str, device: int, number: int, *, slot: bool = False) -> str:
        identifier = f"f{len(self.specs)}"
        self.slots += slot
        at = f"{device:02x}.{number}"
        self.specs.append(PcieFunctionSpec(model, behind, at, identifier, self.slots if slot else -1))
        return identifier

    def device(self, behind: str, device: int, depth: int) -> None:
        """A device with one function or several; ports have something behind them."""
        count = self.random.choice((1, 1, 2, 3))
        for number in range(count):
            if depth == 0 and self.random.random() < 0.6:
                port = self.add(self.random.choice(ROOT_PORTS), behind, device, number, slot=True)
                self.behind_port(port, 1)
            else:
                self.add(self.random.choice(ENDPOINTS), behind, device, number)

    def behind_port(self, port: str, depth: int) -> None:
        what = self.random.choice(("nothing", "device", "device", "switch", "bridge"))
        if what == "device":
            self.device(port, 0, depth)
        elif what == "switch" and depth < 3:
            upstream = self.add("x3130-upstream", port, 0, 0)
            for device in range(self.random.randrange(1, 4)):
                self.behind_port(self.add("xio3130-downstream", upstream, device, 0, slot=True), depth + 1)
        elif what == "bridge":
            bridge = self.add("pcie-pci-bridge", port, 0, 0)
            for device in range(1, self.random.randrange(2, 4)):
                self.device(bridge, device, depth + 1)


def boot(specs: list[PcieFunctionSpec]) -> Machine:
    return Machine(dataclasses.replace(lab_spec(), pcie_buses=[PcieBusSpec()], pcie_functions=specs))


@pytest.mark.parametrize("seed", range(MANY))
def test_linux_and_the_library_agree_on_random_trees(seed: int) -> None:
    """Two ways to the same groups: the kernel looks for one that is there, the library follows links."""
    machine = boot(Tree(Random(seed)).specs)
    with pyvfio.Host(SoftwareBackend(machine)) as host:
        for number in machine.kernel.groups.groups:
            account = explain(host.group(number))
            assert account.agrees, (seed, number, account.notes)


class Names:
    """Devices of a machine by their place."""

    def __init__(self, specs: list[PcieFunctionSpec]) -> None:
        self.machine = boot(specs)

    def __getitem__(self, place: str) -> PciDevice:
        device = self.machine.kernel.buses["pci"].devices[f"0000:{place}"]
        assert isinstance(device, PciDevice)
        return device

    def regroup(self) -> dict[str, int]:
        """Compute all groups anew, for functions that were changed."""
        groups = self.machine.kernel.groups
        devices = list(self.machine.kernel.buses["pci"].devices.values())
        for device in devices:
            groups.leave(device)
        for device in devices:
            assert isinstance(device, PciDevice)
            assert isinstance(device.sysdata, PcieFunction)
            groups.join(find_group(device.sysdata) or groups.create(), device)
        return {
            device.name.removeprefix("0000:"): device.iommu_group.number for device in devices if device.iommu_group
        }


def test_an_endpoint_of_several_functions_that_its_vendor_vouches_for() -> None:
    """``pci_quirk_mf_endpoint_acs``: an 82576 isolates its functions without saying so."""
    tree = Names([PcieFunctionSpec("e1000e", "0000:00", f"03.{number}") for number in range(2)])
    assert tree["00:03.0"].iommu_group is tree["00:03.1"].iommu_group
    tree["00:03.0"].device_id = 0x10C9
    groups = tree.regroup()
    assert groups["00:03.0"] != groups["00:03.1"]


def test_a_controller_that_uses_the_name_of_another_function() -> None:
    """``quirk_dma_func1_alias``: a Marvell 88SE9172's function 0 does its DMA as function 1."""
    tree = Names(
        [PcieFunctionSpec("pcie-root-port", "0000:00", "01.0", "p", 1)]
        + [PcieFunctionSpec("e1000e", "p", f"00.{number}") for number in range(2)]
    )
    for number in range(2):  # isolated, were it not for the name
        tree[f"01:00.{number}"].multifunction = False
    assert len({tree.regroup()[f"01:00.{number}"] for number in range(2)}) == 2
    tree["01:00.0"].vendor, tree["01:00.0"].device_id = 0x1B4B, 0x9172
    assert len({tree.regroup()[f"01:00.{number}"] for number in range(2)}) == 1


def test_who_only_shares_a_bus_with_an_isolating_port_does_not_share_its_group() -> None:
    """A port below one without ACS is in that one's group although it has ACS itself (``pci_acs_path_enabled``)."""
    tree = Names(
        [
            PcieFunctionSpec("pcie-root-port", "0000:00", "01.0", "p", 1),
            PcieFunctionSpec("x3130-upstream", "p", "00.0", "up"),
            PcieFunctionSpec("xio3130-downstream", "up", "00.0", "d0", 2),
            PcieFunctionSpec("xio3130-downstream", "up", "01.0", "d1", 3),
            PcieFunctionSpec("nvme", "d0", "00.0"),
            PcieFunctionSpec("nvme", "d1", "00.0"),
        ]
    )
    groups = tree.regroup()
    assert groups["02:00.0"] == groups["03:00.0"] != groups["02:01.0"] == groups["04:00.0"]
    assert len({groups["00:01.0"], groups["01:00.0"], groups["02:00.0"], groups["02:01.0"]}) == 4


def test_without_an_iommu_nothing_is_isolated_and_there_are_no_groups() -> None:
    spec = lab_spec()
    host = dataclasses.replace(spec.host, cmdline="quiet intel_iommu=off")
    machine = Machine(dataclasses.replace(spec, host=host))
    assert not machine.kernel.groups.groups
    device = machine.kernel.buses["pci"].devices["0000:00:09.0"]
    assert isinstance(device, PciDevice)
    at = device.find_extended_capability(regs.PCI_EXT_CAP_ID_ACS)
    assert device.read_config(at + regs.PCI_ACS_CTRL, 2) == 0


@pytest.mark.parametrize("cmdline", ["quiet", "quiet intel_iommu=off"])
def test_isolation_is_switched_on_anew_after_a_reset_and_not_restored(cmdline: str) -> None:
    """``pci_restore_state`` calls `pci_enable_acs` (``drivers/pci/pci.c``, 6.12): what a user wrote is gone; without an
    IOMMU nothing is switched on, and so nothing comes back.
    """
    spec = lab_spec()
    made = Machine(dataclasses.replace(spec, host=dataclasses.replace(spec.host, cmdline=cmdline)))
    device = made.kernel.buses["pci"].devices["0000:00:09.0"]
    assert isinstance(device, PciDevice)
    at = device.find_extended_capability(regs.PCI_EXT_CAP_ID_ACS) + regs.PCI_ACS_CTRL
    booted = device.read_config(at, 2)
    assert booted == (0 if "off" in cmdline else REQUIRED)
    with made.lock:
        device.write_config(at, 2, regs.PCI_ACS_TB)
        saved = device.save_state()
        device.write_config(at, 2, 0)  # a reset
        device.restore_state(saved)
    assert device.read_config(at, 2) == booted


def test_two_thousand_functions() -> None:
    """The kernel looks at a few functions for each group.  Ports for whose slot no vector is left do without it."""
    specs: list[PcieFunctionSpec] = []
    for number in range(1, 17):
        specs.append(PcieFunctionSpec("pcie-root-port", "0000:00", f"{number:02x}.0", f"p{number}", number))
        specs.append(PcieFunctionSpec("x3130-upstream", f"p{number}", "00.0", f"u{number}"))
        for device in range(13):
            port, slot = f"d{number}-{device}", 100 * number + device
            specs.append(PcieFunctionSpec("xio3130-downstream", f"u{number}", f"{device:02x}.0", port, slot))
            specs += [PcieFunctionSpec("edu", port, f"00.{function}") for function in range(8)]
    machine = boot(specs)
    groups = machine.kernel.groups.groups
    assert len(machine.kernel.buses["pci"].devices) == len(specs)
    assert sorted({len(group.devices) for group in groups.values()}) == [1, 9]
    assert len(groups) == 16 * (2 + 13)
