"""``/proc`` of the software machine: the formats of the kernel (``fs/proc``, ``fs/proc_namespace.c``)."""

from __future__ import annotations

import os

import pytest

from pyvfio.backend import Holder
from pyvfio.files import HostFiles
from pyvfio.testing.attributes import Attributes
from pyvfio_backends.software import Machine, MachineSpec, SoftwareBackend
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.linux.host_state import ConsoleEntry, HugePages, MountEntry, SwapEntry
from pyvfio_backends.software.usage import HugePagesSpec, ProcessSpec

NODES = ("devices/system/node/node0", "devices/system/node/node1")


@pytest.fixture
def backend() -> SoftwareBackend:
    spec = MachineSpec(
        "small",
        functions=[FunctionSpec(0x11, 0x10, "virtio-blk", driver="virtio-pci")],
        processes=[ProcessSpec(812, "multipathd-with-a-long-name", ("/dev/vfio/vfio", "/dev/none"))],
    )
    return SoftwareBackend(Machine(spec))


@pytest.fixture
def files(backend: SoftwareBackend) -> HostFiles:
    return HostFiles(backend)


def test_mounts(backend: SoftwareBackend, files: HostFiles) -> None:
    backend.machine.kernel.mounts += [
        MountEntry("/dev/vda1", "/boot", "ext4", 253, 1, "ro,relatime", super_options="ro,errors=remount-ro"),
        MountEntry("/dev/vda2", "/boot/a b\\#", "vfat", 253, 2, root="/sub dir"),
    ]
    info = (files.read("/proc/self/mountinfo") or "").splitlines()
    assert info[0] == "21 1 0:2 / / rw - rootfs rootfs rw"
    assert info[1] == "22 21 0:20 / /sys rw,nosuid,nodev,noexec,relatime - sysfs sysfs rw"
    assert info[-2:] == [
        "28 21 253:1 / /boot ro,relatime - ext4 /dev/vda1 ro,errors=remount-ro",
        r"29 28 253:2 /sub\040dir /boot/a\040b\134# rw,relatime - vfat /dev/vda2 rw",
    ]
    mounts = (files.read("/proc/mounts") or "").splitlines()
    assert mounts[-2:] == [
        "/dev/vda1 /boot ext4 ro,relatime,errors=remount-ro 0 0",
        r"/dev/vda2 /boot/a\040b\134# vfat rw,relatime 0 0",
    ]
    assert files.read("/proc/812/mounts") == files.read("/proc/mounts")


def test_a_mount_decides_on_the_device_number_of_what_is_below(backend: SoftwareBackend) -> None:
    backend.machine.kernel.mounts.append(MountEntry("/dev/vda1", "/var", "ext4", 253, 1))
    assert backend.stat("/var/lib").st_dev == os.makedev(253, 1)
    assert backend.stat("/etc").st_dev == os.makedev(0, 2)
    backend.close(backend.open("/etc/x", os.O_CREAT))
    with pytest.raises(OSError, match="cross-device"):
        backend.rename("/etc/x", "/var/lib/x")
    with pytest.raises(OSError, match="busy"):
        backend.rename("/var", "/etc/var")


def test_swaps(backend: SoftwareBackend, files: HostFiles) -> None:
    assert files.read("/proc/swaps") == "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    backend.machine.kernel.swaps += [
        SwapEntry("/dev/vda3", size=1048572, used=12),
        SwapEntry("/swap", "file", 20_000_000, 0, 5),
    ]
    assert (files.read("/proc/swaps") or "").splitlines()[1:] == [
        "/dev/vda3                               partition\t1048572\t\t12\t\t-2",
        "/swap                                   file\t\t20000000\t0\t\t5",
    ]


def test_consoles(backend: SoftwareBackend, files: HostFiles) -> None:
    backend.machine.kernel.consoles += [ConsoleEntry("ttyS0", flags="ECpa"), ConsoleEntry("net", "-W-", "E", 0, 0)]
    assert files.read("/proc/consoles") == (
        "ttyS0                -W- (EC  p a)    4:64\nnet                  -W- (E      )\n"
    )


def test_the_command_line(backend: SoftwareBackend, files: HostFiles) -> None:
    assert files.read("/proc/cmdline") == "\n"
    backend.machine.kernel.cmdline = "root=/dev/vda1 ro"
    assert files.read("/proc/cmdline") == "root=/dev/vda1 ro\n"


