"""Disks in use: partitions, volumes, mounts and swap, and what is left of them when a driver goes.

The texts and orders of partitions are those that a 6.12 kernel on s390x gave for a GPT disk behind virtio-pci.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from usage_fixture import VIRTIO, Used, errno_of, from_text, server

from pyvfio.errors import NotModelled
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.usage_disks import boot_disks, boot_interfaces

ROOT_DISK, DATA_DISK, FREE_DISK, MIRROR_DISK = "0001:00:00.0", "0002:00:00.0", "0003:00:00.0", "0004:00:00.0"
MIB = 1 << 20
NO_IO = " ".join([" " * 7 + "0"] * 17)


@pytest.fixture
def used() -> Iterator[Used]:
    machine = server()
    yield machine
    machine.close()


def mountinfo(used: Used) -> list[tuple[str, str, str]]:
    lines = [line.split() for line in used.read("/proc/self/mountinfo").splitlines()]
    return [(words[2], words[4], words[-2]) for words in lines if words[-2].startswith("/dev/")]


# who may open what

EXCLUSIVE = {
    "/dev/vda": "EBUSY", "/dev/vda1": "EBUSY", "/dev/vda2": "EBUSY", "/dev/vda3": "EBUSY", "/dev/dm-0": "EBUSY",
    "/dev/mapper/vg0-root": "EBUSY", "/dev/vg0/root": "EBUSY", "/dev/vdb": "EBUSY", "/dev/vdc": "free",
    "/dev/vdd": "EBUSY", "/dev/md0": "EBUSY", "/dev/vde": "free", "/dev/dasda": "EBUSY", "/dev/dasda1": "EBUSY",
}  # fmt: skip


@pytest.mark.parametrize("node", EXCLUSIVE)
def test_only_what_nobody_holds_opens_exclusively(node: str, used: Used) -> None:
    answer = errno_of(used.open, node, os.O_RDONLY | os.O_EXCL)
    assert (answer if answer.isupper() else "free") == EXCLUSIVE[node]


@pytest.mark.parametrize(
    ("node", "expected"),
    [("/dev/vda1", "EBUSY"), ("/dev/dm-0", "EBUSY"), ("/dev/vda", ""), ("/dev/vda2", ""), ("/dev/vda3", "")],
)
def test_what_is_mounted_does_not_open_for_writing(node: str, expected: str, used: Used) -> None:
    answer = errno_of(used.open, node, os.O_RDWR)
    assert (answer if answer.isupper() else "") == expected


def test_a_partition_in_use_keeps_the_whole_from_being_held(used: Used) -> None:
    with pytest.raises(OSError, match="busy"):
        used.open("/dev/vda", os.O_RDONLY | os.O_EXCL)
    first = used.open("/dev/vdc", os.O_RDONLY | os.O_EXCL)
    assert errno_of(used.open, "/dev/vdc", os.O_RDONLY | os.O_EXCL) == "EBUSY"
    used.host.close(first)
    used.host.close(used.open("/dev/vdc", os.O_RDWR | os.O_EXCL))


def test_what_is_not_modelled_says_so(used: Used) -> None:
    fd = used.open("/dev/vdc")
    with pytest.raises(NotModelled, match="ioctl of a block device"):
        used.host.ioctl(fd, 0x1268, bytearray(4))
    with pytest.raises(NotModelled, match="a mapping of a block device"):
        used.host.mmap(fd, 1 << 12, prot=1)


# partitions


def test_a_partition_in_sysfs(used: Used) -> None:
    assert used.names("/sys/class/block/vda1") == [
        "alignment_offset", "dev", "discard_alignment", "holders", "inflight", "partition", "ro", "size", "start",
        "stat", "subsystem", "uevent",
    ]  # fmt: skip
    assert used.texts("/sys/class/block/vda1") == {
        "alignment_offset": "0",
        "dev": "254:1",
        "discard_alignment": "0",
        "inflight": "       0        0",
        "partition": "1",
        "ro": "0",
        "size": str(128 * MIB // 512),
        "start": "2048",
        "stat": NO_IO,
        "uevent": "MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\nDISKSEQ=9\nPARTN=1\nPARTNAME=boot",
    }
    assert used.host.readlink("/sys/class/block/vda1") == (
        f"../../devices/pci0001:00/{ROOT_DISK}/virtio0/block/vda/vda1"
    )
    assert used.host.readlink("/sys/dev/block/254:1").endswith("/block/vda/vda1")
    assert "vda1" not in used.names("/sys/block")
    status = used.host.stat("/dev/vda1")
    assert stat.S_ISBLK(status.st_mode)
    assert status.st_rdev == os.makedev(254, 1)


def test_partitions_follow_each_other(used: Used) -> None:
    places = [(used.read(f"/sys/block/vda/vda{n}/start"), used.read(f"/sys/block/vda/vda{n}/size")) for n in (1, 2, 3)]
    ends = [int(start) + int(size) for start, size in places]
    assert [int(start) for start, _ in places[1:]] == ends[:2]
    assert ends[2] <= int(used.read("/sys/block/vda/size")) - 33


def test_partitions_of_a_dasd(used: Used) -> None:
    assert used.read("/sys/block/dasda/dev") == "94:0"
    assert used.read("/sys/block/dasda/range") == "4"
    assert used.read("/sys/class/block/dasda1/dev") == "94:1"
    assert used.read("/sys/class/block/dasda1/start") == str(2 * 12 * 8)
    assert used.host.readlink("/sys/class/block/dasda1").endswith("/css0/0.0.0000/0.0.0200/block/dasda/dasda1")


def test_partitions_beyond_the_disks_minors_have_another_major(tmp_path: Path) -> None:
    parts = "".join(f"[[disk.partition]]\nsize = {MIB}\n" for _ in range(17))
    used = from_text(tmp_path, DISK + '[[disk]]\nname = "vda"\ntable = "gpt"\n' + parts)
    numbers = [used.read(f"/sys/class/block/vda{n}/dev") for n in (15, 16, 17)]
    used.close()
    assert numbers == ["254:15", "259:0", "259:1"]


def test_contents_are_what_was_described(used: Used) -> None:
    def at(node: str, offset: int, count: int) -> bytes:
        fd = used.open(node)
        try:
            return used.host.pread(fd, count, offset)
        finally:
            used.host.close(fd)

    assert at("/dev/vda", 510, 2) == b"\x55\xaa"
    assert at("/dev/vda", 512, 8) == b"EFI PART"
    assert at("/dev/vda1", 0x438, 2) == at("/dev/vda", MIB + 0x438, 2) == at("/dev/vdc", 0x438, 2) == b"\x53\xef"
    assert at("/dev/vda2", 4096 - 10, 10) == b"SWAPSPACE2"
    assert at("/dev/vda3", 512, 8) == b"LABELONE"
    assert at("/dev/vdb", 0, 4) == at("/dev/md0", 0, 4) == b"XFSB"
    assert at("/dev/vdd", 4096, 4) == bytes.fromhex("fc4e2ba9")
    assert at("/dev/vg0/root", 0x438, 2) == at("/dev/dasda1", 0x438, 2) == b"\x53\xef"
    assert at("/dev/dasda", 2 * 4096, 4).decode("cp037") == "VOL1"
    assert not any(at("/dev/vde", 0, MIB))


def test_what_is_written_stays_on_the_disk_under_any_name(used: Used) -> None:
    fd = used.open("/dev/vdc", os.O_RDWR)
    used.host.pwrite(fd, b"mine", MIB)
    used.write(f"{VIRTIO}/unbind", FREE_DISK)
    used.write(f"{VIRTIO}/bind", FREE_DISK)
    other = used.open("/dev/vdf")
    assert used.host.pread(other, 4, MIB) == b"mine"
    assert used.host.pread(other, 2, 0x438) == b"\x53\xef"


# volumes and arrays


def test_a_mapped_device(used: Used) -> None:
    path = "/sys/devices/virtual/block/dm-0"
    assert used.read(f"{path}/dm/name") == "vg0-root"
    assert used.read(f"{path}/dm/uuid").startswith("LVM-")
    assert used.read(f"{path}/dm/suspended") == "0"
    assert used.names(f"{path}/slaves") == ["vda3"]
    assert used.host.readlink("/sys/class/block/vda3/holders/dm-0") == "../../../../../../../virtual/block/dm-0"
    assert used.read("/sys/class/block/vda3/holders/dm-0/dev") == used.read(f"{path}/dev") == "253:0"
    assert used.read(f"{path}/slaves/vda3/partition") == "3"
    assert not used.exists(f"{path}/device")
    assert used.host.readlink("/dev/mapper/vg0-root") == "../dm-0"
    assert used.names("/sys/class/block/vda/holders") == []


def test_an_array(used: Used) -> None:
    texts = used.texts("/sys/block/md0/md")
    assert (texts["level"], texts["array_state"], texts["degraded"], texts["raid_disks"]) == (
        "raid1",
        "clean",
        "0",
        "1",
    )
    assert used.names("/sys/block/md0/slaves") == used.names("/sys/block/md0/md/dev-vdd/block/holders/md0/slaves")
    assert used.read("/sys/block/md0/md/rd0/state") == "in_sync"
    assert used.read("/sys/block/md0/dev") == "9:0"


def test_what_stands_on_a_lost_disk_fails(used: Used) -> None:
    volume = used.open("/dev/dm-0")
    used.write(f"{VIRTIO}/unbind", ROOT_DISK)
    assert errno_of(used.host.pread, volume, 512, 0) == "EIO"
    assert used.names("/sys/block/dm-0/slaves") == ["vda3"]  # the link stays and leads nowhere
    assert not used.exists("/sys/block/dm-0/slaves/vda3")


@pytest.mark.parametrize(("level", "expected"), [("raid1", "data"), ("raid0", "EIO")])
def test_a_mirror_outlives_one_of_its_disks(level: str, expected: str, tmp_path: Path) -> None:
    both = f'[[holder]]\nname = "md0"\nlevel = "{level}"\nslaves = ["vda", "vdb"]\n'
    used = from_text(tmp_path, DISK + DISK.partition("\n\n")[2].replace("= 1", "= 2") + both)
    fd = used.open("/dev/md0")
    used.write(f"{VIRTIO}/unbind", "0001:00:00.0")
    answer = errno_of(used.host.pread, fd, 512, 0)
    used.close()
    assert ("data" if answer.startswith("b'") else answer) == expected


def test_two_volumes_of_one_group(tmp_path: Path) -> None:
    used = from_text(tmp_path, DISK + VOLUME.format(0, "my--group-one") + VOLUME.format(1, "my--group-two"))
    assert used.names("/sys/class/block/vda/holders") == ["dm-0", "dm-1"]
    assert used.names("/dev/my-group") == ["one", "two"]
    used.close()


# mounts and swap


def test_mounts(used: Used) -> None:
    assert mountinfo(used) == [
        ("253:0", "/", "/dev/mapper/vg0-root"),
        ("254:1", "/boot", "/dev/vda1"),
        ("254:16", "/srv", "/dev/vdb"),
        ("9:0", "/var/lib/mirror", "/dev/md0"),
        ("94:1", "/data", "/dev/dasda1"),
    ]


def test_swap(used: Used) -> None:
    lines = used.read("/proc/swaps").splitlines()
    assert [line.split() for line in lines[1:]] == [["/dev/vda2", "partition", str(64 * 1024 - 4), "0", "-2"]]


def test_the_command_line_and_the_consoles(used: Used) -> None:
    assert used.read("/proc/cmdline") == "root=/dev/mapper/vg0-root console=ttysclp0"
    assert used.read("/sys/class/tty/console/active") == "3270/tty1 ttysclp0"
    assert [line.split()[0] for line in used.read("/proc/consoles").splitlines()] == ["ttysclp0", "tty32700"]
    assert used.read("/sys/class/tty/ttysclp0/uevent") == "MAJOR=4\nMINOR=65\nDEVNAME=ttysclp0"
    for node in ("/dev/console", "/dev/ttysclp0", "/dev/3270/tty1", "/dev/3270/tub1"):
        assert stat.S_ISCHR(used.host.stat(node).st_mode)
    with pytest.raises(NotModelled, match="/dev/console"):
        used.open("/dev/console")


# a driver goes


def test_a_mounted_disk_just_goes(used: Used) -> None:
    whole, part = used.open("/dev/vda"), used.open("/dev/vda1")
    before = mountinfo(used)
    used.write(f"{VIRTIO}/unbind", ROOT_DISK)
    assert not [name for name in used.names("/sys/class/block") if name.startswith("vda")]
    assert not [name for name in used.names("/dev") if name.startswith("vda")]
    assert mountinfo(used) == before
    assert used.host.pread(whole, 512, 0) == b""
    assert errno_of(used.host.pread, part, 512, 0) == "EIO"
    assert errno_of(used.open, "/dev/vda1") == "ENOENT"
    assert used.host.stat("/dev/dm-0").st_rdev == os.makedev(253, 0)


def test_its_events(used: Used) -> None:
    used.write(f"{VIRTIO}/unbind", ROOT_DISK)
    gone = [(event.action, event.devpath.rsplit("/", 1)[1]) for event in used.new_events()]
    assert gone == [
        ("remove", "vda1"), ("remove", "vda2"), ("remove", "vda3"), ("remove", "254:0"), ("remove", "vda"),
        ("unbind", "virtio0"), ("remove", "virtio0"), ("unbind", ROOT_DISK),
    ]  # fmt: skip


def test_it_comes_back_under_another_name(used: Used) -> None:
    used.write(f"{VIRTIO}/unbind", ROOT_DISK)
    used.new_events()
    used.write(f"{VIRTIO}/bind", ROOT_DISK)
    come = [event for event in used.new_events() if event.action == "add" and event.subsystem in ("block", "bdi")]
    assert [event.devpath.rsplit("/", 1)[1] for event in come] == ["254:80", "vdf", "vdf1", "vdf2", "vdf3"]
    assert list(come[2].properties)[3:-1] == [
        "MAJOR", "MINOR", "DEVNAME", "DEVTYPE", "DISKSEQ", "PARTN", "PARTNAME",
    ]  # fmt: skip
    assert come[2].properties["PARTNAME"] == "boot"


def test_a_free_disk_comes_back_under_its_own_name(used: Used) -> None:
    used.write(f"{VIRTIO}/unbind", FREE_DISK)
    used.write(f"{VIRTIO}/bind", FREE_DISK)
    assert "vdc" in used.names("/sys/block")


def test_a_name_is_free_when_the_last_opener_has_gone(used: Used) -> None:
    fd = used.open("/dev/vdc")
    used.write(f"{VIRTIO}/unbind", FREE_DISK)
    used.host.close(fd)
    used.write(f"{VIRTIO}/bind", FREE_DISK)
    assert "vdc" in used.names("/sys/block")


# DASDs


def test_a_dasd_in_use_stays_online(used: Used) -> None:
    online = "/sys/bus/ccw/devices/0.0.0200/online"
    assert errno_of(used.write, online, "0") == "EBUSY"
    assert used.read(online) == "1"
    assert "dasda" in used.names("/sys/block")


def test_a_dasd_that_somebody_has_open_stays_online(used: Used) -> None:
    online = "/sys/bus/ccw/devices/0.0.0201/online"
    used.write(online, "1")
    assert "dasdb" in used.names("/sys/block")
    fd = used.open("/dev/dasdb")
    assert errno_of(used.write, online, "0") == "EBUSY"
    used.host.close(fd)
    used.write(online, "0")
    assert "dasdb" not in used.names("/sys/block")


def test_a_dasd_keeps_its_name(used: Used) -> None:
    used.write("/sys/bus/ccw/drivers/dasd-eckd/unbind", "0.0.0200")
    assert "dasda" not in used.names("/sys/block")
    used.write("/sys/bus/ccw/devices/0.0.0201/online", "1")
    assert "dasdb" in used.names("/sys/block")
    used.write("/sys/bus/ccw/drivers/dasd-eckd/bind", "0.0.0200")
    used.write("/sys/bus/ccw/devices/0.0.0200/online", "1")
    assert {"dasda", "dasda1", "dasdb"} <= set(used.names("/sys/class/block"))


def test_a_dasd_is_read_only_and_labelled(used: Used) -> None:
    used.write("/sys/bus/ccw/devices/0.0.0201/online", "1")
    assert used.read("/sys/block/dasdb/ro") == "1"
    fd = used.open("/dev/dasdb", os.O_RDWR)
    assert used.host.pread(fd, 14, 8192).decode("cp037") == "VOL1VOL1FREE01"
    assert errno_of(used.host.pwrite, fd, b"x", 0) == "EPERM"


# the names that machine files use


@pytest.mark.parametrize("name", machine_files())
def test_names_at_boot_are_foreseen(name: str) -> None:
    spec = load_machine(machine_files()[name])
    used = Used(spec)
    try:
        disks = {disk for disk in used.names("/sys/block") if not disk.startswith(("dm-", "md"))}
        assert set(boot_disks(spec)) == disks
        for disk, facts in boot_disks(spec).items():
            assert int(used.read(f"/sys/block/{disk}/size")) * 512 == facts.size
        links = {link.name for link in used.host.network().links if not link.kind}
        assert set(boot_interfaces(spec)) == links
    finally:
        used.close()


DISK = f"""[machine]
name = "small"

[[zpci.function]]
uid = 1
fid = 1
model = "virtio-blk"
driver = "virtio-pci"
options = {{ size = {64 * MIB} }}

"""
VOLUME = '[[holder]]\nname = "dm-{0}"\ndm_name = "{1}"\nuuid = "LVM-{0}"\nslaves = ["vda"]\nsize = 4096\n'
