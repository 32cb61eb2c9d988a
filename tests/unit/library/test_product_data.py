"""Vital product data that a function gives, and the extended capabilities of its configuration space, for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pyvfio import Host
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.errors import MalformedAnswer
from pyvfio.pci.config import ConfigSpace
from pyvfio.pci.product_data import ProductData
from pyvfio_tools.cli import cli

WHOLE = bytes.fromhex("820300") + b"ABC" + bytes.fromhex("900a00") + b"PN\x02X1RV\x02\x00\x00"
TEXT = """
[machine]
name = "card"
architecture = "x86_64"

[[pcie.bus]]

[[pcie.function]]
id = "port"
model = "pcie-root-port"
behind = "0000:00"
at = "01.0"

[[pcie.function]]
model = "nvme"
behind = "port"

[[pcie.function.capability]]
kind = "vpd"
options = { name = "A disk", PN = "X-1", SN = "42" }

[[pcie.function.capability]]
kind = "aer"

[[pcie.function.capability]]
kind = "dsn"
options = { number = 5 }
"""


def with_checksum(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([-sum(data[:at]) & 0xFF]) + data[at + 1 :]


def test_name_fields_and_checksum() -> None:
    sound = with_checksum(WHOLE, 17)
    found = ProductData.parse(sound + b"\x78 and more")
    assert (found.name, found.fields, found.writable, found.sound) == ("ABC", {"PN": b"X1"}, {}, True)
    assert str(found) == "ABC, PN X1"
    broken = ProductData.parse(sound[:3] + b"ABZ" + sound[6:])
    assert broken.sound is False
    assert str(broken) == "ABZ, PN X1, checksum wrong"


def test_what_can_be_written_is_apart_and_unknown_items_are_passed_over() -> None:
    data = b"\x82\x01\0A" + b"\x09\xff" + b"\x91\x08\0" + b"YA\x01zRW\x01\0" + b"\x78"
    found = ProductData.parse(data)
    assert (found.name, found.fields, found.writable, found.sound) == ("A", {}, {"YA": b"z", "RW": b"\0"}, None)


@pytest.mark.parametrize("data", [b"\x82\x04\0ABC", b"\x90\x05\0PN\x03X1", b"\0\0\0\0", b"\x90\x04\0PN\x02X"])
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        ProductData.parse(data, "0000:01:00.0")


def test_nothing_is_nothing() -> None:
    assert ProductData.parse(b"") == ProductData()


def test_extended_capabilities_are_read_in_order() -> None:
    data = bytearray(0x1000)
    for at, number, following in ((0x100, 0, 0x140), (0x140, 0x1, 0x200), (0x200, 0x7FFF, 0)):
        data[at : at + 4] = (number | 1 << 16 | following << 20).to_bytes(4, "little")
    space = ConfigSpace(lambda offset, count: bytes(data[offset : offset + count]), "card", size=len(data))
    assert [str(one) for one in space.extended_capabilities()] == [
        "[140] advanced error reporting",
        "[200] extended capability 0x7fff",
    ]
    assert space.extended_capability(extended.PCI_EXT_CAP_ID_ERR) == 0x140
    short = ConfigSpace(lambda offset, count: bytes(data[offset : min(256, offset + count)]), "card")
    assert short.extended_capabilities() == []
    data[0x202:0x204] = b"\x01\x14"
    with pytest.raises(MalformedAnswer):
        space.extended_capabilities()


def test_a_host_shows_both(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(TEXT)
    with Host("software", machine=str(path)) as host:
        names = [one.name for one in host.device("0000:01:00.0").config.extended_capabilities()]
    assert names == ["advanced error reporting", "device serial number"]
    shown = CliRunner().invoke(cli, ["show", "0000:01:00.0", "--machine", str(path), "--json"])
    facts = json.loads(shown.output)
    assert facts["product"] == "A disk, PN X-1, SN 42"
    assert facts["capabilities"][-2:] == ["[100] advanced error reporting", "[148] device serial number"]


def test_what_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(TEXT)
    data = b"\x90\x05\0PN\x03X1\x78"  # the field is longer than its part
    monkeypatch.setattr("pyvfio_backends.software.pcie_capabilities.product_data", lambda name, fields: data)
    shown = CliRunner().invoke(cli, ["show", "0000:01:00.0", "--machine", str(path), "--json"])
    assert json.loads(shown.output)["product"] == "malformed: the field at 0x3 goes beyond its part"
