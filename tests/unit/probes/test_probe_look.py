"""Looking itself: what it refuses, what it costs, what it keeps, and that it changes nothing."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from probe_tree import Tree
from probe_trees import HBA, hba

import pyvfio
from pyvfio.backend import Holder
from pyvfio.binding.probes import PROBES, Outlook, Surroundings, look
from pyvfio.devices import device_named
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def device(tree: Tree, name: str = HBA) -> SysfsDevice:
    return pyvfio.Host(tree.backend).device(name)


def test_a_device_that_is_not_there(tree: Tree) -> None:
    with pytest.raises(NoSuchDevice):
        look(device_named(Sysfs(tree.backend), "pci", HBA))


def test_a_probe_that_there_is_not(tree: Tree) -> None:
    hba(tree)
    with pytest.raises(Misuse, match="no probe 'mount'"):
        look(device(tree), probes=["mount"])


def test_only_the_probes_asked_for(tree: Tree) -> None:
    hba(tree)
    tree.mount("8:1", "/", "ext4", "/dev/sda1")
    assert [one.probe for one in look(device(tree)).findings] == ["boot", "mounted"]
    assert [one.probe for one in look(device(tree), probes=["mounted", "open"]).findings] == ["mounted"]
    assert look(device(tree), probes=["open"]) == Outlook()
    assert look(device(tree), probes=["open"]).free


def test_it_opens_nothing_for_writing_and_closes_what_it_opens(tree: Tree) -> None:
    hba(tree)  # the backend of the tree refuses an open for writing
    gc.collect()  # what earlier tests left is not this one's
    before = sorted(os.listdir("/proc/self/fd"))
    look(device(tree))
    assert "/dev/sda" in tree.backend.opened
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_program_of_this_host_is_named(tree: Tree) -> None:
    hba(tree)
    with (tree.root / "dev/sg0").open():
        (finding,) = look(device(tree), probes=["open"]).findings
        (evidence,) = finding.evidence
    assert evidence.what.startswith("sg0 is open in ")
    assert f"(pid {os.getpid()}, fd " in evidence.what
    assert look(device(tree), probes=["open"]).free


def test_the_host_is_read_once_for_all_devices(tree: Tree) -> None:
    hba(tree)
    nic_path = tree.pci("0000:3c:00.0", "ixgbe")
    tree.device(f"{nic_path}/net/ens1", "net", INTERFACE="ens1")
    asked: list[int] = []
    network = tree.backend.network
    tree.backend.network = lambda: (asked.append(1), network())[1]  # type: ignore[method-assign]
    around = Surroundings(Sysfs(tree.backend))
    for _ in range(3):
        look(device(tree), around)
        look(device(tree, "0000:3c:00.0"), around)
    for path in ("/proc/self/mountinfo", "/proc/swaps", "/proc/consoles", "/proc/cmdline"):
        assert tree.backend.opened.count(path) == 1, path
    assert tree.backend.listed.count("/sys/block") == 1
    assert len(asked) == 1


def test_what_it_costs_does_not_depend_on_the_number_of_other_devices(tmp_path: Path) -> None:
    calls = []
    for count in (10, 300):
        tree = Tree(tmp_path / str(count))
        hba(tree)
        for number in range(count):
            name = f"0000:{0x40 + (number >> 8):02x}:{number >> 3 & 31:02x}.{number & 7}"
            path = tree.pci(name, "virtio-pci")
            tree.device(f"{path}/net/eth{number}", "net", INTERFACE=f"eth{number}")
        tree.backend.opened.clear()
        tree.backend.listed.clear()
        look(device(tree))
        calls.append((len(tree.backend.opened), len(tree.backend.listed)))
    assert calls[0] == calls[1]


def test_the_programs_of_a_node_are_asked_for_once(tree: Tree) -> None:
    hba(tree)
    asked: list[str] = []

    def holders(path: str) -> list[Holder]:
        asked.append(path)
        return []

    tree.backend.holders = holders  # type: ignore[method-assign]
    around = Surroundings(Sysfs(tree.backend))
    look(device(tree), around)
    look(device(tree), around)
    assert sorted(asked) == ["/dev/sda", "/dev/sda1", "/dev/sg0"]


def test_as_plain_data_and_as_text(tree: Tree) -> None:
    hba(tree)
    tree.mount("8:1", "/srv", "ext4", "/dev/sda1")
    (finding,) = look(device(tree)).findings
    assert str(finding) == (
        "0000:3b:00.0: mounted: a file system on it is mounted\n    sda1 is mounted on /srv (ext4) [/dev/sda1]"
    )
    assert finding.as_dict()["evidence"] == [{"what": "sda1 is mounted on /srv (ext4)", "path": "/dev/sda1"}]


def test_descriptions_are_for_people() -> None:
    for name, probe in PROBES.items():
        assert probe.description[0].islower(), name
        assert not probe.description.endswith("."), name
        assert probe.load().SUMMARY, name


def test_planning_does_not_import_the_probes() -> None:
    import subprocess
    import sys

    program = "import sys, pyvfio.binding.probes; print(*[m for m in sys.modules if 'binding.probes.' in m])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {one.rpartition(".")[2] for one in loaded} == {"probe", "subject", "surroundings", "inputs"}
