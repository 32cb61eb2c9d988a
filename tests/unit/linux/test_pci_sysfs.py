"""The files of a PCI function: refusals as the recorded kernel gave them, then contents."""

from __future__ import annotations

import os

import pytest
from pci_fixture import BELL, BUS, NET, RNG, Pci, errno_of

from pyvfio_backends.software.description import FunctionSpec

ROM_UNUSED = "0x0000000000000000 0x000000000003ffff 0x0000000000046200"
ROM_TRIED = "0x0000000000000000 0x000000000003ffff 0x0000000020046200"
ROM_GONE = "0x0000000000000000 0x0000000000000000 0x0000000000000000"


def path(name: str, attribute: str) -> str:
    return f"{BUS}/devices/{name}/{attribute}"


@pytest.mark.parametrize("attribute", ["enable", "msi_bus", "broken_parity_status", "rescan", "remove", "reset"])
@pytest.mark.parametrize("text", ["x", "x\n", "1 1"])
def test_numbers_are_wanted(pci: Pci, attribute: str, text: str) -> None:
    assert errno_of(pci.write, path(BELL, attribute), text) == "EINVAL"


def test_only_1_resets(pci: Pci) -> None:
    assert errno_of(pci.write, path(BELL, "reset"), "2") == "EINVAL"
    assert pci.write(path(BELL, "reset"), "1\n") == 2


def test_enable_is_for_free_devices_and_counts(pci: Pci) -> None:
    assert errno_of(pci.write, path(NET, "enable"), "1") == "EBUSY"
    assert errno_of(pci.write, path(BELL, "enable"), "0") == "EIO"
    counts = []
    for text in ("1", "1", "0", "0"):
        pci.write(path(BELL, "enable"), text)
        counts.append(pci.attr(BELL, "enable"))
    assert counts == ["1", "2", "1", "0"]
    assert pci.config(BELL, 4, 2) == "0200"  # memory decoding stays


def test_configuration_space_ends_at_256(pci: Pci) -> None:
    fd = pci.host.open(path(BELL, "config"), os.O_RDWR)
    assert len(pci.host.pread(fd, 300, 0)) == 256
    assert pci.host.pread(fd, 4, 256) == b""
    assert pci.host.pread(fd, 4, 254) == bytes(2)
    assert errno_of(pci.host.pwrite, fd, b"abcd", 256) == "EFBIG"
    assert pci.host.pwrite(fd, b"abcd", 254) == 2
    assert pci.host.pwrite(fd, b"\xff" * 7, 3) == 7
    assert pci.host.pread(fd, 8, 3).hex() == "1007051000010000"
    pci.host.close(fd)


def test_the_rom_cannot_be_read(pci: Pci) -> None:
    assert errno_of(pci.bytes, path(NET, "rom")) == "EINVAL"
    pci.write(path(NET, "rom"), "1\n")
    assert pci.attr(NET, "resource").splitlines()[6] == ROM_UNUSED
    assert errno_of(pci.bytes, path(NET, "rom")) == "EIO"
    assert pci.attr(NET, "resource").splitlines()[6] == ROM_TRIED
    pci.write(path(NET, "rom"), "0\n")
    assert errno_of(pci.bytes, path(NET, "rom")) == "EINVAL"
    assert errno_of(pci.bytes, path(RNG, "rom")) == "ENOENT"


def test_a_rescan_gives_the_rom_up(pci: Pci) -> None:
    pci.write(f"{BUS}/rescan", "0")
    assert pci.attr(NET, "resource").splitlines()[6] == ROM_UNUSED
    pci.write(path(RNG, "rescan"), "1")
    assert pci.attr(NET, "resource").splitlines()[6] == ROM_UNUSED  # another bus
    pci.write(f"{BUS}/rescan", "1")
    assert pci.attr(NET, "resource").splitlines()[6] == ROM_GONE
    assert pci.headers() == []


@pytest.mark.parametrize("text", ["flr\n", "pm", "nonsense", "bus flr"])
def test_reset_methods_that_do_not_exist_are_refused(pci: Pci, text: str) -> None:
    assert errno_of(pci.write, path(BELL, "reset_method"), text) == "EINVAL"
    assert pci.attr(BELL, "reset_method") == "bus"


def test_reset_methods(pci: Pci) -> None:
    pci.write(path(BELL, "reset_method"), "\n")
    assert pci.text(path(BELL, "reset_method")) == ""
    assert errno_of(pci.write, path(BELL, "reset"), "1") == "ENOTTY"
    pci.write(path(BELL, "reset_method"), "bus bus")
    assert pci.attr(BELL, "reset_method") == "bus bus"
    pci.write(path(BELL, "reset_method"), "default")
    assert pci.attr(BELL, "reset_method") == "bus"


def test_error_reports_are_not_taken(pci: Pci) -> None:
    assert errno_of(pci.write, path(BELL, "report_error"), b"short") == "EINVAL"
    assert errno_of(pci.write, path(BELL, "report_error"), b"\x01" + bytes(63)) == "ENOTSUP"


def test_files_for_writing_cannot_be_read(pci: Pci) -> None:
    for attribute in ("remove", "rescan", "reset", "recover", "report_error"):
        assert errno_of(pci.bytes, path(BELL, attribute)) == "EACCES"


def test_s390_attributes_say_what_was_described() -> None:
    spec = FunctionSpec(
        0x99, 0x99, "virtio-bell", pchid=0x1C0, pft=0x0A, pfgid=3, vfn=2, port=1,
        options={"util_str": "c1", "pfip": "01020304"},
    )  # fmt: skip
    lab = Pci(spec)
    name = "0099:00:00.0"
    facts = {
        "function_id": "0x00000099", "function_handle": "0x80020004", "uid": "0x99", "index": "153",
        "pchid": "0x01c0", "pft": "0x0a", "pfgid": "0x03", "vfn": "0x0002", "port": "1", "pfip/segment2": "0x03",
        "uid_is_unique": "1", "mio_enabled": "0",
    }  # fmt: skip
    assert {attribute: lab.attr(name, attribute) for attribute in facts} == facts
    assert lab.bytes(path(name, "util_string")) == b"\xc1".ljust(64, b"\0")
    lab.host.close()


def test_without_uid_checking_domains_are_counted() -> None:
    lab = Pci(uid_checking=False)
    names = sorted(lab.host.listdir(f"{BUS}/devices"))
    assert names == ["0000:00:00.0", "0001:00:00.0", "0002:00:00.0", "0003:00:00.0"]
    assert "index" not in lab.host.listdir(f"{BUS}/devices/{names[0]}")
    assert lab.attr(names[0], "uid_is_unique") == "0"
    lab.host.close()


def test_the_bus_keeps_a_resource_alignment(pci: Pci) -> None:
    assert pci.text(f"{BUS}/resource_alignment") == ""
    pci.write(f"{BUS}/resource_alignment", "20@0011:00:00.0\nmore")
    assert pci.text(f"{BUS}/resource_alignment") == "20@0011:00:00.0\n"


def test_links_of_the_iommu_go_both_ways(pci: Pci) -> None:
    link = pci.host.readlink(path(NET, "iommu"))
    assert link == "../../virtual/iommu/s390-iommu.00000010"
    back = f"/sys/class/iommu/s390-iommu.00000010/devices/{NET}"
    assert pci.text(f"{back}/function_id") == "0x00000010\n"
