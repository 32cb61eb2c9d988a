"""The css and ccw buses, as a real kernel answered the same questions (6.12, virtio-ccw and a 3270 in a guest)."""

from __future__ import annotations

import errno
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from ccw_fixture import CCW, CSS, CcwHost, refused

from pyvfio.address import SubchannelId
from pyvfio.errors import Misuse
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.hardware.css import ControlUnit, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo
from pyvfio_backends.software.machine import Machine

RNG = "0.0.0004"
ONLINE = f"{RNG}/0.0.1000/online"
TERMINAL = "0.0.0006/0.0.000a"
DASD = "0.1.0001/0.1.013f"


@pytest.fixture
def host() -> Iterator[CcwHost]:
    with CcwHost() as host:
        yield host


# what is refused


@pytest.mark.parametrize("text", ["2", "abc", "-1", "\n", "1", "1\n", "0x1", "01", "force2"])
def test_online_refuses_what_is_no_change_or_no_number(host: CcwHost, text: str) -> None:
    with refused(errno.EINVAL):
        host.write(ONLINE, text)
    assert host.read(ONLINE) == "1\n"


@pytest.mark.parametrize("path", ["0.1.0000/0.1.0e00", "0.1.0003/0.1.1220"])
@pytest.mark.parametrize("text", ["0", "1"])
def test_online_needs_a_driver_that_switches(host: CcwHost, path: str, text: str) -> None:
    with refused(errno.EINVAL):
        host.write(f"{path}/online", text)


def test_offline_twice_is_refused(host: CcwHost) -> None:
    assert host.write(ONLINE, "0\n") == 2
    with refused(errno.EINVAL):
        host.write(ONLINE, "0")


@pytest.mark.parametrize(
    ("path", "text", "code"),
    [
        (f"{CSS}/drivers/io_subchannel/bind", RNG, errno.EBUSY),
        (f"{CSS}/drivers/vfio_ccw/bind", RNG, errno.EBUSY),
        (f"{CSS}/drivers/chsc_subchannel/bind", RNG, errno.ENODEV),
        (f"{CSS}/drivers/vfio_ccw/bind", "0.0.9999", errno.ENODEV),
        (f"{CSS}/drivers/vfio_ccw/unbind", RNG, errno.ENODEV),
        (f"{CCW}/drivers/3270/bind", "0.0.1000", errno.ENODEV),
        (f"{CCW}/drivers/virtio_ccw/unbind", "0.0.000a", errno.ENODEV),
        (f"{CCW}/drivers_probe", "0.0.9999", errno.ENODEV),
        (f"{RNG}/logging", "1", errno.EOPNOTSUPP),
        (f"{RNG}/0.0.1000/cmb_enable", "2", errno.EINVAL),
        (f"{RNG}/0.0.1000/cmb_enable", "x", errno.EINVAL),
        ("chp0.01/status", "xx", errno.EINVAL),
        ("chp0.01/status", " \n", errno.EINVAL),
        ("chp0.01/configure", "2", errno.EINVAL),
        ("chp0.01/configure", "1 2", errno.EINVAL),
        (f"{RNG}/uevent", "nonsense", errno.EINVAL),
        (f"{RNG}/uevent", "add ", errno.EINVAL),
        (f"{RNG}/uevent", "add fe4d7c9d", errno.EINVAL),
        (f"{RNG}/uevent", "add fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed A", errno.EINVAL),
    ],
)
def test_refused_writes(host: CcwHost, path: str, text: str, code: int) -> None:
    with refused(code):
        host.write(path, text)
    assert host.heard() == []


@pytest.mark.parametrize(("path", "code"), [("real_cssid", errno.EINVAL), ("chp0.00/configure", errno.EOPNOTSUPP)])
def test_refused_reads(host: CcwHost, path: str, code: int) -> None:
    with refused(code):
        host.read(path)


