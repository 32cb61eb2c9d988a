"""Many devices at once: patterns, ranges, lists and filters; a selection of nothing is an error."""

from __future__ import annotations

import pytest
from laid_out_host import DASD, DISK, FCP, NIC, NIC2, OSA, UUID, WIDE

from pyvfio.errors import BadAddress, Misuse, NoSuchDevice, PyvfioError
from pyvfio.host import Host
from pyvfio.selection import Selection, select

BRIDGE = "0000:00:02.0"

REFUSED: list[tuple[Selection, type[PyvfioError], str]] = [
    (Selection(), Misuse, "nothing is named"),
    (Selection(("0000:77:*",)), NoSuchDevice, "no address matches"),
    (Selection(("0.0.2000-0.0.2fff",)), NoSuchDevice, "no device is in this range"),
    (Selection(("0.0.2000-0.0.1000",)), BadAddress, "0.0.1000-0.0.2000"),
    (Selection(("0.0.1000-0.1.1000",)), BadAddress, "one subchannel set"),
    (Selection((NIC, "0000:77:00.0")), NoSuchDevice, "no such device"),
    (Selection(drivers=("ixgbe",)), NoSuchDevice, "drivers that have devices: dasd-eckd, i40e, nvme"),
    (Selection(ids=("8086:9999",)), NoSuchDevice, "id 8086:9999"),
    (Selection(ids=("i40e",)), Misuse, "VENDOR:DEVICE"),
    (Selection(groups=(99,)), NoSuchDevice, "no such group"),
    (Selection((NIC,), drivers=("nvme",)), NoSuchDevice, "driver nvme"),
    (Selection((NIC + ",",)), BadAddress, "none of"),
]


@pytest.mark.parametrize(("selection", "kind", "words"), REFUSED, ids=[str(one) for one, _, _ in REFUSED])
def test_refused(laid_out: Host, selection: Selection, kind: type[PyvfioError], words: str) -> None:
    with pytest.raises(kind) as raised:
        select(laid_out, selection)
    assert words in raised.value.cause
    assert raised.value.next_step


CHOSEN: list[tuple[Selection, list[str]]] = [
    (Selection(("eth0", NIC, "3b:00.0", "/dev/nvme0n1p2", "nvme0")), [NIC, DISK]),
    (Selection(("3b:00.*",)), [NIC, NIC2]),
    (Selection(("0000:3B:*",)), [NIC, NIC2]),
    (Selection(("pci/*:e1:*",)), [WIDE]),
    (Selection(("0.0.12*",)), [*OSA, "0.0.1234"]),
    (Selection(("0.0.1[27]*",), bus="ccw"), [*OSA, "0.0.1234", FCP]),
    (Selection(("0.0.000[0-2]",), bus="css"), ["0.0.0000", "0.0.0001", "0.0.0002"]),
    (Selection(("css/0.0.000[0-2]",)), ["0.0.0000", "0.0.0001", "0.0.0002"]),
    (Selection(("83b8*",)), [UUID]),
    (Selection(("0.0.0100-0.0.1234",)), [DASD, *OSA, "0.0.1234"]),
    (Selection(("13f-1221,0.0.1700",)), [DASD, "0.0.1220", "0.0.1221", FCP]),
    (Selection(("0.0.0001-0.0.0002",), bus="css"), ["0.0.0001", "0.0.0002"]),
    (Selection(("/dev/vfio/12",)), [NIC, NIC2]),
    (Selection(drivers=("nvme",)), [DISK]),
    (Selection(drivers=("vfio_pci", "i40e")), [NIC, NIC2]),
    (Selection(drivers=("vfio*",)), [NIC2, "0.0.0009", UUID]),
    (Selection(drivers=("vfio*",), bus="pci"), [NIC2]),
    (Selection(drivers=("none",)), [WIDE]),
    (Selection(("3b:*",), drivers=("i40e",)), [NIC]),
    (Selection(ids=("8086:1572",)), [NIC, NIC2]),
    (Selection(ids=("0x8086:",)), [BRIDGE, NIC, NIC2]),
    (Selection(ids=("*:A80A",)), [DISK, WIDE]),
    (Selection(ids=("3390/0c", "*/03")), [DASD, FCP]),
    (Selection(ids=("1731/1",), bus="css"), ["0.0.0001", "0.0.0002", "0.0.0003"]),
    (Selection(groups=(12, 13)), [NIC, NIC2, DISK]),
    (Selection(groups=(12,), drivers=("none", "i40e")), [NIC]),
]


@pytest.mark.parametrize(("selection", "names"), CHOSEN, ids=[str(one) for one, _ in CHOSEN])
def test_chosen(laid_out: Host, selection: Selection, names: list[str]) -> None:
    assert [device.name for device in select(laid_out, selection)] == names
