"""Links that save power by themselves, in sysfs: ``link`` and ``pcie_aspm.policy`` (``drivers/pci/pcie/aspm.c``, 6.12).

Which functions of the x86 lab have which files is what its kernel shows.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

import pytest
from pcie_fixture import Pcie, lab_spec

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs

BUS = "/sys/bus/pci/devices"
POLICY = "/sys/module/pcie_aspm/parameters/policy"
PORT, NIC, PAIR = "0000:00:08.0", "0000:01:00.0", ("0000:0c:00.0", "0000:0c:00.1")
# As ``ls /sys/bus/pci/devices/*/link`` has it on the lab's kernel; each of them has the one file.
WITH_L0S = (
    "0000:01:00.0", "0000:03:00.0", "0000:04:00.0", "0000:05:00.0", "0000:07:00.0", "0000:08:00.0", "0000:09:00.0",
    "0000:0c:00.0", "0000:0c:00.1", "0000:0d:00.0", "0000:41:00.0",
)  # fmt: skip


class Links(Pcie):
    """The machine, its files, and the link control of its functions."""

    def text(self, path: str) -> str:
        fd = self.host.open(path, os.O_RDONLY)
        try:
            return self.host.read(fd, 4096).decode().strip()
        finally:
            self.host.close(fd)

    def put(self, path: str, data: str) -> None:
        fd = self.host.open(path, os.O_WRONLY)
        try:
            self.host.write(fd, data.encode())
        finally:
            self.host.close(fd)

    def used(self, name: str) -> int:
        device = self.device(name)
        return device.read_config(device.express + express.PCI_EXP_LNKCTL, 2) & express.PCI_EXP_LNKCTL_ASPMC

    def change(self, name: str, register: int, bits: int) -> None:
        """Change what hardware says of itself."""
        config = self.hardware(name).config
        at = self.device(name).express + register
        config.put(at, 4, config.read(at, 4) | bits)


@pytest.fixture
def links() -> Iterator[Links]:
    made = Links()
    yield made
    made.machine.close()


def refused(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number


def test_the_files_are_those_of_the_lab(links: Links) -> None:
    found = {name: links.host.listdir(f"{BUS}/{name}/link") for name in links.host.listdir(BUS)}
    assert {name: files for name, files in found.items() if files} == {name: ["l0s_aspm"] for name in WITH_L0S}
    assert {links.text(f"{BUS}/{name}/link/l0s_aspm") for name in WITH_L0S} == {"0"}
    assert links.text(POLICY) == "[default] performance powersave powersupersave"


def test_the_policy_decides_and_what_was_taken_stays_taken(links: Links) -> None:
    file = f"{BUS}/{NIC}/link/l0s_aspm"
    links.put(file, "1")  # firmware left it off, and that is the policy
    assert (links.text(file), links.used(NIC), links.used(PORT)) == ("0", 0, 0)
    links.put(POLICY, "powersave\n")
    assert (links.text(file), links.used(NIC), links.used(PORT)) == ("1", 1, 1)
    links.put(file, "n")
    assert (links.text(file), links.used(NIC), links.used(PORT)) == ("0", 0, 0)
    links.put(POLICY, "powersupersave")
    assert links.used(NIC) == 0
    links.put(file, "y")
    assert links.used(NIC) == 1
    links.put(POLICY, "performance")
    assert links.used(NIC) == 0
    refused(errno.EINVAL, lambda: links.put(file, "2x"))
    refused(errno.EINVAL, lambda: links.put(POLICY, "save"))


def test_all_functions_of_a_device_are_switched(links: Links) -> None:
    links.put(POLICY, "powersave")
    assert [links.used(name) for name in PAIR] == [1, 1]
    links.put(f"{BUS}/{PAIR[1]}/link/l0s_aspm", "0")
    assert [links.used(name) for name in PAIR] == [0, 0]


def test_virtual_functions_have_the_link_of_the_physical_one() -> None:
    links = Links(modules=(*lab_spec().modules, "igb"))
    links.put(f"{BUS}/0000:03:00.0/sriov_numvfs", "2")
    links.put(POLICY, "powersave")
    for name in ("0000:03:00.0", "0000:03:10.0", "0000:03:10.2"):
        assert links.text(f"{BUS}/{name}/link/l0s_aspm") == "1"
    links.machine.close()


def test_l1_needs_both_ends_and_a_device_that_bears_it(links: Links) -> None:
    for name in (PORT, NIC):
        assert "l1_aspm" not in links.host.listdir(f"{BUS}/{NIC}/link")
        links.change(name, regs.PCI_EXP_LNKCAP, express.PCI_EXP_LNKCAP_ASPM_L1)
    assert links.host.listdir(f"{BUS}/{NIC}/link") == ["l0s_aspm", "l1_aspm"]
    links.put(POLICY, "powersave")
    assert (links.used(NIC), links.used(PORT)) == (3, 3)
    links.put(f"{BUS}/{NIC}/link/l1_aspm", "0")
    assert (links.used(NIC), links.used(PORT)) == (1, 1)
    links.change(PORT, regs.PCI_EXP_LNKCAP, 1 << 15)  # two microseconds, and the device bears one
    assert links.host.listdir(f"{BUS}/{NIC}/link") == ["l0s_aspm"]
    links.change(NIC, regs.PCI_EXP_DEVCAP, 1 << 9)
    assert links.host.listdir(f"{BUS}/{NIC}/link") == ["l0s_aspm", "l1_aspm"]


def test_a_slower_direction_is_not_used(links: Links) -> None:
    links.change(PORT, regs.PCI_EXP_LNKCAP, 1 << 12)
    links.put(POLICY, "powersave")
    assert (links.used(NIC), links.used(PORT)) == (0, 1)  # downstream alone, which the upper end is told


def test_what_firmware_left_on_is_the_default(links: Links) -> None:
    for name in (PORT, NIC):
        links.change(name, express.PCI_EXP_LNKCTL, express.PCI_EXP_LNKCTL_ASPM_L0S)
    assert links.text(f"{BUS}/{NIC}/link/l0s_aspm") == "1"
    links.put(POLICY, "performance")
    assert links.used(NIC) == 0
    links.put(POLICY, "default")
    assert links.used(NIC) == 1


def test_a_function_that_goes_leaves_its_port_without(links: Links) -> None:
    links.put(POLICY, "powersave")
    assert links.used(PORT) == 1
    links.put(f"{BUS}/{NIC}/remove", "1")
    assert links.used(PORT) == 0
    links.put("/sys/bus/pci/rescan", "1")
    assert links.used(NIC) == 0
    links.put(f"{BUS}/{NIC}/enable", "1")  # powersave waits for a driver
    assert (links.used(NIC), links.used(PORT)) == (1, 1)


def test_links_above_follow_what_is_below(links: Links) -> None:
    """``pcie_config_aspm_path``: who bears no delay keeps the links above it awake, as long as it is there."""
    root, upstream, downstream, card, other = (
        *("0000:00:0a.0", "0000:05:00.0", "0000:06:00.0"),
        *("0000:07:00.0", "0000:08:00.0"),
    )
    for name in (root, upstream):
        links.change(name, regs.PCI_EXP_LNKCAP, 1 << 12)  # 128 ns; all here bear 64
    for name in (card, other):
        links.change(name, regs.PCI_EXP_DEVCAP, 7 << 6)
    links.put(POLICY, "powersave")
    assert [links.used(name) for name in (root, upstream, downstream, card)] == [1, 1, 1, 1]
    config = links.hardware(card).config
    at = links.device(card).express + regs.PCI_EXP_DEVCAP
    config.put(at, 4, config.read(at, 4) & ~(7 << 6))
    links.put(f"{BUS}/{card}/enable", "1")
    assert [links.used(name) for name in (root, upstream, downstream, card)] == [0, 0, 1, 1]
    links.put(f"{BUS}/{card}/remove", "1")
    assert [links.used(name) for name in (root, upstream, downstream)] == [1, 1, 0]


def test_the_command_line() -> None:
    for cmdline, files in (("pcie_aspm=off", []), ("pcie_aspm.policy=powersave", ["l0s_aspm"])):
        links = Links(host=type(lab_spec().host)(cmdline=cmdline))
        assert links.host.listdir(f"{BUS}/{NIC}/link") == files
        assert ("pcie_aspm" in links.host.listdir("/sys/module")) is bool(files)
        assert "pcie_aspm" not in links.text("/proc/modules")
        links.machine.close()
