"""Every spelling of a device leads to it, and what is no device is refused with what it stands on."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from laid_out_host import DASD, DISK, FCP, NIC, NIC2, OSA, UUID, WIDE

from pyvfio.address import SubchannelId
from pyvfio.errors import BadAddress, NoSuchDevice, PyvfioError, WrongBus
from pyvfio.host import Host
from pyvfio.lookup import addresses_of
from pyvfio.selection import Selection, select

REFUSED: list[tuple[str, type[PyvfioError], str]] = [
    ("bond0", NoSuchDevice, f"stands on eth0 ({NIC})"),
    ("br0", NoSuchDevice, f"stands on eth0 ({NIC})"),
    ("dm-0", NoSuchDevice, f"stands on nvme0n1p2 ({DISK})"),
    ("/dev/dm-0", NoSuchDevice, f"stands on nvme0n1p2 ({DISK})"),
    ("loop0", NoSuchDevice, "stands on the file /srv/image.iso"),
    ("lo", NoSuchDevice, "stands on none"),
    ("eth9", NoSuchDevice, "it is no address"),
    ("/dev/nope", NoSuchDevice, "no such node"),
    ("/dev/vfio/99", NoSuchDevice, "no such group"),
    ("/sys/bus/pci/devices/0000:77:00.0", NoSuchDevice, "no such path"),
    ("/sys/bus/pci", NoSuchDevice, "no device on a bus"),
    ("/dev/vfio/12", NoSuchDevice, f"stands for 2 devices: {NIC}, {NIC2}"),
    ("encc000", NoSuchDevice, f"stands for 3 devices: {', '.join(OSA)}"),
    ("/etc/passwd", BadAddress, "below /sys or /dev"),
    ("3b:00", BadAddress, "domain:bus:device.function"),
    ("3b:00.8", BadAddress, "domain:bus:device.function"),
    ("0.4.0001", BadAddress, "subchannel set"),
    ("pci/x", BadAddress, "domain:bus:device.function"),
    ("", BadAddress, "none of"),
    ("eth\0", BadAddress, "no device has a name like this"),
    ("/sys/class/net/\ud800", BadAddress, "no device has a name like this"),
    ("e" * 2000, BadAddress, "no device has a name like this"),
]


@pytest.mark.parametrize(("text", "kind", "words"), REFUSED, ids=[ascii(text)[:40] for text, _, _ in REFUSED])
def test_refused(laid_out: Host, text: str, kind: type[PyvfioError], words: str) -> None:
    with pytest.raises(kind) as raised:
        laid_out.device(text)
    assert words in raised.value.cause
    assert raised.value.next_step


SPELLINGS = {
    NIC: [
        "3b:00.0", "3B:0.0", "0:3b:00.0", NIC, "00000000:3b:00.0", f"pci/{NIC}", "pci_0000_3b_00_0", "eth0", " eth0 ",
        f"/sys/bus/pci/devices/{NIC}", f"/sys/bus/pci/devices/{NIC}/", f"/sys/devices/pci0000:00/0000:00:02.0/{NIC}",
        "/sys/class/net/eth0", "/sys/class/net/eth0/device/net/eth0", "/sys/class/net/bond0/lower_eth0",
        f"/sys/kernel/iommu_groups/12/devices/{NIC}", f"/sys/bus/pci/drivers/i40e/{NIC}",
    ],
    NIC2: ["vfio0", "/dev/vfio/devices/vfio0"],
    DISK: ["nvme0", "/dev/nvme0", "nvme0n1", "/dev/nvme0n1", "nvme0n1p1", "/dev/nvme0n1p1", "/dev//nvme0n1"],
    WIDE: [WIDE, "pci_10000_e1_00_0"],
    DASD: ["013f", "13f", "0x013f", "0.0.013f", "0.0.13F", "0x0.0.013f", "ccw/0.0.013f", "ccw_0_0_013f", "dasda",
           "/dev/dasda", "/sys/bus/ccw/devices/0.0.013f/online"],
    FCP: ["sda", "/dev/sda", "/sys/class/block/sda"],
    UUID: [UUID, UUID.upper(), f"mdev/{UUID}", f"mdev_{UUID.replace('-', '_')}_0_0_0009",
           f"/sys/bus/mdev/devices/{UUID}"],
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling(laid_out: Host, name: str) -> None:
    for text in SPELLINGS[name]:
        found = laid_out.device(text)
        assert (text, found.name, found.exists) == (text, name, True)


@pytest.mark.parametrize("text", ["css/0.0.0000", "css_0_0_0000", "/sys/bus/css/devices/0.0.0000"])
def test_a_subchannel_by_a_name_that_says_so(laid_out: Host, text: str) -> None:
    assert laid_out.device(text).address == SubchannelId(0, 0, 0)


@pytest.mark.parametrize("text", ["0.0.0000", "0", "dasda", "/dev/dasda"])
def test_a_subchannel_by_its_bus(laid_out: Host, text: str) -> None:
    assert laid_out.device(text, bus="css").address == SubchannelId(0, 0, 0)


def test_a_name_on_another_bus(laid_out: Host) -> None:
    with pytest.raises(WrongBus):
        laid_out.device("eth0", bus="css")
    with pytest.raises(WrongBus):
        laid_out.device(DASD, bus="pci")


def test_names_of_several_devices(laid_out: Host) -> None:
    """A group stands for its members without its bridges, an OSA interface for its three channels."""
    sysfs = laid_out.sysfs
    assert list(map(str, addresses_of(sysfs, "/dev/vfio/12"))) == [NIC, NIC2]
    assert list(map(str, addresses_of(sysfs, "/sys/kernel/iommu_groups/12"))) == [NIC, NIC2]
    assert list(map(str, addresses_of(sysfs, "/dev/vfio/noiommu-13"))) == [DISK]
    assert list(map(str, addresses_of(sysfs, "encc000"))) == list(OSA)


def test_a_channel_device_that_vfio_ccw_has(laid_out: Host) -> None:
    assert laid_out.device("1234").name == "0.0.1234"
    assert laid_out.device("/sys/bus/css/devices/0.0.0009").name == "0.0.0009"


_PIECES = st.sampled_from(
    ["0000:3b:00.0", "3b:", "0.0.", "013f", "-", ",", "*", "[", "]", "?", "/", "..", "/sys/", "/dev/", "vfio/", "12",
     "eth0", "bond0", "pci_", "css/", "_", "0x", "class/net/", "bus/pci/devices/", UUID, " ", "dm-0", "\0", "\n"]
)  # fmt: skip


@given(text=st.one_of(st.text(max_size=40), st.lists(_PIECES, max_size=6).map("".join)))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_names_devices_or_is_refused_with_a_cause(laid_out: Host, text: str) -> None:
    with contextlib.suppress(PyvfioError):
        assert addresses_of(laid_out.sysfs, text)
    found, refused = [], None
    try:
        found = select(laid_out, Selection((text,)))
    except PyvfioError as error:
        refused = error
    if refused is not None:
        assert refused.cause or refused.errno
    else:
        assert len({device.link_path for device in found}) == len(found) > 0
