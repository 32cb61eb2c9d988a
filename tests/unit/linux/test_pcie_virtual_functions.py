"""Virtual functions of PCI Express that Linux makes.  ``tests/golden`` has the rest, by the x86 lab's igb."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from pci_fixture import BUS, errno_of
from pcie_fixture import Pcie, lab_spec

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.host import Host
from pyvfio_backends.software.hardware.pcie import endpoints
from pyvfio_backends.software.linux.pci_driver import PciDriver, PciId
from pyvfio_tools import options
from pyvfio_tools.cli import run

PF = "0000:03:00.0"
FILES = f"{BUS}/devices/{PF}"
MODULES = [*lab_spec().modules, "igb"]


@pytest.fixture
def lab() -> Iterator[Pcie]:
    made = Pcie(modules=MODULES)
    assert made.driver(PF) == "igb"
    made.seen()
    yield made
    made.host.close()


def names(lab: Pcie) -> list[str]:
    return sorted(name for name in lab.host.listdir(f"{BUS}/devices") if name.startswith("0000:03:1"))


def test_they_come_one_after_the_other_and_then_the_physical_one_has_changed(lab: Pcie) -> None:
    lab.write(f"{FILES}/sriov_numvfs", "2")
    found = ["0000:03:10.0", "0000:03:10.2"]
    assert names(lab) == found
    events = [(event.action, event.devpath.rsplit("/", 1)[-1]) for event in lab.seen() if event.subsystem == "pci"]
    assert events == [(action, name) for name in found for action in ("add", "change")] + [("change", PF)]
    for number, name in enumerate(found):
        assert lab.host.readlink(f"{FILES}/virtfn{number}") == f"../{name}"
        assert lab.host.readlink(f"{BUS}/devices/{name}/physfn") == f"../{PF}"
    assert [lab.attr(found[0], file) for file in ("vendor", "device", "class")] == ["0x8086", "0x10ca", "0x020000"]
    assert lab.attr(found[0], "reset_method") == "flr"
    assert not {"remove", "rescan", "rom"} & set(lab.host.listdir(f"{BUS}/devices/{found[0]}"))


def test_each_answers_where_its_share_of_the_base_addresses_is(lab: Pcie) -> None:
    lab.write(f"{FILES}/sriov_numvfs", "3")
    for number, name in enumerate(("0000:03:10.0", "0000:03:10.2", "0000:03:10.4")):
        start = int(lab.attr(name, "resource").split()[0], 16)
        assert start == 0xFE400000 + 0x4000 * number
        assert start in {one.first for one in lab.hardware(name).decoders()}


def test_they_go_with_the_driver_of_the_physical_one(lab: Pcie) -> None:
    lab.write(f"{FILES}/sriov_numvfs", "2")
    lab.write(f"{FILES}/driver/unbind", PF)
    assert names(lab) == []
    assert not [name for name in lab.host.listdir(FILES) if name.startswith("virtfn")]
    assert lab.attr(PF, "sriov_totalvfs") == "8"  # the driver's limit is gone
    assert errno_of(lab.write, f"{FILES}/sriov_numvfs", "1") == "ENOENT"


def test_a_removed_physical_function_takes_them_along_and_comes_back_without(lab: Pcie) -> None:
    lab.write(f"{FILES}/sriov_numvfs", "2")
    lab.write(f"{FILES}/remove", "1")
    assert names(lab) == []
    lab.write(f"{BUS}/rescan", "1")
    assert (names(lab), lab.attr(PF, "sriov_numvfs")) == ([], "0")
    lab.write(f"{FILES}/sriov_numvfs", "1")
    assert names(lab) == ["0000:03:10.0"]


def test_a_reset_of_the_physical_one_brings_them_back(lab: Pcie) -> None:
    """``pci_restore_iov_state``: the capability is written again, so the functions are there, made anew."""
    lab.write(f"{FILES}/sriov_numvfs", "2")
    before = lab.hardware("0000:03:10.2")
    lab.write(f"{FILES}/reset_method", "flr")
    lab.write(f"{FILES}/reset", "1")
    after = lab.hardware("0000:03:10.2")
    assert after is not before
    assert lab.config("0000:03:10.2", 0, 4) == "ffffffff"
    assert lab.device("0000:03:10.2").read_config(regs.PCI_CLASS_REVISION, 4) == 0x02000001


def test_drivers_are_not_sought_when_people_say_so(lab: Pcie) -> None:
    class Taker(PciDriver):
        table = (PciId(0x8086, 0x10CA),)

    lab.kernel.buses["pci"].register(Taker(lab.device(PF).pci_bus, "taker"))
    lab.write(f"{FILES}/sriov_numvfs", "1")
    assert lab.driver("0000:03:10.0") == "taker"
    lab.write(f"{FILES}/sriov_numvfs", "0")
    lab.write(f"{FILES}/sriov_drivers_autoprobe", "0")
    lab.write(f"{FILES}/sriov_numvfs", "1")
    assert lab.driver("0000:03:10.0") is None


def test_vectors_are_not_given_out(lab: Pcie) -> None:
    lab.write(f"{FILES}/sriov_numvfs", "1")
    path = f"{BUS}/devices/0000:03:10.0/sriov_vf_msix_count"
    assert errno_of(lab.write, path, "2") == "ENOTSUP"
    assert errno_of(lab.write, path, "-1") == "EINVAL"
    assert errno_of(lab.write, path, "x") == "EINVAL"


@pytest.mark.parametrize("offset", [0x100, 0x180])
def test_beyond_the_bus_of_the_physical_one(monkeypatch: pytest.MonkeyPatch, offset: int) -> None:
    """Only as far as the bridge above has bus numbers (``sriov_enable``): else ENOMEM, and nothing changed."""
    monkeypatch.setattr(endpoints, "IGB_SRIOV", dataclasses.replace(endpoints.IGB_SRIOV, offset=offset))
    lab = Pcie(modules=MODULES)
    with lab.host:
        assert lab.attr(PF, "sriov_offset") == str(offset)
        port = lab.device("0000:00:09.0")
        last = port.read_config(bridge_regs.PCI_SUBORDINATE_BUS, 1)
        port.write_config(bridge_regs.PCI_SUBORDINATE_BUS, 1, 3)
        assert errno_of(lab.write, f"{FILES}/sriov_numvfs", "2") == "ENOMEM"
        assert lab.attr(PF, "sriov_numvfs") == "0"
        port.write_config(bridge_regs.PCI_SUBORDINATE_BUS, 1, last)
        lab.write(f"{FILES}/sriov_numvfs", "2")
        first = f"0000:04:{(offset & 0xFF) >> 3:02x}.0"
        assert lab.attr(first, "device") == "0x10ca"
        assert lab.host.readlink(f"{FILES}/virtfn0") == f"../{first}"
        lab.write(f"{FILES}/sriov_numvfs", "0")
        assert first not in lab.host.listdir(f"{BUS}/devices")


def test_the_command_makes_them_and_takes_them_away(
    lab: Pcie, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """``pyvfio sriov`` goes from two to three by none, with what is shown afterwards."""
    monkeypatch.setattr(options, "Host", lambda *names, **machine: Host(lab.host))
    monkeypatch.setenv("PYVFIO_JOURNAL", str(tmp_path))
    for number in ("2", "3"):
        assert run(["sriov", PF, number]) == 0
        assert names(lab) == ["0000:03:10.0", "0000:03:10.2", "0000:03:10.4"][: int(number)]
        assert capsys.readouterr().out.count("0000:03:10.") >= int(number)
    assert run(["sriov", PF, "8"]) != 0  # igb keeps the eighth for itself
    assert lab.attr(PF, "sriov_numvfs") == "3"
    assert run(["sriov", PF, "0"]) == 0
    assert names(lab) == []
