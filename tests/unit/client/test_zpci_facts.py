"""The capability chain of a zPCI function: what the recorded kernel gave, older versions, and an EBCDIC text."""

from __future__ import annotations

import struct
import sys

import pytest

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import Capability
from pyvfio.errors import MalformedAnswer
from pyvfio.zpci.facts import ZpciFacts

BASE, GROUP = abi.VFIO_DEVICE_INFO_CAP_ZPCI_BASE, abi.VFIO_DEVICE_INFO_CAP_ZPCI_GROUP
UTIL, PFIP = abi.VFIO_DEVICE_INFO_CAP_ZPCI_UTIL, abi.VFIO_DEVICE_INFO_CAP_ZPCI_PFIP
# The values are those of zpci-vfio.json; the numbers of the structures are native, the two texts are bytes.
BASE_2 = struct.pack("=QQHHHBBII", 0x1_0000_0000, 0x1_1FFF_FFFF, 0, 0, 0, 0, 0xFF, 0x8002_0000, 0)
GROUP_2 = struct.pack("=QQQHHHBBHxxI", 0, 0xFE << 56, 1, 4000, 128, 128, 0, 0, 128, 0)


@pytest.mark.parametrize("payload", [BASE_2[:8], b""])
def test_a_base_that_is_too_short(payload: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        ZpciFacts.from_capabilities([Capability(BASE, 2, payload)])


@pytest.mark.parametrize("number", [UTIL, PFIP])
def test_a_text_that_is_longer_than_what_came(number: int) -> None:
    with pytest.raises(MalformedAnswer):
        ZpciFacts.from_capabilities([Capability(number, 1, struct.pack("=I", 64) + b"short")])


def test_no_zpci_function() -> None:
    assert ZpciFacts.from_capabilities([]) is None
    assert ZpciFacts.from_capabilities([Capability(abi.VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP, 1, bytes(8))]) is None


def test_version_2() -> None:
    facts = ZpciFacts.from_capabilities([Capability(BASE, 2, BASE_2), Capability(GROUP, 2, GROUP_2)])
    assert facts is not None
    assert facts.base is not None
    assert facts.group is not None
    assert (facts.base.start_dma, facts.base.end_dma) == (0x1_0000_0000, 0x1_1FFF_FFFF)
    assert (facts.base.gid, facts.base.fh) == (0xFF, 0x8002_0000)
    assert (facts.group.msi_addr, facts.group.refresh, facts.group.mui) == (0xFE << 56, True, 4000)
    assert (facts.group.noi, facts.group.maxstbl, facts.group.imaxstbl) == (128, 128, 128)
    assert (facts.util, facts.util_raw, facts.pfip) == (None, b"", None)


def test_version_1_has_no_handle() -> None:
    facts = ZpciFacts.from_capabilities([Capability(BASE, 1, BASE_2[:24]), Capability(GROUP, 1, GROUP_2[:32])])
    assert facts is not None
    assert facts.base is not None
    assert facts.group is not None
    assert (facts.base.gid, facts.base.fh) == (0xFF, None)
    assert (facts.group.noi, facts.group.imaxstbl) == (128, None)


def test_texts() -> None:
    text = "ROCE.PORT1".encode("cp037").ljust(64, b"\0")
    chain = [
        Capability(UTIL, 1, struct.pack("=I", 64) + text + bytes(4)),
        Capability(PFIP, 1, struct.pack("=I", 4) + bytes([1, 2, 3, 4]) + bytes(40)),
    ]
    facts = ZpciFacts.from_capabilities(chain)
    assert facts is not None
    assert (facts.util, facts.util_raw, facts.pfip) == ("ROCE.PORT1", text, bytes([1, 2, 3, 4]))


def test_the_numbers_are_native() -> None:
    other = ">" if sys.byteorder == "little" else "<"
    swapped = struct.pack(f"{other}QQHHHBBII", 1, 2, 0, 0, 0, 0, 0xFF, 3, 0)
    facts = ZpciFacts.from_capabilities([Capability(BASE, 2, swapped)])
    assert facts is not None
    assert facts.base is not None
    assert facts.base.start_dma == 1 << 56
