"""SR-IOV on zPCI functions: what the kernel answers (golden x86/sriov.json, as far as it is not x86's own) and where
virtual functions appear (arch/s390/pci/pci_bus.c, pci_iov.c)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pci_fixture import BUS, VFIO, Device, Pci, errno_of

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.process import EventFd
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.linux.pci_device import PciDevice

NET_PF, BELL_PF = "0070:00:00.0", "0080:00:00.0"
TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3"
OTHER = "00000000-0000-4000-8000-000000000000"
PARAMETER = "/sys/module/vfio_pci/parameters/enable_sriov"


@pytest.fixture
def sriov() -> Iterator[Pci]:
    lab = Pci(
        FunctionSpec(0x70, 0x70, "virtio-net", "virtio-pci", pchid=0x300, options={"total_vfs": 7}),
        FunctionSpec(0x80, 0x80, "virtio-bell", "", pchid=0x304, options={"total_vfs": 2, "vf_fid": 0x90}),
    )
    with lab.host:
        yield lab


def numvfs(lab: Pci, value: str, name: str = NET_PF) -> Any:
    return errno_of(lab.write, f"{BUS}/devices/{name}/sriov_numvfs", value)


def names(lab: Pci) -> list[str]:
    return sorted(lab.host.listdir(f"{BUS}/devices"))


def test_attributes(sriov: Pci) -> None:
    values = {name: sriov.attr(NET_PF, name) for name in sriov.host.listdir(f"{BUS}/devices/{NET_PF}") if "vf" in name}
    assert values == {
        "sriov_numvfs": "0",
        "sriov_totalvfs": "7",
        "sriov_vf_device": "1041",
        "sriov_vf_total_msix": "0",
        "vfn": "0x0000",
    }
    assert (sriov.attr(NET_PF, "sriov_offset"), sriov.attr(NET_PF, "sriov_stride")) == ("1", "1")
    assert sriov.attr(NET_PF, "sriov_drivers_autoprobe") == "1"
    assert sriov.attr(NET_PF, "max_link_speed") == "8.0 GT/s PCIe"
    assert sriov.attr(NET_PF, "current_link_width") == "8"


def test_others_have_none(sriov: Pci) -> None:
    for name in ("0011:00:00.0", "0060:00:00.0"):
        assert not [entry for entry in sriov.host.listdir(f"{BUS}/devices/{name}") if entry.startswith("sriov")]


@pytest.mark.parametrize("value", ["x", "-1", "65536", "1 2"])
def test_no_number(sriov: Pci, value: str) -> None:
    assert numvfs(sriov, value) == "EINVAL"


def test_numbers(sriov: Pci) -> None:
    assert numvfs(sriov, "8") == "ERANGE"
    assert numvfs(sriov, "2") == "1"
    assert sriov.attr(NET_PF, "sriov_numvfs") == "2"
    assert numvfs(sriov, "3") == "EBUSY"
    assert numvfs(sriov, "2") == "1"
    assert numvfs(sriov, "0x0") == "3"
    assert sriov.attr(NET_PF, "sriov_numvfs") == "0"
    assert numvfs(sriov, "7") == "1"


def test_a_driver_cannot_have_one_more_than_there_are(sriov: Pci) -> None:
    """``sriov_enable``, which a driver calls with what it likes."""
    device = sriov.kernel.buses["pci"].devices[NET_PF]
    assert isinstance(device, PciDevice)
    able = device.sriov
    assert able is not None
    with sriov.machine.lock, pytest.raises(OSError, match="Invalid"):
        able.enable(able.total + 1)
    assert (able.num_vfs, able.device.read_config(able.at + regs.PCI_SRIOV_NUM_VF, 2)) == (0, 0)
    assert not [name for name in sriov.host.listdir(f"{BUS}/devices/{NET_PF}") if name.startswith("virtfn")]
    with sriov.machine.lock:
        able.enable(able.total)
    assert sriov.attr(NET_PF, "sriov_numvfs") == "7"


def test_where_they_appear(sriov: Pci) -> None:
    before = names(sriov)
    numvfs(sriov, "2")
    assert sorted(set(names(sriov)) - set(before)) == ["0070:00:00.1", "0070:00:00.2"]
    for number, name in enumerate(("0070:00:00.1", "0070:00:00.2")):
        assert sriov.host.readlink(f"{BUS}/devices/{NET_PF}/virtfn{number}") == f"../{name}"
        assert sriov.host.readlink(f"{BUS}/devices/{name}/physfn") == f"../{NET_PF}"
        assert sriov.attr(name, "vfn") == f"{number + 1:#06x}"
        assert sriov.attr(name, "function_id") == f"{0x71 + number:#010x}"
        assert sriov.attr(name, "uid") == f"{0x71 + number:#x}"
        assert sriov.attr(name, "device") == "0x1041"
        assert sriov.driver(name) == "virtio-pci"
        assert "sriov_vf_msix_count" not in sriov.host.listdir(f"{BUS}/devices/{name}")
    slot = "/sys/bus/pci/slots/00000072"
    assert sriov.text(f"{slot}/address") == "0070:00:02\n"
    groups = {sriov.host.readlink(f"{BUS}/devices/{name}/iommu_group") for name in ("0070:00:00.1", "0070:00:00.2")}
    assert len(groups) == 2
    numvfs(sriov, "0")
    assert names(sriov) == before
    assert "virtfn0" not in sriov.host.listdir(f"{BUS}/devices/{NET_PF}")
    assert "00000072" not in sriov.host.listdir("/sys/bus/pci/slots")


def test_more_than_one_device_number(sriov: Pci) -> None:
    numvfs(sriov, "7")
    new = [name for name in names(sriov) if name.startswith("0070:") and name != NET_PF]
    assert new == [*(f"0070:00:00.{n}" for n in range(1, 8))]


def test_events(sriov: Pci) -> None:
    sriov.seen()
    numvfs(sriov, "1", BELL_PF)
    assert sriov.headers() == []  # no driver
    sriov.take(BELL_PF)
    sriov.write(PARAMETER, "Y")
    sriov.seen()
    numvfs(sriov, "1", BELL_PF)
    root = "/devices/pci0080:00"
    assert sriov.headers() == [
        f"change@{root}/{BELL_PF}",
        "add@/devices/virtual/iommu/s390-iommu.00000090",
        "add@/bus/pci/slots/00000090",
        f"add@{root}/0080:00:00.1",
        f"change@{root}/0080:00:00.1",
    ]
    numvfs(sriov, "0", BELL_PF)
    assert sriov.headers() == [
        f"remove@{root}/0080:00:00.1",
        "remove@/bus/pci/slots/00000090",
        "remove@/devices/virtual/iommu/s390-iommu.00000090",
    ]


def test_without_a_driver(sriov: Pci) -> None:
    assert numvfs(sriov, "1", BELL_PF) == "ENOENT"
    assert numvfs(sriov, "0", BELL_PF) == "1"


def test_no_drivers_are_sought(sriov: Pci) -> None:
    path = f"{BUS}/devices/{NET_PF}/sriov_drivers_autoprobe"
    assert errno_of(sriov.write, path, "maybe") == "EINVAL"
    sriov.write(path, "0")
    numvfs(sriov, "1")
    name = "0070:00:00.1"
    assert sriov.driver(name) is None
    assert errno_of(sriov.write, f"{BUS}/drivers/virtio-pci/bind", name) == "ENODEV"
    sriov.take(name)
    assert sriov.driver(name) == "vfio-pci"


def test_the_physical_driver_leaves(sriov: Pci) -> None:
    before = names(sriov)
    numvfs(sriov, "3")
    sriov.write(f"{BUS}/drivers/virtio-pci/unbind", NET_PF)
    assert names(sriov) == before
    assert sriov.attr(NET_PF, "sriov_numvfs") == "0"


def test_the_physical_function_leaves_the_machine(sriov: Pci) -> None:
    numvfs(sriov, "2")
    sriov.machine.zpci.unplug(0x70)
    sriov.machine.clock.advance(1)
    assert not [name for name in names(sriov) if name.startswith("0070:")]
    assert 0x71 not in sriov.machine.zpci.functions


def test_the_physical_function_is_torn_out(sriov: Pci) -> None:
    numvfs(sriov, "2")
    sriov.machine.zpci.unplug(0x70, surprise=True)
    sriov.machine.clock.advance(1)
    assert not [name for name in names(sriov) if name.startswith("0070:")]


def test_a_reset_keeps_them(sriov: Pci) -> None:
    sriov.take(BELL_PF)
    sriov.write(PARAMETER, "1")
    numvfs(sriov, "2", BELL_PF)
    sriov.write(f"{BUS}/devices/{BELL_PF}/reset", "1")
    assert sriov.attr(BELL_PF, "sriov_numvfs") == "2"
    assert "0080:00:00.2" in names(sriov)


def test_configuration_space(sriov: Pci) -> None:
    assert sriov.host.stat(f"{BUS}/devices/{NET_PF}/config").st_size == 4096
    data = sriov.bytes(f"{BUS}/devices/{NET_PF}/config", 4096)
    assert data[0x100:0x104] == bytes.fromhex("10000100")
    numvfs(sriov, "5")
    data = sriov.bytes(f"{BUS}/devices/{NET_PF}/config", 4096)
    assert data[0x108] == 9
    assert data[0x110] == 5


def test_a_virtual_function_in_use(sriov: Pci) -> None:
    numvfs(sriov, "1")
    name = "0070:00:00.1"
    device = sriov.open(name)
    with EventFd() as request:
        device.eventfds(abi.VFIO_PCI_REQ_IRQ_INDEX, 0, request.fileno())
        thread = threading.Thread(target=numvfs, args=(sriov, "0"))
        thread.start()
        assert request.wait(5) == 1
        thread.join(0.05)
        assert thread.is_alive()
        device.close()
        thread.join(5)
        assert not thread.is_alive()
    assert name not in names(sriov)


def vfio_physical(lab: Pci) -> str:
    """The bell under vfio-pci with one virtual function, which is under vfio-pci too."""
    lab.take(BELL_PF)
    assert numvfs(lab, "1", BELL_PF) == "ENOENT"
    assert lab.text(PARAMETER) == "N\n"
    lab.write(PARAMETER, "Y")
    assert numvfs(lab, "1", BELL_PF) == "1"
    name = "0080:00:00.1"
    # s390: it is no virtual function yet when vfio-pci hears of it, so its override is not set
    assert lab.attr(name, "driver_override") == "(null)"
    lab.take(name)
    return name


def test_tokens(sriov: Pci) -> None:
    name = vfio_physical(sriov)

    def get(of: Device, words: str) -> Any:
        return errno_of(of.get, words)

    physical = Device(sriov, BELL_PF)  # without a token while nobody uses virtual ones
    virtual = Device(sriov, name, get=False)
    assert get(virtual, name) == "EACCES"
    assert get(virtual, f"{name} vf_token={TOKEN}") == "EACCES"
    assert get(virtual, f"{name} vf_token=") == "EINVAL"
    assert get(virtual, f"{name} vf_token={TOKEN} vf_token={TOKEN}") == "EINVAL"
    assert get(virtual, f"{name} token={TOKEN}") == "EINVAL"
    assert get(virtual, f"{name}x") == "ENODEV"
    sriov.host.close(physical.fd)
    physical.fd = physical.get(f"{BELL_PF} vf_token={TOKEN}")
    assert get(virtual, f"{name} vf_token={OTHER}") == "EACCES"
    fd = int(get(virtual, f"{name}  vf_token={TOKEN.upper()} "))
    assert get(physical, BELL_PF) == "EACCES"  # a virtual one is in use now
    assert get(physical, f"{BELL_PF} vf_token={OTHER}") == "EACCES"
    sriov.host.close(int(get(physical, f"{BELL_PF} vf_token={TOKEN}")))
    sriov.host.close(fd)


def test_a_token_as_feature(sriov: Pci) -> None:
    name = vfio_physical(sriov)
    physical = Device(sriov, BELL_PF)
    head = abi.DeviceFeature(argsz=24, flags=abi.VFIO_DEVICE_FEATURE_SET)
    token = bytes.fromhex(TOKEN.replace("-", ""))
    sriov.host.ioctl(physical.fd, abi.VFIO_DEVICE_FEATURE, bytearray(bytes(head)[:8] + token))
    virtual = Device(sriov, name, get=False)
    fd = virtual.get(f"{name} vf_token={TOKEN}")
    head = abi.DeviceFeature(argsz=24, flags=abi.VFIO_DEVICE_FEATURE_GET)
    assert errno_of(sriov.host.ioctl, physical.fd, abi.VFIO_DEVICE_FEATURE, bytearray(bytes(head) + token)) == "EINVAL"
    assert errno_of(sriov.host.ioctl, fd, abi.VFIO_DEVICE_FEATURE, bytearray(bytes(head) + token)) == "ENOTTY"


def test_a_token_that_nobody_wants(sriov: Pci) -> None:
    sriov.take("0060:00:00.0")
    assert errno_of(Device(sriov, "0060:00:00.0", get=False).get, f"0060:00:00.0 vf_token={TOKEN}") == "EINVAL"
    numvfs(sriov, "1")  # of virtio-pci, which has no tokens
    sriov.take("0070:00:00.1")
    virtual = Device(sriov, "0070:00:00.1", get=False)
    assert errno_of(virtual.get, f"0070:00:00.1 vf_token={TOKEN}") == "EINVAL"
    assert int(errno_of(virtual.get, "0070:00:00.1")) > 0


def test_no_binding_while_there_are_virtual_functions(sriov: Pci) -> None:
    vfio_physical(sriov)
    sriov.write(f"{VFIO}/unbind", BELL_PF)
    assert sriov.attr(BELL_PF, "sriov_numvfs") == "0"
    assert "0080:00:00.1" not in names(sriov)


def test_vfio_shows_the_capability(sriov: Pci) -> None:
    vfio_physical(sriov)
    device = Device(sriov, BELL_PF)
    assert device.read(4, 0x100) == bytes.fromhex("10000100")
    assert device.read(2, 0x10E) == b"\x02\0"
    device.write(b"\0\0", 0x108)  # read-only
    assert device.read(2, 0x108) == b"\x09\0"
    at = device.read(256, 0).index(b"\x10\x40", 0x40)
    device.write(b"\xff\xff", at + 8)
    assert device.read(2, at + 8) == b"\xff\x7d"  # neither phantom functions nor a reset that stays
    device.write(b"\0" * 4, 0x200)
    assert errno_of(device.read, 4, 0xFFE) == "EFAULT"


@pytest.mark.parametrize(
    "options", [{"total_vfs": -1}, {"total_vfs": 256}, {"total_vfs": 2, "vf_uid": 0xFFFF}, {"total_vfs": "two"}]
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    from pyvfio.errors import Misuse

    with pytest.raises(Misuse):
        Pci(FunctionSpec(0x70, 0x70, "virtio-bell", options=options))


def test_identifiers_that_are_taken() -> None:
    from pyvfio.errors import Misuse

    with pytest.raises(Misuse):
        Pci(FunctionSpec(0x70, 0x5F, "virtio-bell", options={"total_vfs": 1}))
