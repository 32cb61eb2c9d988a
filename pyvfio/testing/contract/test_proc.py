"""The files of ``/proc`` that in-use checks and journals read: their form, and that they agree with stat."""

from __future__ import annotations

import os
import re
import uuid
from errno import EPERM

import pytest

from pyvfio.backend import Backend
from pyvfio.doctor import examine
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails


def _lines(sysfs: Attributes, path: str) -> list[str]:
    if not sysfs.exists(path):
        pytest.skip(f"this kernel has no {path}")
    return sysfs.read(path).splitlines()


def test_mounts_have_the_device_numbers_that_stat_gives(backend: Backend, sysfs: Attributes) -> None:
    points = {}
    for line in _lines(sysfs, "/proc/self/mountinfo"):
        before, after = (part.split() for part in line.split(" - "))
        assert len(before) >= 6
        assert len(after) == 3
        points[before[4]] = (before[2], after[0])
    for point, kind in [("/sys", "sysfs"), ("/proc", "proc"), ("/dev", "devtmpfs")]:
        number, found = points[point]
        device = backend.stat(point).st_dev
        assert (number, found) == (f"{os.major(device)}:{os.minor(device)}", kind)
    assert "/" in points


def test_the_two_lists_of_mounts_agree(sysfs: Attributes) -> None:
    short = [line.split() for line in _lines(sysfs, "/proc/mounts")]
    long = [line.split(" - ") for line in _lines(sysfs, "/proc/self/mountinfo")]
    assert [(row[1], row[2]) for row in short] == [(row[0].split()[4], row[1].split()[0]) for row in long]
    assert all(len(row) == 6 for row in short)


def test_swaps_begin_with_a_heading(sysfs: Attributes) -> None:
    if not sysfs.exists("/proc/swaps"):
        return  # a kernel without swapping, as the emulated guest's is, has no such file
    heading, *rows = _lines(sysfs, "/proc/swaps")
    assert heading.split() == ["Filename", "Type", "Size", "Used", "Priority"]
    assert all(len(row.split()) == 5 for row in rows)


def test_consoles(sysfs: Attributes) -> None:
    for line in _lines(sysfs, "/proc/consoles"):
        assert re.fullmatch(r"\S+ +[R-][W-][U-] \([E ][C ][B ][N ]?[p ][b ][a ]\)( +\d+:\d+)?", line)


def test_the_boot_has_an_id(sysfs: Attributes) -> None:
    text = sysfs.read("/proc/sys/kernel/random/boot_id")
    assert str(uuid.UUID(text)) == text
    assert sysfs.read("/proc/sys/kernel/random/boot_id") == text


def test_this_process(backend: Backend, sysfs: Attributes) -> None:
    assert backend.readlink("/proc/self") == str(os.getpid())
    pid, _, rest = sysfs.read("/proc/self/stat").partition(" ")
    assert pid == str(os.getpid())
    assert sysfs.read(f"/proc/{pid}/stat").partition(" ")[2].split(")")[0] == rest.split(")")[0]
    assert len(rest.rpartition(")")[2].split()) == 50
    assert str(os.getpid()) in backend.listdir("/proc")


def test_a_process_that_is_not_there(backend: Backend, sysfs: Attributes) -> None:
    missing = next(pid for pid in range(1 << 22, 2, -1) if not sysfs.exists(f"/proc/{pid}"))
    assert not sysfs.exists(f"/proc/{missing}/stat")


@pytest.mark.parametrize("mode", [0o600, 0o777])
def test_modes_of_a_process_stay(backend: Backend, mode: int) -> None:
    with fails(EPERM):
        backend.chmod("/proc/self/stat", mode)


def test_huge_pages_are_a_feature_of_the_machine(sysfs: Attributes) -> None:
    if not sysfs.exists("/proc/cpuinfo"):
        pytest.skip("this host does not tell its features")
    lines = [line for line in sysfs.read("/proc/cpuinfo").splitlines() if line.startswith("features\t")]
    if not lines:
        pytest.skip("a host of another architecture")
    features = lines[0].partition(":")[2].split()
    assert sysfs.exists("/sys/kernel/mm/hugepages") == ("edat" in features)
    assert sysfs.read("/proc/meminfo").count("HugePages_Total") == ("edat" in features)


def test_the_doctor_reads_the_machine(host: Host) -> None:
    told = {remark.check: remark.detail for remark in examine(host)}
    if "memory I/O (MIO)" not in told:
        pytest.skip("a host without zPCI")
    mapped = any(function.attribute("mio_enabled") == "1" for function in host.functions())
    assert told["memory I/O (MIO)"].startswith("on" if mapped else ("off", "the machine has none"))