def test_an_override_excludes_other_drivers_and_does_not_bypass_the_type(host: CcwHost) -> None:
    host.write(f"{RNG}/driver_override", "vfio_ccw")
    host.write(f"{CSS}/drivers/io_subchannel/unbind", RNG)
    for driver in ("io_subchannel", "chsc_subchannel"):
        with refused(errno.ENODEV):
            host.write(f"{CSS}/drivers/{driver}/bind", RNG)
    host.write(f"{RNG}/driver_override", "chsc_subchannel")
    with refused(errno.ENODEV):
        host.write(f"{CSS}/drivers/chsc_subchannel/bind", RNG)
    host.write(f"{RNG}/driver_override", "vfio_ccw\n")
    assert host.write(f"{CSS}/drivers_probe", RNG) == 8
    assert host.driver(RNG) == "vfio_ccw"


def test_a_qdio_subchannel_is_not_for_vfio_ccw(host: CcwHost) -> None:
    host.write("0.1.0002/driver_override", "vfio_ccw")
    host.write(f"{CSS}/drivers/io_subchannel/unbind", "0.1.0002")
    with refused(errno.ENODEV):
        host.write(f"{CSS}/drivers/vfio_ccw/bind", "0.1.0002")
    assert host.driver("0.1.0002") is None


@pytest.mark.parametrize(
    "row",
    [
        SubchannelSpec("0.0.0000", "0.0.0001", "no such unit"),
        SubchannelSpec("0.0.0000", "0.0.0001", "echo", driver="no such driver"),
        SubchannelSpec("0.0.0000", "0.0.0001", "echo", options={"colour": "red"}),
        SubchannelSpec("0.0.0000", "0.0.0001", "echo", options={"size": "big"}),
        SubchannelSpec("0.0.fff0", "0.0.0001", "echo", count=17),
    ],
)
def test_a_machine_that_cannot_be(row: SubchannelSpec) -> None:
    with pytest.raises(Misuse):
        Machine(MachineSpec("bad", subchannels=[row]))


# what is done


def test_online_and_offline(host: CcwHost) -> None:
    child = "css0/0.0.0004/0.0.1000/virtio1"
    assert host.write(ONLINE, "0") == 1
    assert host.heard() == [f"unbind {child}", f"remove {child}"]
    assert host.names(f"{RNG}/0.0.1000") == [
        "availability", "cmb_enable", "cutype", "devtype", "driver", "modalias", "online", "subsystem", "uevent",
    ]  # fmt: skip
    assert host.write(ONLINE, "0x1") == 3
    assert host.heard() == [f"add {child}", f"bind {child}"]
    assert host.read(f"{RNG}/vpm") == "80\n"


@pytest.mark.parametrize("text", ["force\n", "force", "f"])
def test_force_is_no_error_on_an_online_device_and_sets_another_online(host: CcwHost, text: str) -> None:
    assert host.write(ONLINE, text) == len(text)
    assert host.heard() == []
    host.write(ONLINE, "0")
    assert host.write(ONLINE, text) == len(text)
    assert host.read(ONLINE) == "1\n"


def test_a_terminal_gets_its_nodes(host: CcwHost) -> None:
    assert host.read("0.0.0006/vpm") == "00\n"
    host.write(f"{TERMINAL}/online", "1")
    assert host.heard() == ["add virtual/tty/3270!tty1", "add virtual/3270/3270!tub1"]
    assert {"columns", "model", "rows"} <= set(host.names(TERMINAL))
    assert host.read("0.0.0006/vpm") == "80\n"
    host.write(f"{TERMINAL}/online", "0")
    assert host.heard() == ["remove virtual/tty/3270!tty1", "remove virtual/3270/3270!tub1"]
    assert "rows" not in host.names(TERMINAL)


