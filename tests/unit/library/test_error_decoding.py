"""Registers of AER and containment, headers of packets and the kernel's counters, decoded."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_extended_regs import AerControl, AerPlace
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.errors import Misuse
from pyvfio.pci.aer import (
    CORRECTABLE,
    UNCORRECTABLE,
    AerRegisters,
    DpcRegisters,
    Severity,
    error_names,
    errors_of,
    find_error,
)
from pyvfio.pci.config import ConfigSpace
from pyvfio.pci.tlp import decode_header, rid_text
from pyvfio_backends.software.hardware.pcie.packet import header
from pyvfio_backends.software.hardware.pcie.request import Request, Space

U32 = st.integers(0, 0xFFFFFFFF)


def space(kind: ExpressType = ExpressType.ENDPOINT, **registers: Any) -> ConfigSpace:
    """Configuration space with PCI Express at 0x40, AER at 0x100 and DPC at 0x200."""
    data = bytearray(regs.PCI_CFG_SPACE_EXP_SIZE)
    data[regs.PCI_STATUS] = regs.PCI_STATUS_CAP_LIST
    data[regs.PCI_CAPABILITY_LIST] = 0x40
    data[0x40] = regs.PCI_CAP_ID_EXP
    struct.pack_into("<H", data, 0x40 + regs.PCI_EXP_FLAGS, kind << 4 | 2)
    struct.pack_into("<I", data, 0x100, 0x200 << 20 | 2 << 16 | extended.PCI_EXT_CAP_ID_ERR)
    struct.pack_into("<I", data, 0x200, 1 << 16 | extended.PCI_EXT_CAP_ID_DPC)
    for name, value in registers.items():
        base, _, field = name.partition("_")
        at, width = {
            "aer_status": (0x100 + extended.PCI_ERR_UNCOR_STATUS, 4),
            "aer_mask": (0x100 + extended.PCI_ERR_UNCOR_MASK, 4),
            "aer_severity": (0x100 + extended.PCI_ERR_UNCOR_SEVER, 4),
            "aer_correctable": (0x100 + extended.PCI_ERR_COR_STATUS, 4),
            "aer_control": (0x100 + extended.PCI_ERR_CAP, 4),
            "aer_header": (0x100 + extended.PCI_ERR_HEADER_LOG, 16),
            "aer_prefix": (0x100 + AerPlace.PREFIX_LOG, 16),
            "aer_source": (0x100 + extended.PCI_ERR_ROOT_ERR_SRC, 4),
            "dpc_control": (0x200 + extended.PCI_EXP_DPC_CTL, 2),
            "dpc_status": (0x200 + extended.PCI_EXP_DPC_STATUS, 2),
            "dpc_source": (0x200 + extended.PCI_EXP_DPC_SOURCE_ID, 2),
        }[f"{base}_{field}"]
        data[at : at + width] = int(value).to_bytes(width, "little")
    return ConfigSpace(lambda offset, count: bytes(data[offset : offset + count]), "x", size=len(data))


def read(**registers: Any) -> AerRegisters:
    found = AerRegisters.read(space(**registers))
    assert found is not None
    return found


# names


def test_every_error_is_found_by_all_its_names() -> None:
    for one in (*CORRECTABLE, *UNCORRECTABLE):
        for name in filter(None, (one.name, one.qemu, one.name.upper(), f" {one.name} ")):
            assert find_error(name) == one
    assert len(error_names()) == len(set(error_names()))
    assert [one.bit for one in UNCORRECTABLE] == sorted({one.bit for one in UNCORRECTABLE})


@pytest.mark.parametrize("name", ["", "0x4000", "CmpltT", "bit 3"])
def test_anything_else_is_refused_with_the_names(name: str) -> None:
    with pytest.raises(Misuse, match="neither Linux nor QEMU") as caught:
        find_error(name)
    assert "CmpltTO, COMP_TIME" in caught.value.next_step


@given(U32, st.booleans())
def test_errors_of_a_register_are_its_bits(status: int, correctable: bool) -> None:
    found = errors_of(status, correctable=correctable)
    assert sum(one.mask for one in found) == status
    assert all(one.correctable == correctable for one in found if one.qemu)


# registers


def test_registers_are_decoded() -> None:
    found = read(
        aer_status=0x00044000, aer_mask=0x02400000, aer_severity=0x00462030, aer_correctable=0x41, aer_control=14
    )
    assert [one.name for one in found.uncorrectable] == ["CmpltTO", "MalfTLP"]
    assert [one.name for one in found.correctable] == ["RxErr", "BadTLP"]
    assert (found.first, found.worst) == (find_error("CmpltTO"), Severity.FATAL)
    assert found.severity_of(find_error("CmpltTO")) is Severity.NONFATAL
    assert found.severity_of(find_error("RxErr")) is Severity.CORRECTABLE
    assert (found.packet, found.root_source, found.uncorrectable_source) == (None, None, None)
    assert found.as_dict()["first"] == "CmpltTO"


def test_a_pointer_to_a_cleared_error_is_none() -> None:
    assert read(aer_control=14).first is None
    assert read(aer_control=14).worst is None
    assert read(aer_correctable=0x40).worst is Severity.CORRECTABLE


def test_a_masked_error_is_not_the_worst() -> None:
    assert read(aer_status=0x4000, aer_mask=0x4000).worst is None


def test_a_root_port_has_sources() -> None:
    found = read(kind=ExpressType.ROOT_PORT, aer_source=0x08000D01)
    assert (found.uncorrectable_source, found.correctable_source) == (0x0800, 0x0D01)
    assert found.as_dict()["root"] == {
        "command": 0,
        "status": 0,
        "uncorrectable_source": "08:00.0",
        "correctable_source": "0d:00.1",
    }


def test_prefixes_are_read_where_they_are_said_to_be() -> None:
    words = 0x1 | 0x2 << 32 | 0x3 << 64 | 0x4 << 96
    assert read(aer_prefix=words).prefix == ()
    assert read(aer_prefix=words, aer_control=AerControl.PREFIX_PRESENT).prefix == (1, 2, 3, 4)


def test_a_function_without_has_none() -> None:
    short = ConfigSpace(lambda offset, count: bytes(count), "x", size=regs.PCI_CFG_SPACE_SIZE)
    assert (AerRegisters.read(short), DpcRegisters.read(short)) == (None, None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0x1, "an uncorrectable error of the port itself"),
        (0x3, "ERR_NONFATAL from 02:00.0"),
        (0x5, "ERR_FATAL from 02:00.0"),
        (0x7, "a programmed I/O error of the root port"),
        (0x27, "software"),
        (0x47, "a reserved reason"),
    ],
)
def test_why_a_port_contained(status: int, reason: str) -> None:
    found = DpcRegisters.read(space(dpc_status=status, dpc_source=0x0200, dpc_control=1))
    assert found is not None
    assert (found.triggered, found.reason, found.enabled) == (True, reason, Severity.FATAL)
    assert found.as_dict()["reason"] == reason


def test_containment_that_is_off() -> None:
    found = DpcRegisters.read(space())
    assert found is not None
    assert (found.triggered, found.enabled, found.as_dict()["reason"]) == (False, None, None)


# packets


BY = "by 0d:00.0, tag 0"
DONE = "by 08:00.0 for 0d:00.0, tag 7"
PACKETS = {
    (0x00000001, 0x0D00040F, 0xFEE00000, 0): "memory read of 4 bytes at 0xfee00000 by 0d:00.0, tag 4",
    (0x60004004, 0x0D0000FF, 0x1, 0x23456780): f"memory write of 16 bytes at 0x123456780 {BY}, poisoned",
    (0x02000001, 0x0D00000F, 0xC000, 0): f"I/O read of 4 bytes at 0xc000 {BY}",
    (0x04000001, 0x0D00000F, 0x01000004, 0): f"configuration read (type 0) of 01:00.0, register 0x4 {BY}",
    (0x45000001, 0x0D00000F, 0x01000104, 0): f"configuration write (type 1) of 01:00.0, register 0x104 {BY}",
    (0x0A000000, 0x08002004, 0x0D000700, 0): f"completion (unsupported request) {DONE}",
    (0x4A000001, 0x08000004, 0x0D000700, 0): f"completion with data of 4 bytes (success) {DONE}",
    (0x30000000, 0x0D000031, 0, 0): f"message 0x31 {BY}",
    (0x4C000001, 0x0D00000F, 0x1000, 0): f"fetch and add of 4 bytes at 0x1000 {BY}",
    (0x00000000, 0x0D00000F, 0x1000, 0): f"memory read of 4096 bytes at 0x1000 {BY}",
    (0x80000000, 0, 0, 1): "prefix",
}


@pytest.mark.parametrize(("words", "text"), PACKETS.items(), ids=lambda one: one if isinstance(one, str) else "")
def test_a_packet_in_words(words: tuple[int, int, int, int], text: str) -> None:
    found = decode_header(words)
    assert found is not None
    assert str(found) == text
    assert found.as_dict()["words"] == [f"{word:08x}" for word in words]


def test_an_empty_log_is_no_packet() -> None:
    assert decode_header((0, 0, 0, 0)) is None


@given(st.tuples(U32, U32, U32, U32))
def test_any_words_are_decoded(words: tuple[int, int, int, int]) -> None:
    found = decode_header(words)
    assert (found is None) == (not any(words))
    assert found is None or str(found)


@given(st.booleans(), st.integers(0, 1 << 48), st.integers(1, 64), st.integers(0, 0xFFFF), st.booleans())
def test_what_the_machine_logs_is_what_is_decoded(
    write: bool, address: int, length: int, requester: int, poisoned: bool
) -> None:
    """`hardware/pcie/packet` writes headers, `pyvfio.pci.tlp` reads them."""
    data = bytes(length) if write else b""
    request = Request.store(address, data) if write else Request.read(address, length)
    request.requester, request.poisoned, request.space = requester, poisoned, Space.MEMORY
    log = header(request)
    words = tuple(log >> 32 * word & 0xFFFFFFFF for word in range(4))
    found = decode_header((words[0], words[1], words[2], words[3]))
    assert found is not None
    assert found.kind == ("memory write" if write else "memory read")
    assert (found.address, found.requester, found.poisoned) == (address & ~3, requester, poisoned)
    assert found.length == -(-(address % 4 + length) // 4) * 4


def test_a_routing_id_as_people_write_it() -> None:
    assert rid_text(0x0D02) == "0d:00.2"
    assert rid_text(0xFFFF) == "ff:1f.7"