def test_huge_pages(backend: SoftwareBackend, files: HostFiles) -> None:
    backend.machine.kernel.huge_pages = [HugePages(1024, 8, 3), HugePages(2 << 20, 1, 1)]
    facts = dict(line.split(":", 1) for line in (files.read("/proc/meminfo") or "").splitlines())
    assert facts["HugePages_Total"].split() == ["8"]
    assert facts["HugePages_Free"].split() == ["3"]
    assert facts["Hugepagesize"].split() == ["1024", "kB"]
    assert facts["Hugetlb"].split() == [str(8 * 1024 + (2 << 20)), "kB"]


def test_huge_pages_of_nodes() -> None:
    pools = [HugePagesSpec(1024, 8, 3), HugePagesSpec(2 << 20, 1), HugePagesSpec(1024, 4, node=1)]
    with SoftwareBackend(Machine(MachineSpec("pages", huge_pages=pools))) as backend:
        sysfs = Attributes(backend)

        def counts(folder: str) -> list[int]:
            return [int(sysfs.read(f"{folder}/hugepages-1024kB/{name}_hugepages")) for name in ("nr", "free")]

        everywhere, *nodes = (f"/sys/{at}/hugepages" for at in ("kernel/mm", *NODES))
        assert backend.listdir(everywhere) == ["hugepages-1024kB", "hugepages-2097152kB"]
        assert [counts(folder) for folder in (everywhere, *nodes)] == [[12, 7], [8, 3], [4, 4]]
        sysfs.write(f"{everywhere}/hugepages-1024kB/nr_hugepages", "20\n")
        assert [counts(folder) for folder in (everywhere, *nodes)] == [[20, 15], [16, 11], [4, 4]]
        sysfs.write(f"{everywhere}/hugepages-1024kB/nr_hugepages", "0")
        assert [counts(folder) for folder in (everywhere, *nodes)] == [[5, 0], [5, 0], [0, 0]]
        sysfs.write(f"{nodes[1]}/hugepages-1024kB/nr_hugepages", "2")
        assert counts(everywhere) == [7, 2]
        with pytest.raises(OSError, match="Invalid"):
            sysfs.write(f"{everywhere}/hugepages-1024kB/nr_hugepages", "x")


@pytest.mark.parametrize("ipc_lock", [True, False])
def test_the_capability_to_lock_memory(ipc_lock: bool) -> None:
    with SoftwareBackend(Machine(MachineSpec("a", ipc_lock=ipc_lock))) as backend:
        lines = dict(line.split(":", 1) for line in (HostFiles(backend).read("/proc/self/status") or "").splitlines())
        assert bool(int(lines["CapEff"], 16) >> 14 & 1) is ipc_lock
        assert lines["Pid"].split() == [str(os.getpid())]


def test_modules(files: HostFiles) -> None:
    lines = {line.split()[0]: line.split()[1:] for line in (files.read("/proc/modules") or "").splitlines()}
    assert lines["mdev"] == ["0", "1", "vfio_ccw,", "Live", "0x0000000000000000"]
    assert lines["vfio_ccw"][1:3] == ["0", "-"]


def test_the_boot_id_belongs_to_machine_and_seed() -> None:
    def boot_id(name: str, seed: int) -> str | None:
        with SoftwareBackend(Machine(MachineSpec(name), seed=seed)) as backend:
            return HostFiles(backend).read("/proc/sys/kernel/random/boot_id")

    assert boot_id("a", 0) == boot_id("a", 0)
    assert len({boot_id("a", 0), boot_id("b", 0), boot_id("a", 1)}) == 3
    assert len(boot_id("a", 0) or "") == 37


def test_processes(backend: SoftwareBackend, files: HostFiles) -> None:
    names = backend.listdir("/proc")
    assert {"812", str(os.getpid()), "self"} <= set(names)
    assert backend.readlink("/proc/self") == str(os.getpid())
    assert files.read("/proc/812/comm") == "multipathd-with\n"
    assert files.read("/proc/812/cmdline") == "multipathd-with-a-long-name\0"
    fields = (files.read("/proc/812/stat") or "").rpartition(")")[2].split()
    assert (fields[0], len(fields)) == ("S", 50)
    own = (files.read("/proc/self/stat") or "").rpartition(")")[2].split()
    assert own[1] == str(os.getppid())
    with pytest.raises(FileNotFoundError):
        backend.stat("/proc/811")


def test_processes_hold_what_they_have_open(backend: SoftwareBackend) -> None:
    fd = backend.open("/dev/vfio/vfio", os.O_RDWR)
    holders = backend.holders("/dev/vfio/vfio")
    assert holders[0] == Holder(812, "multipathd-with-a-long-name", 3)
    assert [(holder.pid, holder.fd) for holder in holders[1:]] == [(os.getpid(), fd)]
    assert backend.holders("/sys") == []