def test_unbinding_a_ccw_driver_sets_offline_and_binding_sets_online_again(host: CcwHost) -> None:
    device = "css0/0.0.0004/0.0.1000"
    host.write(f"{CCW}/drivers/virtio_ccw/unbind", "0.0.1000")
    assert host.heard() == [f"unbind {device}/virtio1", f"remove {device}/virtio1", f"unbind {device}"]
    assert host.read(ONLINE) == "0\n"
    host.write(f"{CCW}/drivers/virtio_ccw/bind", "0.0.1000")
    assert host.heard() == [f"bind {device}", f"add {device}/virtio1", f"bind {device}/virtio1"]
    assert host.read(ONLINE) == "1\n"


def test_a_subchannel_that_is_given_back_is_recognised_again(host: CcwHost) -> None:
    host.take(RNG)
    host.heard()
    host.write(f"{CSS}/drivers/vfio_ccw/unbind", RNG)
    host.write(f"{RNG}/driver_override", "\n")
    assert host.heard() == ["change css0/0.0.0004", "unbind css0/0.0.0004"]
    host.write(f"{CSS}/drivers_probe", RNG)
    device = "css0/0.0.0004/0.0.1000"
    assert host.heard() == [
        "bind css0/0.0.0004", f"add {device}", f"bind {device}", f"add {device}/virtio1", f"bind {device}/virtio1",
    ]  # fmt: skip
    assert host.read(f"{device.removeprefix('css0/')}/cutype") == "3832/04\n"


def test_a_dasd_is_recognised_with_its_device_type_and_stays_offline(host: CcwHost) -> None:
    assert host.exists(f"{DASD}/block/dasda")
    host.take("0.1.0001")
    host.write(f"{CSS}/drivers/vfio_ccw/unbind", "0.1.0001")
    host.write("0.1.0001/driver_override", "\n")
    host.write(f"{CSS}/drivers/io_subchannel/bind", "0.1.0001")
    assert host.read(f"{DASD}/devtype") == "3390/0c\n"
    assert host.read(f"{DASD}/modalias") == "ccw:t3990mE9dt3390dm0C\n"
    assert host.read(f"{DASD}/online") == "0\n"
    host.write(f"{DASD}/online", "1")
    assert host.read("0.1.0001/vpm") == "c0\n"
    assert host.exists(f"{DASD}/block/dasda")


def test_varying_the_only_path_off_takes_the_device_away_until_it_is_on_again(host: CcwHost) -> None:
    device = "css0/0.0.0006/0.0.000a"
    assert host.write("chp0.01/status", "offline") == 7
    assert [line for line in host.heard() if "0.0.0006" in line] == [f"unbind {device}", f"remove {device}"]
    assert host.read("0.0.0006/pimpampom") == "80 80 ff\n"
    assert not host.exists("0.1.0000/0.1.0e00")
    host.write("chp0.01/status", "ON")
    assert [line for line in host.heard() if "0.0.0006" in line] == [f"add {device}", f"bind {device}"]
    assert host.read("chp0.01/status") == "online\n"


def test_a_driver_may_keep_a_device_that_lost_its_paths_or_its_subchannel(host: CcwHost) -> None:
    host.write("chp0.02/status", "offline")
    assert host.read("0.1.0001/vpm") == "40\n"
    host.write("chp0.03/status", "offline")
    assert host.read(f"{DASD}/availability") == "no path\n"
    host.write("chp0.02/status", "online")
    host.write("chp0.03/status", "online")
    assert (host.read(f"{DASD}/availability"), host.read("0.1.0001/vpm")) == ("good\n", "c0\n")
    host.heard()
    schid = SubchannelId(0, 1, 1)
    config = host.machine.css.config(schid)
    with host.machine.lock:
        host.machine.css.remove_subchannel(schid)
    host.settle()
    # There are higher numbers in the set, so the subchannel stays, without a device (as 6.12 did when QEMU removed one:
    # a chained pair of reports, STSCH stored a SCHIB without a device, the ccw device went).
    assert host.heard() == ["move css0/defunct/0.1.013f"]
    assert host.read("defunct/0.1.013f/availability") == "no device\n"
    with host.machine.lock:
        host.machine.css.add_subchannel(config, report=True)
    host.settle()
    assert host.heard() == ["move css0/0.1.0001/0.1.013f"]
    assert host.read(f"{DASD}/online") == "1\n"


