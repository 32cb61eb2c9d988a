"""Channel paths as Linux sees them on a machine that tells of them (``chp.c``, ``chsc.c``, ``css.c``)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest
from ccw_fixture import CSS, CcwHost, lab_spec, refused

from pyvfio.address import SubchannelId
from pyvfio.css.crw import Crw
from pyvfio.css.sei import Configure, EventContent, Sei
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, OtherSubchannelSpec, SubchannelSpec
from pyvfio_backends.software.hardware.css import ChannelPath, SubchannelConfig
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390
from pyvfio_backends.software.hardware.devices.echo import Echo
from pyvfio_backends.software.usage import HostSpec

DASD = "0.0.0000/0.0.0100"
ECHO = "0.0.0010/0.0.0200"
MANY = MachineSpec(
    "mainframe",
    paths=[
        ChannelPathSpec(0x40, shared=True, cmg=2, speed=8 * 10**9, chid=0x1A0),
        ChannelPathSpec(0x41),
        ChannelPathSpec(0x42, online=False),
    ],
    subchannels=[
        SubchannelSpec(
            "0.0.0000", "0.0.0100", "dasd-3390", (0x40, 0x41), 0xC0, 0xC0, driver="dasd-eckd", online=True, count=3
        ),
        SubchannelSpec("0.0.0010", "0.0.0200", "echo", (0x41,)),
    ],
    others=[
        OtherSubchannelSpec("0.0.0020", "chsc"),
        OtherSubchannelSpec("0.0.0028", "message"),
        OtherSubchannelSpec("0.0.0030", "adm", 2),
    ],
)


@pytest.fixture
def host() -> Iterator[CcwHost]:
    with CcwHost(MANY) as host:
        yield host


# what is refused


@pytest.mark.parametrize("text", ["2", "x", "-1", "0 1", "\n"])
def test_cm_enable_refuses(host: CcwHost, text: str) -> None:
    with refused(errno.EINVAL):
        host.write("cm_enable", text)
    assert host.read("cm_enable") == "0\n"


@pytest.mark.parametrize("name", ["cm_enable", "chp0.40/measurement"])
def test_a_hypervisor_does_not_measure_paths(name: str) -> None:
    with CcwHost() as virtual:
        assert not virtual.exists(name)


# what is shown


def test_what_the_machine_tells(host: CcwHost) -> None:
    names = ("type", "chid", "chid_external", "cmg", "shared", "speed_bps", "esc", "configure", "status")
    assert [host.read(f"chp0.40/{name}") for name in names] == [
        "1b\n", "01a0\n", "0\n", "2\n", "1\n", "8G\n", "0\n", "1\n", "online\n",
    ]  # fmt: skip
    assert [host.read(f"chp0.41/{name}") for name in names] == [
        "1b\n", "", "", "unknown\n", "unknown\n", "0\n", "0\n", "1\n", "online\n",
    ]  # fmt: skip
    assert host.read("chp0.42/configure") == "0\n"
    assert host.read("chp0.42/status") == "online\n"
    assert host.read("real_cssid") == "0\n"


def test_measurement_of_paths(host: CcwHost) -> None:
    assert host.write("cm_enable", "1") == 1
    assert {"measurement", "measurement_chars", "ext_measurement"} <= set(host.names("chp0.40"))
    stat = host.host.lstat(host.path("chp0.40/measurement"))
    assert (stat.st_mode & 0o777, stat.st_size) == (0o400, 32)
    fd = host.host.open(host.path("chp0.40/measurement"), os.O_RDONLY)
    assert host.host.pread(fd, 31, 0) == b""  # only as a whole
    assert host.host.pread(fd, 100, 0) == bytes(32)
    assert host.host.pread(fd, 100, 1) == b""
    host.host.close(fd)
    assert host.write("cm_enable", "1") == 1
    assert host.write("cm_enable", "0") == 1
    assert not host.exists("chp0.40/measurement")


def test_logging(host: CcwHost) -> None:
    assert host.write("0.0.0000/logging", "1") == 1


# configure


def test_a_path_that_is_given_back_and_taken_again(host: CcwHost) -> None:
    assert host.write("chp0.40/configure", "0\n") == 2
    assert host.read("chp0.40/configure") == "0\n"
    assert (host.read("0.0.0000/pimpampom"), host.read("0.0.0000/vpm")) == ("c0 40 ff\n", "40\n")
    assert host.read(f"{DASD}/availability") == "good\n"
    assert host.write("chp0.40/configure", "0") == 1
    host.write("chp0.40/configure", "1")
    assert (host.read("0.0.0000/pimpampom"), host.read("0.0.0000/vpm")) == ("c0 c0 ff\n", "c0\n")


def test_the_last_path_of_devices(host: CcwHost) -> None:
    for chpid in ("40", "41"):
        host.write(f"chp0.{chpid}/configure", "0")
    assert host.read(f"{DASD}/availability") == "no path\n"
    assert not host.exists(ECHO)
    for chpid in ("40", "41"):
        host.write(f"chp0.{chpid}/configure", "1")
    assert (host.read(f"{DASD}/availability"), host.read("0.0.0000/vpm")) == ("good\n", "c0\n")
    assert host.exists(ECHO)


@pytest.mark.parametrize(
    ("wish", "shown"),
    [(Configure.DECONFIGURE, "0\n"), (Configure.CONFIGURE, "1\n"), (Configure.CANCEL_DECONFIGURE, "1\n")],
)
def test_an_operators_wish(host: CcwHost, wish: Configure, shown: str) -> None:
    with host.machine.lock:
        host.machine.css.request_path(0, 0x40, wish)
    host.settle()
    assert host.read("chp0.40/configure") == shown
    assert host.read("0.0.0000/vpm") == ("40\n" if shown == "0\n" else "c0\n")


# vary


def test_a_path_that_is_varied_off_stays_off_when_the_machine_has_it_again(host: CcwHost) -> None:
    host.write("chp0.40/status", "offline")
    assert (host.read("0.0.0000/pimpampom"), host.read("0.0.0000/vpm")) == ("c0 c0 ff\n", "40\n")
    with host.machine.lock:
        host.machine.css.set_path_online(0, 0x40, False)
        host.machine.css.set_path_online(0, 0x40, True)
    host.settle()
    assert host.read("0.0.0000/vpm") == "40\n"
    host.write("chp0.40/status", "online")
    assert host.read("0.0.0000/vpm") == "c0\n"


def test_only_the_subchannels_of_a_path_are_built(host: CcwHost) -> None:
    host.write("chp0.42/status", "off")
    assert host.machine.kernel.buses["css"].devices.keys().isdisjoint({"0.0.0010"})


# events and reports


def test_a_new_path_comes_with_an_event(host: CcwHost) -> None:
    with host.machine.lock:
        host.machine.css.add_path(ChannelPath(0x50), report=True)
    host.settle()
    assert host.read("chp0.50/status") == "online\n"
    with host.machine.lock:
        host.machine.css.add_path(ChannelPath(0x51))
        bits = bytearray(32)
        bits[0x51 // 8] |= 0x80 >> 0x51 % 8
        host.machine.css.inject_event(Sei(EventContent.PATH_AVAILABILITY, ccdf=bytes(bits)))
    host.settle()
    assert host.exists("chp0.51")


def test_resources_that_become_accessible(host: CcwHost) -> None:
    with host.machine.lock:
        host.machine.css.break_path(0, 0x40)
    host.write("chp0.40/status", "off")
    host.write("chp0.40/status", "on")
    assert host.read("0.0.0000/vpm") == "40\n"
    with host.machine.lock:
        host.machine.css.repair_path(0, 0x40)
        host.machine.css.inject_event(Sei(EventContent.RESOURCE_ACCESSIBILITY, rs=4, rsid=0x40))
    host.settle()
    assert host.read("0.0.0000/vpm") == "c0\n"


def test_an_overflow_has_everything_looked_at(host: CcwHost) -> None:
    config = SubchannelConfig(SubchannelId(0, 1, 0), 0x300, device=Echo())
    with host.machine.lock:
        host.machine.css.add_subchannel(config)
        host.machine.css.inject_report(Crw(rsc=3, erc=4, oflw=True))
    host.settle()
    assert host.exists("0.1.0000/0.1.0300")


def test_an_overflow_in_the_second_word_has_everything_looked_at(host: CcwHost) -> None:
    """The report that was lost is the one that only the last word tells of."""
    config = SubchannelConfig(SubchannelId(0, 1, 0), 0x300, device=Echo())
    with host.machine.lock:
        host.machine.css.add_subchannel(config)
        host.machine.css.inject_report(Crw(rsc=3, erc=4, chn=True), Crw(rsc=3, erc=4, oflw=True))
    host.settle()
    assert host.exists("0.1.0000/0.1.0300")


def test_a_chain_of_reports_that_breaks_off_takes_none_that_follows(host: CcwHost) -> None:
    config = SubchannelConfig(SubchannelId(0, 0, 0x50), 0x300, device=Echo())
    with host.machine.lock:
        host.machine.css.inject_report(Crw(rsc=3, erc=4, rsid=0x99, chn=True))
    host.settle()
    with host.machine.lock:
        host.machine.css.add_subchannel(config, report=True)
    host.settle()
    assert host.exists("0.0.0050/0.0.0300")


def test_more_than_two_chained_words_are_passed_over(host: CcwHost) -> None:
    configs = [SubchannelConfig(SubchannelId(0, 0, 0x50 + at), 0x300 + at, device=Echo()) for at in range(2)]
    with host.machine.lock:
        for config in configs:
            host.machine.css.add_subchannel(config)
        word = Crw(rsc=3, erc=4, chn=True)
        host.machine.css.inject_report(word, word, Crw(rsc=3, erc=4, rsid=0x50))
        host.machine.css.inject_report(Crw(rsc=3, erc=4, rsid=0x51))
    host.settle()
    assert not host.exists("0.0.0050/0.0.0300")
    assert host.exists("0.0.0051/0.0.0301")


def test_a_report_of_a_path_with_more_than_its_number(host: CcwHost) -> None:
    """The kernel keeps the lowest eight bits."""
    with host.machine.lock:
        host.machine.css.add_path(ChannelPath(0x51))
        host.machine.css.inject_report(Crw(rsc=4, erc=2, rsid=0x3151))
    host.settle()
    assert host.exists("chp0.51")


def test_a_solicited_report_of_a_path_is_nothing_new(host: CcwHost) -> None:
    with host.machine.lock:
        host.machine.css.inject_report(Crw(rsc=4, erc=6, rsid=0x40, slct=True))
    host.settle()
    assert host.read("0.0.0000/vpm") == "c0\n"


# other types of subchannels


@pytest.mark.parametrize(
    ("name", "kind", "driver"), [("0.0.0020", 1, "chsc_subchannel"), ("0.0.0031", 3, "eadm_subchannel")]
)
def test_other_types(host: CcwHost, name: str, kind: int, driver: str) -> None:
    assert host.names(name) == ["driver", "driver_override", "modalias", "subsystem", "type", "uevent"]
    assert (host.read(f"{name}/type"), host.read(f"{name}/modalias")) == (f"{kind}\n", f"css:t{kind}\n")
    assert host.driver(name) == driver
    assert host.read(f"{name}/uevent") == f"DRIVER={driver}\nST={kind}\nMODALIAS=css:t{kind}\n"
    for other in ("vfio_ccw", "io_subchannel"):
        with refused(errno.ENODEV):
            host.write(f"{CSS}/drivers/{other}/bind", name)
    host.write(f"{CSS}/drivers/{driver}/unbind", name)
    _, schib = host.machine.css.stsch(SubchannelId(0, 0, int(name[-4:], 16)))
    assert schib is not None
    assert not schib.pmcw.ena
    host.write(f"{CSS}/drivers_probe", name)
    assert host.driver(name) == driver
    assert host.write("rescan", "1") == 1
    assert host.exists(name)


def test_a_message_subchannel_has_no_driver(host: CcwHost) -> None:
    assert host.names("0.0.0028") == ["driver_override", "modalias", "subsystem", "type", "uevent"]
    assert (host.read("0.0.0028/type"), host.read("0.0.0028/uevent")) == ("2\n", "ST=2\nMODALIAS=css:t2\n")
    host.write(f"{CSS}/drivers_probe", "0.0.0028")
    assert host.driver("0.0.0028") is None


def test_an_adm_subchannel_that_goes(host: CcwHost) -> None:
    with host.machine.lock:
        host.machine.css.remove_subchannel(SubchannelId(0, 0, 0x30))
    host.settle()
    assert host.heard() == ["unbind css0/0.0.0030", "remove css0/0.0.0030"]


def test_the_module_of_its_driver(host: CcwHost) -> None:
    assert host.names("/sys/module/eadm_sch/drivers") == ["css:eadm_subchannel"]
    with CcwHost() as without:
        assert not without.exists(f"{CSS}/drivers/eadm_subchannel")


# devices that are ignored


def test_ignored_from_the_boot_on() -> None:
    words = HostSpec(cmdline="root=/dev/ram cio_ignore=all,!0.0.1000,!0.1.013f ro")
    with CcwHost(lab_spec(host=words)) as host:
        assert host.names("/sys/bus/ccw/devices") == ["0.0.1000", "0.1.013f"]
        assert host.names("/sys/bus/css/devices") == ["0.0.0004", "0.1.0001"]
        assert not host.exists("0.0.0005")
        assert not host.exists(f"{CSS}/devices/0.0.0005")
        assert not host.exists("chp0.01")
        assert host.read("/proc/cmdline").split()[1] == "cio_ignore=all,!0.0.1000,!0.1.013f"
        host.write("/proc/cio_ignore", "free 0.0.000a,0.1.1700")
        assert {"0.0.000a", "0.1.1700"} <= set(host.names("/sys/bus/ccw/devices"))
        assert host.read("chp0.01/status") == "online\n"
        assert host.driver("0.0.0006/0.0.000a") == "3270"


def test_purging_devices_that_nobody_has_looked_at() -> None:
    row = SubchannelSpec("0.0.0000", "0.0.0000", "dasd-3390", driver="dasd-eckd", count=100)
    with CcwHost(MachineSpec("large", paths=[ChannelPathSpec(0)], subchannels=[row])) as host:
        host.write("/proc/cio_ignore", "add 10-1f")
        host.write("/proc/cio_ignore", "purge")
        assert len(host.names("/sys/bus/ccw/devices")) == len(host.names("/sys/bus/css/devices")) == 84
        host.write("/proc/cio_ignore", "free all")
        assert len(host.names("/sys/bus/ccw/devices")) == 100


def test_linux_sets_the_path_group_once_and_only_where_it_is_not_set(host: CcwHost) -> None:
    host.write(f"{DASD}/online", "0")
    unit = host.machine.css.config(SubchannelId(0, 0, 0)).device
    assert isinstance(unit, Dasd3390)
    orders: list[str] = []
    inner = unit.subsystem._group.set

    def listening(raw: bytes, path: int) -> bool:
        orders.append(f"{raw[0]:02x} on {path:02x}")
        return inner(raw, path)

    unit.subsystem._group.set = listening  # type: ignore[method-assign]
    host.write(f"{DASD}/online", "1")
    assert orders == ["80 on 80", "80 on 40"]
    host.write("chp0.41/status", "0")
    assert orders[2:] == ["c0 on 40"]
    host.write("chp0.41/status", "1")
    assert orders[3:] == ["80 on 40"]
    assert host.read("0.0.0000/vpm") == "c0\n"


def test_a_disk_that_another_system_reserved_is_boxed_until_it_is_taken(host: CcwHost) -> None:
    host.write(f"{DASD}/online", "0")
    unit = host.machine.css.config(SubchannelId(0, 0, 0)).device
    assert isinstance(unit, Dasd3390)
    unit.reserve_elsewhere()
    with refused(errno.ENODEV):
        host.write(f"{DASD}/online", "1")
    assert host.read(f"{DASD}/availability") == "boxed\n"
    host.write(f"{DASD}/online", "force")
    assert (host.read(f"{DASD}/online"), host.read(f"{DASD}/availability")) == ("1\n", "good\n")
