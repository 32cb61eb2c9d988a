"""Each check of the doctor both ways: on a host where all is well, and on one with what it looks for."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_machine import DISK, machine_of

import pyvfio
from pyvfio.binding import running
from pyvfio.binding.journal import Journal
from pyvfio.binding.steps import SetOverride
from pyvfio.doctor import (
    CHECKS,
    OK,
    PROBLEM,
    WARNING,
    Patient,
    Remark,
    devices,
    examine,
    iommus,
    memory,
    modules,
    nodes,
    runs,
    s390,
    safety,
)
from pyvfio.doctor import power as doctor_power
from pyvfio.doctor.remark import amount
from pyvfio.host import Host
from pyvfio_backends.kernel.backend import KernelBackend
from pyvfio_tools.cli import run

GIB = 1 << 30
Boot = Callable[..., Host]


class Rooted(KernelBackend):
    """The files of a directory as those of a host."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = str(root)
        self.memlock = -1

    def _path(self, path: str) -> str:
        return self.root + path

    def sysconf(self, name: str) -> int:
        return self.memlock if name == "RLIMIT_MEMLOCK" else super().sysconf(name)


class Tree:
    """A host made of files that a test writes."""

    def __init__(self, root: Path) -> None:
        self.backend = Rooted(root)
        self.host = Host(self.backend)
        self.root = root

    def file(self, path: str, text: str = "", mode: int = 0o600) -> None:
        at = self.root / path.lstrip("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)
        at.chmod(mode)

    def folder(self, path: str) -> None:
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def link(self, path: str, target: str) -> None:
        at = self.root / path.lstrip("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.symlink_to(os.path.relpath(self.root / target.lstrip("/"), at.parent))

    def function(
        self, name: str, group: str = "", driver: str = "", override: str = "(null)", vfio: bool = False
    ) -> None:
        path = f"/sys/devices/pci0000:00/{name}"
        self.folder(path)
        self.folder("/sys/bus/pci")
        self.link(f"/sys/bus/pci/devices/{name}", path)
        self.link(f"{path}/subsystem", "/sys/bus/pci")
        self.file(f"{path}/driver_override", override)
        if vfio:
            self.folder(f"{path}/vfio-dev/vfio0")
        if driver:
            self.folder(f"/sys/bus/pci/drivers/{driver}")
            self.link(f"/sys/bus/pci/drivers/{driver}/{name}", path)
            self.link(f"{path}/driver", f"/sys/bus/pci/drivers/{driver}")
        if group:
            self.folder(f"/sys/kernel/iommu_groups/{group}/devices")
            self.link(f"/sys/kernel/iommu_groups/{group}/devices/{name}", path)
            self.link(f"{path}/iommu_group", f"/sys/kernel/iommu_groups/{group}")

    def ask(self, check: Callable[[Patient], Iterator[Remark]], need: int | None = None) -> list[Remark]:
        return list(check(Patient(self.host, need)))

    def one(self, check: Callable[[Patient], Iterator[Remark]], need: int | None = None) -> Remark:
        (found,) = self.ask(check, need)
        return found


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


# IOMMUs


def test_no_pci(tree: Tree) -> None:
    assert tree.one(iommus.groups).status == OK


def test_groups(tree: Tree) -> None:
    tree.function("0000:00:01.0", group="4")
    tree.folder("/sys/class/iommu/dmar0")
    found = tree.one(iommus.groups)
    assert found.status == OK
    assert found.detail == "1 IOMMU group by dmar0"


def test_no_groups(tree: Tree) -> None:
    tree.function("0000:00:01.0")
    found = tree.one(iommus.groups)
    assert found.status == PROBLEM
    assert "intel_iommu=on" in found.next_step


def test_no_groups_on_ibm_z(tree: Tree) -> None:
    tree.function("0000:00:01.0")
    tree.folder("/sys/bus/css")
    assert tree.one(iommus.groups).status == WARNING


@pytest.mark.parametrize(
    ("words", "status", "detail"),
    [
        ("root=/dev/sda1 quiet", OK, "none about IOMMUs"),
        ("quiet intel_iommu=on iommu=pt", OK, "intel_iommu=on iommu=pt; with iommu=pt only the host's own DMA"),
        ("arm-smmu.disable_bypass=0", OK, "arm-smmu.disable_bypass=0"),
        ("intel_iommu=off", PROBLEM, "intel_iommu=off turns an IOMMU off"),
        ("amd_iommu=off", PROBLEM, "amd_iommu=off turns an IOMMU off"),
    ],
)
def test_options(tree: Tree, words: str, status: str, detail: str) -> None:
    tree.file("/proc/cmdline", words + "\n")
    found = tree.one(iommus.options)
    assert found.status == status
    assert found.detail.startswith(detail)


def test_an_option_of_another_iommu(tree: Tree) -> None:
    tree.file("/proc/cmdline", "amd_iommu=off")
    tree.function("0000:00:01.0", group="4")
    assert tree.one(iommus.options).status == WARNING


def test_options_on_ibm_z(tree: Tree) -> None:
    tree.folder("/sys/bus/css")
    assert "always is one" in tree.one(iommus.options).detail


# modules


def states(tree: Tree) -> dict[str, Remark]:
    return {remark.check.removeprefix("module "): remark for remark in tree.ask(modules.loaded)}


def test_modules(tree: Tree) -> None:
    tree.folder("/sys/bus/css")
    tree.file("/proc/sys/kernel/osrelease", "6.12.0\n")
    tree.file("/proc/modules", "vfio_iommu_type1 1 0 - Live 0x0\n")
    tree.file("/sys/module/mdev/initstate", "live\n")
    tree.file("/sys/module/vfio/parameters/x", "1\n")
    tree.file("/lib/modules/6.12.0/modules.builtin", "kernel/drivers/iommu/iommufd/iommufd.ko\n")
    tree.file(
        "/lib/modules/6.12.0/modules.dep", "kernel/drivers/s390/cio/vfio_ccw.ko.xz: kernel/drivers/vfio/vfio.ko\n"
    )
    found = states(tree)
    assert {name: remark.detail for name, remark in found.items()} == {
        "vfio": "built in",
        "vfio_iommu_type1": "loaded",
        "iommufd": "built in",
        "vfio_ccw": "not loaded (channel devices)",
        "mdev": "loaded",
    }
    assert (found["vfio_ccw"].status, found["vfio_ccw"].next_step) == (WARNING, "modprobe vfio_ccw")


def test_no_modules(tree: Tree) -> None:
    tree.folder("/sys/bus/pci")
    found = states(tree)
    assert [found[name].status for name in ("vfio", "vfio_iommu_type1", "iommufd")] == [PROBLEM, PROBLEM, WARNING]
    assert "no list" in found["vfio_pci"].detail
    tree.file("/proc/sys/kernel/osrelease", "6.12.0\n")
    tree.file("/lib/modules/6.12.0/modules.dep", "")
    tree.file("/lib/modules/6.12.0/modules.builtin", "")
    found = states(tree)
    assert "this kernel has none" in found["vfio"].detail
    assert "CONFIG_VFIO_PCI" in found["vfio_pci"].next_step


def test_one_kind_of_mapping_is_enough(tree: Tree) -> None:
    tree.file("/sys/module/iommufd/initstate")
    assert states(tree)["vfio_iommu_type1"].status == WARNING


def power(tree: Tree) -> None:
    """A kernel of POWER, as Debian's 6.12 for ppc64el: it has neither type 1 nor iommufd."""
    tree.file(
        "/proc/powerpc/eeh",
        "EEH Subsystem is enabled\nno device=0\nno device node=0\nno config address=0\ncheck not wanted=0\n"
        "eeh_total_mmio_ffs=1\neeh_false_positives=1\neeh_slot_resets=3\n",
    )
    tree.file("/proc/sys/kernel/osrelease", "6.12.0\n")
    tree.file("/lib/modules/6.12.0/modules.builtin", "")
    tree.file(
        "/lib/modules/6.12.0/modules.dep",
        "vfio/vfio.ko.xz:\nvfio/vfio_iommu_spapr_tce.ko.xz: vfio/vfio.ko.xz\n",
    )


def test_a_kernel_of_power_has_its_own_mapping(tree: Tree) -> None:
    power(tree)
    tree.file("/proc/modules", "vfio 57344 1 vfio_iommu_spapr_tce, Live 0x0\nvfio_iommu_spapr_tce 24576 0 - Live 0x0\n")
    found = states(tree)
    assert "vfio_iommu_type1" not in found
    assert (found["vfio_iommu_spapr_tce"].status, found["vfio_iommu_spapr_tce"].detail) == (OK, "loaded")
    assert "iommufd" not in found  # none of POWER has device nodes
    assert tree.one(nodes.iommufd).status == OK


def test_error_handling_on_power(tree: Tree) -> None:
    """Texts of ``proc_eeh_show`` in ``arch/powerpc/kernel/eeh.c``."""
    assert not tree.ask(doctor_power.error_handling)
    power(tree)
    found = tree.one(doctor_power.error_handling)
    assert (found.status, "3 resets" in found.detail) == (OK, True)
    tree.file("/proc/powerpc/eeh", "EEH Subsystem is globally disabled\neeh_total_mmio_ffs=0\n")
    assert tree.one(doctor_power.error_handling).status == WARNING
    tree.file("/proc/cmdline", "root=/dev/sda eeh=off\n")
    assert tree.one(doctor_power.error_handling).next_step == "boot without eeh=off"
    assert "POWER" in tree.one(iommus.options).detail


def test_a_kernel_of_power_before_it_is_loaded(tree: Tree) -> None:
    power(tree)
    found = states(tree)["vfio_iommu_spapr_tce"]
    assert (found.status, found.next_step) == (PROBLEM, "modprobe vfio_iommu_spapr_tce")
    assert found.detail == "not loaded (DMA by the group)"


def test_drivers(tree: Tree) -> None:
    tree.function("0000:00:01.0")
    assert tree.one(modules.drivers).status == PROBLEM
    tree.function("0000:00:02.0", driver="vfio-pci")
    assert tree.one(modules.drivers).detail == "on bus pci, has 1"
    tree.folder("/sys/bus/css")
    assert [remark.status for remark in tree.ask(modules.drivers)] == [OK, WARNING]


# nodes


def test_ways_in(tree: Tree) -> None:
    assert tree.one(nodes.container).status == PROBLEM
    assert tree.one(nodes.iommufd).status == WARNING
    tree.file("/dev/iommu")
    assert tree.one(nodes.iommufd).status == OK
    assert tree.one(nodes.container).status == WARNING
    tree.file("/dev/vfio/vfio", mode=0o666)
    found = tree.one(nodes.container)
    assert found.status == OK
    assert "mode 0666" in found.detail


@pytest.mark.parametrize(
    ("check", "path", "number", "status"),
    [
        (nodes.container, "/dev/vfio/vfio", errno.EACCES, PROBLEM),
        (nodes.container, "/dev/vfio/vfio", errno.EIO, PROBLEM),
        (nodes.iommufd, "/dev/iommu", errno.EACCES, WARNING),
        (nodes.iommufd, "/dev/iommu", errno.EIO, WARNING),
    ],
)
def test_ways_in_that_are_closed(
    boot: Boot, check: Callable[[Patient], Iterator[Remark]], path: str, number: int, status: str
) -> None:
    host = boot()
    machine_of(host).faults.fail("open", number, path=path)
    (found,) = check(Patient(host))
    assert found.status == status
    assert path in found.detail
    assert ("belongs to uid 0" in found.detail) == (number == errno.EACCES)


def test_device_nodes(tree: Tree) -> None:
    assert tree.ask(nodes.devices) == []
    for name in ("1", "2", "3"):
        tree.file(f"/sys/class/vfio/{name}/dev", "0:0\n")
    tree.file("/sys/class/vfio-dev/vfio7/dev", "252:7\n")
    tree.folder("/sys/class/vfio-dev/vfio8")
    tree.file("/dev/vfio/1")
    tree.file("/dev/vfio/2", mode=0o666)
    tree.file("/dev/vfio/devices/vfio7")
    found = [(remark.status, remark.detail) for remark in tree.ask(nodes.devices)]
    assert [status for status, _ in found] == [PROBLEM, PROBLEM, WARNING, OK]
    for (_, detail), word in zip(
        found, ["/dev/vfio/3", "0:0 instead of 252:7", "/dev/vfio/2", "/dev/vfio/1"], strict=True
    ):
        assert word in detail


# memory


def capable(tree: Tree, mask: int) -> None:
    tree.file("/proc/self/status", f"Name:\tx\nVmLck:\t    1024 kB\nVmPin:\t       0 kB\nCapEff:\t{mask:016x}\n")


@pytest.mark.parametrize(
    ("limit", "need", "capabilities", "status", "words"),
    [
        (-1, None, 0, OK, "unlimited"),
        (-1, GIB, 0, OK, "unlimited"),
        (8 << 20, None, 0, WARNING, "at most 8 MiB"),
        (8 << 20, None, 1 << 14, OK, "CAP_IPC_LOCK"),
        (GIB, None, 0, OK, "at most 1 GiB"),
        (GIB, GIB, 0, PROBLEM, "1 GiB needed, 1 MiB locked, the limit is 1 GiB"),
        (GIB, GIB - (1 << 20), 0, OK, "1023 MiB needed, 1 MiB locked, the limit is 1 GiB"),
        (GIB, GIB, 1 << 14, WARNING, "but other users"),
    ],
)
def test_locked_memory(tree: Tree, limit: int, need: int | None, capabilities: int, status: str, words: str) -> None:
    tree.backend.memlock = limit
    capable(tree, capabilities)
    found = tree.one(memory.locked, need)
    assert found.status == status
    assert words in found.detail
    assert ("LimitMEMLOCK" in found.next_step) == (status != OK)


def test_mappings(tree: Tree) -> None:
    assert tree.ask(memory.mappings) == []
    tree.file("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "65535\n")
    assert "65535" in tree.one(memory.mappings).detail


def test_huge_pages(tree: Tree) -> None:
    assert tree.ask(memory.huge_pages) == []
    for top, free, total in (
        ("/sys/kernel/mm/hugepages", 300, 512),
        ("/sys/devices/system/node/node0/hugepages", 200, 256),
        ("/sys/devices/system/node/node1/hugepages", 100, 256),
    ):
        tree.file(f"{top}/hugepages-2048kB/free_hugepages", f"{free}\n")
        tree.file(f"{top}/hugepages-2048kB/nr_hugepages", f"{total}\n")
    tree.folder("/sys/kernel/mm/hugepages/hugepages-1048576kB")
    small, large = tree.ask(memory.huge_pages)
    assert small.check == "huge pages of 2 MiB"
    assert small.detail == "300 of 512 free (node0 200 of 256, node1 100 of 256)"
    assert large.detail.startswith("none")
    small, _ = tree.ask(memory.huge_pages, 600 << 20)
    assert small.status == OK
    small, _ = tree.ask(memory.huge_pages, GIB)
    assert small.status == WARNING
    assert "512 would be needed" in small.detail
    assert "echo 724 > " in small.next_step


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (8 << 20, "8 MiB"), (3 * GIB, "3 GiB")]
)
def test_amounts(size: int, text: str) -> None:
    assert amount(size) == text


# safety


def test_unsafe_interrupts(tree: Tree) -> None:
    assert tree.ask(safety.interrupts) == []
    path = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
    tree.file(path, "N\n")
    assert tree.one(safety.interrupts).status == OK
    tree.file(path, "Y\n")
    found = tree.one(safety.interrupts)
    assert found.status == WARNING
    assert found.detail.startswith("UNSAFE")


def test_no_iommu(tree: Tree) -> None:
    assert tree.ask(safety.no_iommu) == []
    path = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
    tree.file(path, "N\n")
    assert tree.one(safety.no_iommu).status == OK
    tree.file(path, "Y\n")
    assert tree.one(safety.no_iommu).status == WARNING
    tree.file("/dev/vfio/noiommu-0")
    found = tree.one(safety.no_iommu)
    assert found.status == PROBLEM
    assert found.detail.startswith("UNSAFE: noiommu-0")


# devices


def test_viability(tree: Tree) -> None:
    tree.function("0000:00:01.0", group="4", driver="vfio-pci", vfio=True)
    tree.file("/dev/vfio/4")
    tree.file("/dev/vfio/vfio")
    assert tree.one(devices.viability).detail == "1 can be used"
    tree.function("0000:00:01.1", group="4", driver="igb")
    found = tree.one(devices.viability)
    assert found.status == PROBLEM
    assert "0000:00:01.1 (igb)" in found.detail
    assert "bind these too: 0000:00:01.1" in found.next_step


def test_overrides(tree: Tree) -> None:
    tree.function("0000:00:01.0", driver="vfio-pci", override="vfio-pci\n")
    tree.function("0000:00:02.0", driver="igb")
    assert tree.ask(devices.overrides) == []
    tree.function("0000:00:03.0", driver="igb", override="vfio-pci\n")
    found = tree.one(devices.overrides)
    assert found.status == WARNING
    assert "driver_override is vfio-pci, but its driver is igb" in found.detail
    assert "pyvfio release 0000:00:03.0" in found.next_step


def test_overrides_of_subchannels() -> None:
    with pyvfio.Host("software", machine="z15-lpar") as host:
        assert list(devices.overrides(Patient(host))) == []
        host.sysfs.write_text("/sys/bus/css/drivers/io_subchannel/unbind", "0.0.0001")
        host.sysfs.write_text("/sys/bus/css/devices/0.0.0001/driver_override", "vfio_ccw\n")
        (found,) = devices.overrides(Patient(host))
        assert found.next_step == "pyvfio release 0.0.0001 --bus css"


def test_free_functions(tree: Tree) -> None:
    tree.function("0000:00:01.0", driver="igb")
    assert tree.ask(devices.free) == []
    for number in range(2, 10):
        tree.function(f"0000:00:0{number}.0")
    assert "and 2 more" in tree.one(devices.free).detail


# IBM Z


def zpci(tree: Tree, mio: str, unique: str) -> None:
    tree.function("0000:00:00.0")
    for name, text in (("function_id", "0x1"), ("mio_enabled", mio), ("uid_is_unique", unique)):
        tree.file(f"/sys/devices/pci0000:00/0000:00:00.0/{name}", text + "\n")


@pytest.mark.parametrize(
    ("features", "mio", "status", "words"),
    [
        ("esan3 pcimio sie", "1", OK, "on"),
        ("esan3 pcimio sie", "0", WARNING, "Linux does not use it"),
        ("esan3 sie", "0", OK, "the machine has none"),
        (None, "0", OK, "off: BARs are read and written"),
    ],
)
def test_memory_io(tree: Tree, features: str | None, mio: str, status: str, words: str) -> None:
    zpci(tree, mio, "1")
    if features is not None:
        tree.file("/proc/cpuinfo", f"vendor_id       : IBM/S390\nfeatures\t: {features}\n")
    found = tree.one(s390.memory_io)
    assert found.status == status
    assert words in found.detail


def test_memory_io_that_one_function_has_not(tree: Tree) -> None:
    zpci(tree, "1", "1")
    tree.function("3000:00:00.0")
    for name, text in (("function_id", "0x2"), ("mio_enabled", "0")):
        tree.file(f"/sys/devices/pci0000:00/3000:00:00.0/{name}", text + "\n")
    tree.file("/proc/cpuinfo", "features\t: pcimio\n")
    found = tree.one(s390.memory_io)
    assert (found.status, found.detail) == (OK, "on, but not for 3000:00:00.0")


def test_memory_io_without_functions(tree: Tree) -> None:
    assert tree.ask(s390.memory_io) == []
    tree.folder("/sys/bus/css")
    tree.file("/proc/cpuinfo", "features\t: pcimio\n")
    assert tree.one(s390.memory_io).detail == "the machine has it"


def test_uid_checking(tree: Tree) -> None:
    assert tree.ask(s390.uid_checking) == []
    zpci(tree, "1", "1")
    assert tree.one(s390.uid_checking).status == OK
    tree.file("/sys/devices/pci0000:00/0000:00:00.0/uid_is_unique", "0\n")
    assert tree.one(s390.uid_checking).status == WARNING


def test_channel_io(tree: Tree) -> None:
    assert tree.ask(s390.channel_io) == []
    with pyvfio.Host("software", machine="z15-lpar") as host:
        (found,) = s390.channel_io(Patient(host))
        assert found.status == OK
        pyvfio.ccw_take(host, "0.0.0e00")
        (found,) = s390.channel_io(Patient(host))
        assert (found.status, "1 with vfio_ccw" in found.detail) == (OK, True)
        host.mdevs()[0].remove()
        (found,) = s390.channel_io(Patient(host))
        assert found.status == WARNING
        assert "0.0.0001" in found.detail


# runs


def test_runs(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot()
    assert list(runs.unfinished(Patient(host))) == []
    steps = (SetOverride("pci", DISK, "vfio-pci", None),)
    journal = Journal(host.sysfs)
    journal.begin("bind", (DISK,), steps)
    (found,) = runs.unfinished(Patient(host))
    assert found.status == WARNING  # this program's own
    journal.leave()
    (found,) = runs.unfinished(Patient(host))
    assert (found.status, found.next_step) == (PROBLEM, "pyvfio restore")
    alive = dataclasses.replace(running.records(host.sysfs)[0], pid=1)
    monkeypatch.setattr(type(alive), "alive", lambda self, sysfs: True)
    (found,) = runs.unfinished(Patient(host))
    assert found.status == WARNING


def test_a_damaged_journal(boot: Boot) -> None:
    host = boot()
    pyvfio.files.HostFiles(host.backend).make_directory("/var/lib/pyvfio/journal")
    pyvfio.files.HostFiles(host.backend).write("/var/lib/pyvfio/journal/x.json", "{")
    (found,) = runs.unfinished(Patient(host))
    assert found.status == PROBLEM
    assert "cannot be read" in found.detail


# all of it


def test_what_cannot_be_looked_at_is_a_warning(tree: Tree) -> None:
    def broken(patient: Patient) -> Iterator[Remark]:
        yield Remark("first", OK, "seen")
        raise pyvfio.errors.KernelRefused("read", "x", errno=errno.EIO)

    found = Patient(tree.host).ask(broken)
    assert [remark.status for remark in found] == [OK, WARNING]
    assert "EIO" in found[1].detail


def test_any_call_may_fail(boot: Boot) -> None:
    host = boot()
    log = machine_of(host).faults.log = []
    examine(host)
    machine_of(host).faults.log = None
    for number in range(1, len(log) + 1, 3):
        machine_of(host).faults.fail("*", errno.EIO, nth=number)
        assert examine(host)
        machine_of(host).faults.clear()


def test_names_of_checks() -> None:
    assert len(CHECKS) == len(set(CHECKS)) == 20


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--machine", "z15-lpar", "--need", "4G", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(set(remark) == {"check", "status", "detail", "next_step"} for remark in found)
    assert run(["doctor", "--machine", "z15-lpar", "--need", "much"]) == 2