def test_a_new_subchannel_is_found_by_its_report_or_by_a_rescan(host: CcwHost) -> None:
    def plug(number: int, *, report: bool) -> None:
        schid = SubchannelId(0, 2, number)
        config = SubchannelConfig(schid, 0x2000 + number, device=Echo())
        with host.machine.lock:
            host.machine.css.add_subchannel(config, report=report)
        host.settle()

    plug(0, report=True)
    assert host.heard() == ["add css0/0.2.0000", "bind css0/0.2.0000", "add css0/0.2.0000/0.2.2000"]
    plug(1, report=False)
    assert host.heard() == []
    assert host.write("rescan", "1") == 1
    assert host.heard() == ["add css0/0.2.0001", "bind css0/0.2.0001", "add css0/0.2.0001/0.2.2001"]
    with host.machine.lock:
        host.machine.css.remove_subchannel(SubchannelId(0, 2, 1))
        host.machine.css.remove_subchannel(SubchannelId(0, 2, 0))
    host.settle()
    assert host.heard() == [
        "remove css0/0.2.0001/0.2.2001", "unbind css0/0.2.0001", "remove css0/0.2.0001",
        "remove css0/0.2.0000/0.2.2000", "unbind css0/0.2.0000", "remove css0/0.2.0000",
    ]  # fmt: skip


def test_autoprobe_off_leaves_a_device_without_a_driver(host: CcwHost) -> None:
    host.write(f"{CCW}/drivers_autoprobe", "0")
    host.write(f"{CSS}/drivers/io_subchannel/unbind", RNG)
    host.write(f"{CSS}/drivers/io_subchannel/bind", RNG)
    assert host.driver(f"{RNG}/0.0.1000") is None
    host.write(f"{CCW}/drivers_probe", "0.0.1000")
    assert host.read(ONLINE) == "1\n"


def test_a_synthetic_event(host: CcwHost) -> None:
    assert host.write("0.0.0006/uevent", "add") == 3
    (event,) = host.events
    assert list(event.properties.items())[2:-1] == [
        ("SUBSYSTEM", "css"), ("SYNTH_UUID", "0"), ("DRIVER", "io_subchannel"), ("ST", "0"), ("MODALIAS", "css:t0"),
    ]  # fmt: skip
    host.write("0.0.0006/uevent", "change fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed A=1 B=abc\n")
    (event,) = host.events
    assert list(event.properties.items())[3:6] == [
        ("SYNTH_UUID", "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed"), ("SYNTH_ARG_A", "1"), ("SYNTH_ARG_B", "abc"),
    ]  # fmt: skip
    for path in ("uevent", "defunct/uevent", "chp0.00/uevent"):
        host.write(path, "add")
    assert host.heard() == []


def test_the_lab_names_what_the_real_one_has(host: CcwHost) -> None:
    assert host.names("/sys/bus/css/drivers/io_subchannel")[-3:] == ["bind", "uevent", "unbind"]
    assert {"0.0.1000", "0.0.1001", "0.0.f000"} < set(host.names(f"{CCW}/drivers/virtio_ccw"))
    assert host.host.readlink(f"{CCW}/devices/0.1.1222") == "../../../devices/css0/0.1.0005/0.1.1222"
    assert host.read("0.1.0001/chpids") == "02 03 00 00 00 00 00 00 \n"
    assert host.read("chp0.02/type") == "1b\n"


