"""Configuration space: damaged capability lists, short reads, and the fields of a header."""

from __future__ import annotations

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import MalformedAnswer, Misuse
from pyvfio.pci.config import ConfigSpace

# 0011:00:00.0 of the lab through vfio-pci, up to the end of its first capability's neighbours (zpci-vfio.json)
HEADER = bytes.fromhex(
    "f41a0010020010000000000200000000000000000000000000000000000000000c000000000000000000"
    "0000f41a0100000000009800000000000000000000"
)


@pytest.fixture
def image() -> bytearray:
    data = bytearray(256)
    data[: len(HEADER)] = HEADER
    data[0x40:0x50] = bytes.fromhex("09001001040000000000000000100000")
    data[0x84:0x98] = bytes.fromhex("0940140500000000") + bytes(12)
    data[0x98:0xA4] = bytes.fromhex("118403000100000001080000")
    return data


def space(image: bytearray, size: int = 256) -> ConfigSpace:
    return ConfigSpace(lambda offset, count: bytes(image[offset : offset + count]), "0011:00:00.0", size=size)


@pytest.mark.parametrize(("offset", "count"), [(-1, 1), (255, 2), (256, 1), (0, -1), (0, 257)])
def test_outside(image: bytearray, offset: int, count: int) -> None:
    with pytest.raises(Misuse, match="not inside"):
        space(image).read(offset, count)


def test_what_a_user_may_not_read(image: bytearray) -> None:
    with pytest.raises(MalformedAnswer, match="first 64"):
        space(image[:64]).capabilities()
    assert space(image[:64]).vendor_id == 0x1AF4


@pytest.mark.parametrize(
    ("at", "value"),
    [(0x85, 0x98), (0x99, 0x98), (0x99, 0x20)],
    ids=["loop", "itself", "into the header"],
)
def test_a_damaged_list(image: bytearray, at: int, value: int) -> None:
    image[at] = value
    with pytest.raises(MalformedAnswer, match="goes on at"):
        space(image).capabilities()


def test_a_function_that_is_gone_reads_as_ones() -> None:
    with pytest.raises(MalformedAnswer):
        space(bytearray(b"\xff" * 256)).capabilities()


def test_reading_only(image: bytearray) -> None:
    with pytest.raises(Misuse, match="reading only"):
        space(image).command = 0


def test_fields(image: bytearray) -> None:
    config = space(image)
    assert (config.vendor_id, config.device_id) == (0x1AF4, 0x1000)
    assert (config.subsystem_vendor, config.subsystem_device) == (0x1AF4, 1)
    assert (config.class_code, config.revision) == (0x020000, 0)
    assert config.command == regs.Command.MEMORY
    assert config.status == regs.Status.CAP_LIST


def test_capabilities(image: bytearray) -> None:
    config = space(image)
    assert [str(one) for one in config.capabilities()] == ["[98] MSI-X", "[84] vendor-specific", "[40] vendor-specific"]
    assert config.msix_vectors == 4
    assert config.capability(regs.PCI_CAP_ID_EXP) is None
    first = config.capability(regs.PCI_CAP_ID_MSIX)
    assert first is not None
    assert first.data.startswith(bytes.fromhex("118403000100000001080000"))


def test_no_list(image: bytearray) -> None:
    image[regs.PCI_STATUS] = 0
    assert space(image).capabilities() == []
    assert space(image).msix_vectors == 0


def test_bars(image: bytearray) -> None:
    image[0x10:0x28] = (
        (0xE001).to_bytes(4, "little")
        + (0xF000_0008).to_bytes(4, "little")
        + bytes(8)
        + (0x1_0000_000C).to_bytes(8, "little")
    )
    assert [str(bar) for bar in space(image).bars()] == [
        "BAR0 I/O at 0xe000",
        "BAR1 memory 32-bit prefetchable at 0xf0000000",
        "BAR4 memory 64-bit prefetchable at 0x100000000",
    ]


def test_a_64_bit_bar_at_the_end(image: bytearray) -> None:
    image[0x20:0x28] = bytes(4) + (0x4).to_bytes(4, "little")
    assert [bar.index for bar in space(image).bars()] == [5]
