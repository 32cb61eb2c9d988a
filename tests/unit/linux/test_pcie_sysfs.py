"""PCI Express functions in sysfs, held to what the x86 lab's kernel showed (``fixtures/golden/x86/topology.json``)."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import PcieFunctionSpec
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.machine import Machine
from pyvfio_backends.software.pcie_tree import build_tree
from pyvfio_fixtures import golden
from pyvfio_tools.cli import cli

GOLDEN: dict[str, dict[str, Any]] = json.loads(golden("x86/topology.json").read_text(encoding="utf-8"))["functions"]


SPEC = load_machine(machine_files()["lab-x86"])
BUSES, FUNCTIONS = SPEC.pcie_buses, SPEC.pcie_functions


class Lab:
    """The machine `lab-x86`."""

    def __init__(self) -> None:
        self.host = SoftwareBackend(Machine(SPEC))
        self.complex = self.host.machine.pcie

    def text(self, path: str) -> str:
        fd = self.host.open(path, os.O_RDONLY)
        try:
            return self.host.read(fd, 1 << 16).decode()
        finally:
            self.host.close(fd)

    def there(self, path: str) -> bool:
        directory, _, name = path.rpartition("/")
        return name in self.host.listdir(directory)

    def write(self, path: str, data: bytes) -> int:
        fd = self.host.open(path, os.O_WRONLY)
        try:
            return self.host.write(fd, data)
        finally:
            self.host.close(fd)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.host.close()


DEVICES = "/sys/bus/pci/devices"
NUMBERS = ("config_len", "path", "resource", "driver", "reset_method", "entries")
# An empty slot of QEMU's port tells what its port can do, not what a link does.
EMPTY = {"0000:00:0c.0": {"current_link_speed", "current_link_width"}}
# A line of ``resource`` that chipset firmware sets by itself.
NOT_FIRMWARES = {"0000:00:1f.3": {4}}
TEXTS = sorted({key for facts in GOLDEN.values() for key in facts} - set(NUMBERS))


def test_the_devices_are_those_of_the_lab(lab: Lab) -> None:
    assert sorted(lab.host.listdir(DEVICES)) == sorted(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_where_it_is(lab: Lab, name: str) -> None:
    assert lab.host.readlink(f"{DEVICES}/{name}") == f"../../../devices/{GOLDEN[name]['path']}"


@pytest.mark.parametrize("name", GOLDEN)
def test_what_it_shows(lab: Lab, name: str) -> None:
    facts = GOLDEN[name]
    found = {key: lab.text(f"{DEVICES}/{name}/{key}").strip() for key in TEXTS if key in facts}
    for key in EMPTY.get(name, ()):
        del found[key]
    assert found == {key: facts[key] for key in found}


@pytest.mark.parametrize("name", GOLDEN)
def test_its_resources(lab: Lab, name: str) -> None:
    lines = lab.text(f"{DEVICES}/{name}/resource").splitlines()
    found = [" ".join(hex(int(word, 16)) for word in line.split()) for line in lines]
    expected = GOLDEN[name]["resource"]
    assert len(found) == len(expected)
    different = {n for n, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]}
    assert different == NOT_FIRMWARES.get(name, set())


@pytest.mark.parametrize("name", GOLDEN)
def test_how_it_can_be_reset(lab: Lab, name: str) -> None:
    """``bus`` is for who was alone on its bus when it was found, even if others came after it."""
    path = f"{DEVICES}/{name}/reset_method"
    assert (lab.text(path).strip() if lab.there(path) else None) == GOLDEN[name].get("reset_method")


@pytest.mark.parametrize("name", GOLDEN)
def test_ports_have_their_driver(lab: Lab, name: str) -> None:
    path = f"{DEVICES}/{name}/driver"
    driver = lab.host.readlink(path).rsplit("/", 1)[-1] if lab.there(path) else None
    assert driver == GOLDEN[name].get("driver")


@pytest.mark.parametrize("name", GOLDEN)
def test_the_size_of_its_configuration_space(lab: Lab, name: str) -> None:
    assert lab.host.stat(f"{DEVICES}/{name}/config").st_size == GOLDEN[name]["config_len"]


# Entries that are not there: ACPI's companions (and that a device with one may wait for it), and what drivers make that
# this machine does not load.
LACKS = re.compile(r"firmware_node|waiting_for_supplier|msi_irqs|driver|virtio\d|net|ptp|nvme|pools|ctrl")


@pytest.mark.parametrize("name", GOLDEN)
def test_its_entries(lab: Lab, name: str) -> None:
    found, expected = set(lab.host.listdir(f"{DEVICES}/{name}")), set(GOLDEN[name]["entries"])
    # the recording's functions had drivers, which end that file
    assert found - expected <= {"waiting_for_supplier"}
    assert [entry for entry in expected - found if not LACKS.fullmatch(entry)] == []


def test_every_bus_is_in_its_class(lab: Lab) -> None:
    behind = {int(facts["secondary_bus_number"]) for facts in GOLDEN.values() if "secondary_bus_number" in facts}
    assert sorted(lab.host.listdir("/sys/class/pci_bus")) == sorted(f"0000:{n:02x}" for n in {0, 0x40, *behind})
    assert lab.host.readlink("/sys/class/pci_bus/0000:07").endswith("/0000:06:00.0/pci_bus/0000:07")


def test_a_bridge_goes_with_all_behind_it_and_comes_back() -> None:
    lab = Lab()
    with lab.host:
        behind = {"0000:00:0b.0", "0000:09:00.0", "0000:0a:01.0", "0000:0a:02.0"}
        lab.write(f"{DEVICES}/0000:00:0b.0/remove", b"1")
        assert set(GOLDEN) - set(lab.host.listdir(DEVICES)) == behind
        assert not {"0000:09", "0000:0a"} & set(lab.host.listdir("/sys/class/pci_bus"))
        lab.write("/sys/bus/pci/rescan", b"1")
        assert sorted(lab.host.listdir(DEVICES)) == sorted(GOLDEN)
        for name in behind:
            assert lab.host.readlink(f"{DEVICES}/{name}") == f"../../../devices/{GOLDEN[name]['path']}"
        assert lab.host.readlink(f"{DEVICES}/0000:00:0b.0/driver").endswith("/pcieport")


@pytest.mark.parametrize(("name", "method"), [("0000:03:00.0", "flr"), ("0000:01:00.0", "pm"), ("0000:02:00.0", "bus")])
def test_a_reset_reaches_the_function_and_keeps_its_addresses(lab: Lab, name: str, method: str) -> None:
    function = lab.complex.function(0, int(name[5:7], 16) << 8)
    assert function is not None
    seen: list[str] = []
    function.on_reset.append(lambda: seen.append(name))
    before = bytes(function.config.data[:64])
    lab.write(f"{DEVICES}/{name}/reset_method", method.encode())
    lab.write(f"{DEVICES}/{name}/reset", b"1")
    assert (seen, bytes(function.config.data[:64])) == ([name], before)


def test_a_method_that_the_function_has_not(lab: Lab) -> None:
    with pytest.raises(OSError) as caught:
        lab.write(f"{DEVICES}/0000:02:00.0/reset_method", b"flr")
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (PcieFunctionSpec("e2000", "0000:00"), "no model"),
        (PcieFunctionSpec("edu", "rpz"), "no bus or port"),
        (PcieFunctionSpec("edu", "0000:00", "1.8"), "no device.function"),
        (PcieFunctionSpec("edu", "0000:00", "06.0"), "taken"),
        (PcieFunctionSpec("edu", "0000:00", "10.0", slot=3), "has no slot"),
        (PcieFunctionSpec("ioh3420", "0000:00", "10.0", id="rpa"), "there already"),
    ],
)
def test_a_tree_that_cannot_be_built(function: PcieFunctionSpec, cause: str) -> None:
    with pytest.raises(Misuse, match=cause):
        build_tree(BUSES, [*FUNCTIONS, function])


def test_a_machine_of_x86_has_nothing_of_ibm_z() -> None:
    with pytest.raises(Misuse, match="no zPCI"):
        Machine(dataclasses.replace(SPEC, devices=("virtio-rng-pci,id=rng",)))


HEADERS = json.loads(golden("x86/headers.json").read_text(encoding="utf-8"))["header"]


@pytest.mark.parametrize("name", [f"0000:00:{port}" for port in ("08.1", "09.1", "0c.0", "0f.0")])
def test_the_window_that_linux_made_is_in_the_port(lab: Lab, name: str) -> None:
    place = slice(bridge_regs.PCI_IO_BASE, bridge_regs.PCI_IO_LIMIT + 1)
    fd = lab.host.open(f"{DEVICES}/{name}/config", os.O_RDONLY)
    try:
        assert lab.host.pread(fd, 64, 0)[place] == bytes.fromhex(HEADERS[name])[place]
    finally:
        lab.host.close(fd)


def test_the_bars_of_virtual_functions_are_in_the_capability(lab: Lab) -> None:
    """The bytes are those of the lab's igb: 64-bit, prefetchable, at fe400000 and fe420000."""
    function = lab.complex.function(0, 0x300)
    assert function is not None
    at = (function.offset(regs.PCI_EXT_CAP_ID_SRIOV, extended=True) or 0) + regs.PCI_SRIOV_BAR
    assert bytes(function.config.data[at : at + 24]).hex() == "0c0040fe00000000" + "00" * 4 + "0c0042fe" + "00" * 8


def test_a_bind_works() -> None:
    done = CliRunner().invoke(cli, ["bind", "0000:03:00.0", "--machine", "lab-x86"])
    assert (done.exit_code, done.exception) == (0, None)