@contextmanager
def control_units() -> Iterator[list[ControlUnit]]:
    """Listens to control units that are built."""
    built: list[ControlUnit] = []
    inner = ControlUnit.__init__

    def listening(self: ControlUnit, *args: object, **names: object) -> None:
        built.append(self)
        inner(self, *args, **names)  # type: ignore[arg-type]

    with patch.object(ControlUnit, "__init__", listening):
        yield built


def test_many_subchannels_cost_nothing_until_they_are_looked_at() -> None:
    row = SubchannelSpec("0.0.0000", "0.0.0000", "dasd-3390", driver="dasd-eckd", online=True, count=1 << 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.monotonic()
    with CcwHost(MachineSpec("large", paths=[ChannelPathSpec(0)], subchannels=[row])) as host:
        assert len(host.names(f"{CSS}/devices")) == len(host.names(f"{CCW}/devices")) == 1 << 16
        assert len(host.names(f"{CSS}/drivers/io_subchannel")) == (1 << 16) + 3
        assert host.read("0.0.ffff/0.0.ffff/cutype") == "3990/e9\n"
        assert host.driver("0.0.8000/0.0.8000") == "dasd-eckd"
        assert host.exists(f"{CCW}/drivers/dasd-eckd/0.0.1234")
    assert time.monotonic() - begin < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_looking_at_disks_that_are_online_builds_no_control_unit() -> None:
    """What `lscss` and `ls -l` read of a volume is not on it; its disk comes when somebody looks below the device."""
    row = SubchannelSpec("0.0.0000", "0.0.0000", "dasd-3390", driver="dasd-eckd", online=True, count=100)
    with CcwHost(MachineSpec("large", paths=[ChannelPathSpec(0)], subchannels=[row])) as host, control_units() as built:
        for number in range(100):
            name = f"0.0.{number:04x}"
            assert (host.driver(name), host.driver(f"{name}/{name}")) == ("io_subchannel", "dasd-eckd")
            shown = [host.read(f"{name}/{file}") for file in ("chpids", "pimpampom", "vpm")]
            assert shown == ["00 00 00 00 00 00 00 00 \n", "80 80 ff\n", "80\n"]
            assert host.read(f"{name}/{name}/online") == "1\n"
        hardware = host.machine.css
        assert (built, hardware.built, host.names("/sys/block")) == ([], 0, [])
        pmcw = hardware.stsch(SubchannelId(0, 0, 7))[1].pmcw
        assert (pmcw.ena, pmcw.isc, pmcw.csense, pmcw.mp) == (True, 3, True, False)
        assert host.names("0.0.0007/0.0.0007/block") == ["dasda"]
        assert host.read("/sys/block/dasda/size") == f"{30051 * 15 * 12 * 8}\n"
        assert (len(built), hardware.built) == (1, 1)


def test_a_disk_that_nobody_has_looked_at_goes_offline_and_online() -> None:
    rows = [
        SubchannelSpec("0.0.0000", "0.0.0000", "dasd-3390", driver="dasd-eckd", online=True, count=100),
        SubchannelSpec("0.1.0000", "0.1.0000", "3270", driver="3270", online=True, count=100),
    ]
    with CcwHost(MachineSpec("large", paths=[ChannelPathSpec(0)], subchannels=rows)) as host:
        for device, below in (("0.0.0003/0.0.0003", "block"), ("0.1.0003/0.1.0003", "tty")):
            host.write(f"{device}/online", "0")
            assert (host.read(f"{device}/online"), host.exists(f"{device}/{below}")) == ("0\n", False)
            schid = SubchannelId.parse(device[:8])
            assert not host.machine.css.stsch(schid)[1].pmcw.ena
            host.write(f"{device}/online", "1")
            assert host.read(f"{device}/online") == "1\n"
        assert host.names("/sys/block") == host.names("0.0.0003/0.0.0003/block") == ["dasda"]
        assert host.names("/sys/class/tty") == ["3270!tty1", "console"]
        assert host.read("0.1.0005/0.1.0005/model") == "2\n"
