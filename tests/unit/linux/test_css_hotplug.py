"""Devices that are plugged in and out, as a 6.12 kernel followed it (QEMU's ``device_add`` and ``device_del``)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ccw_fixture import CCW, CSS, CcwHost, Channel

from pyvfio.address import SubchannelId
from pyvfio_backends.software.hardware.css import SubchannelConfig
from pyvfio_backends.software.loader import find_machine, load_machine
from pyvfio_backends.software.units import UNITS

SCHID = SubchannelId(0, 0, 7)
NAME = "0.0.0007"
SUBCHANNEL = f"css0/{NAME}"


@pytest.fixture
def host() -> Iterator[CcwHost]:
    """The guest in which the events were seen, with one free subchannel number behind the others."""
    with CcwHost(load_machine(find_machine("lab-s390x"))) as host:
        if host.exists(NAME):
            pytest.skip("the machine has another subchannel there")
        yield host


def plug(host: CcwHost, devno: int) -> list[str]:
    with host.machine.lock:
        host.machine.css.add_subchannel(
            SubchannelConfig(SCHID, devno, device=UNITS["virtio-rng"].make({})), report=True
        )
    host.settle()
    return host.heard()


def unplug(host: CcwHost) -> list[str]:
    with host.machine.lock:
        host.machine.css.remove_subchannel(SCHID)
    host.settle()
    return host.heard()


def virtio(host: CcwHost, devno: int) -> str:
    (child,) = (name for name in host.names(f"{NAME}/0.0.{devno:04x}") if name.startswith("virtio"))
    return f"{SUBCHANNEL}/0.0.{devno:04x}/{child}"


def came(device: str) -> list[str]:
    return [f"add {SUBCHANNEL}", f"bind {SUBCHANNEL}", f"add {device}", f"bind {device}"]


def went(device: str) -> list[str]:
    return [f"unbind {device}", f"remove {device}", f"unbind {SUBCHANNEL}", f"remove {SUBCHANNEL}"]


def test_an_online_device(host: CcwHost) -> None:
    device = f"{SUBCHANNEL}/0.0.2000"
    heard = plug(host, 0x2000)
    child = virtio(host, 0x2000)
    assert heard == [*came(device), f"add {child}", f"bind {child}"]
    assert (host.read(f"{NAME}/0.0.2000/online"), host.read(f"{NAME}/vpm")) == ("1\n", "80\n")
    assert unplug(host) == [f"unbind {child}", f"remove {child}", *went(device)]
    assert not host.exists(NAME)


def test_an_offline_device(host: CcwHost) -> None:
    plug(host, 0x2001)
    host.write(f"{NAME}/0.0.2001/online", "0")
    host.heard()
    assert unplug(host) == went(f"{SUBCHANNEL}/0.0.2001")


def test_an_ignored_device_until_it_is_freed(host: CcwHost) -> None:
    host.write("/proc/cio_ignore", "add 2001")
    assert plug(host, 0x2001) == []
    assert not host.exists(NAME)
    host.write("/proc/cio_ignore", "free all")
    child = virtio(host, 0x2001)
    assert host.heard() == [*came(f"{SUBCHANNEL}/0.0.2001"), f"add {child}", f"bind {child}"]


def test_without_a_ccw_driver(host: CcwHost) -> None:
    host.write(f"{CCW}/drivers_autoprobe", "0")
    device = f"{SUBCHANNEL}/0.0.2002"
    assert plug(host, 0x2002) == [f"add {SUBCHANNEL}", f"bind {SUBCHANNEL}", f"add {device}"]
    assert unplug(host) == [f"remove {device}", f"unbind {SUBCHANNEL}", f"remove {SUBCHANNEL}"]


def test_without_a_css_driver_the_subchannel_stays_until_one_looks(host: CcwHost) -> None:
    host.write(f"{CSS}/drivers_autoprobe", "0")
    assert plug(host, 0x2003) == [f"add {SUBCHANNEL}"]
    assert host.names(NAME) == [
        "chpids", "dev_busid", "driver_override", "modalias", "pimpampom", "subsystem", "type", "uevent",
    ]  # fmt: skip
    assert unplug(host) == []
    assert (host.read(f"{NAME}/dev_busid"), host.read(f"{NAME}/pimpampom")) == ("0.0.2003\n", "80 80 ff\n")
    host.write(f"{CSS}/drivers_probe", NAME)
    assert host.heard() == [f"bind {SUBCHANNEL}", f"unbind {SUBCHANNEL}", f"remove {SUBCHANNEL}"]
    assert not host.exists(NAME)


def test_under_vfio_ccw_without_a_mediated_device_the_subchannel_stays(host: CcwHost) -> None:
    plug(host, 0x2004)
    host.take(NAME)
    assert host.heard()[-3:] == [f"unbind {SUBCHANNEL}", f"change {SUBCHANNEL}", f"bind {SUBCHANNEL}"]
    assert unplug(host) == []
    assert (host.driver(NAME), host.read(f"{NAME}/dev_busid")) == ("vfio_ccw", "0.0.2004\n")
    assert plug(host, 0x2005) == []
    assert host.read(f"{NAME}/dev_busid") == "0.0.2005\n"


def test_another_device_while_a_mediated_one_is_there(host: CcwHost) -> None:
    """The subchannel is not operational, so it goes with what is on it (``vfio_ccw_sch_event``, ``fsm_notoper``)."""
    plug(host, 0x2006)
    host.take(NAME)
    host.create(NAME)
    host.heard()
    gone = unplug(host)
    assert gone[-2:] == [f"unbind {SUBCHANNEL}", f"remove {SUBCHANNEL}"]
    assert not host.exists(NAME)
    assert plug(host, 0x2006)[:2] == [f"add {SUBCHANNEL}", f"bind {SUBCHANNEL}"]


def test_a_subchannel_that_comes_again_while_the_old_device_is_open() -> None:
    """Its name is taken as long as the program has it (``device_add``: EEXIST); a rescan finds it then."""
    with CcwHost() as host:
        plug(host, 0x2007)
        host.take(NAME)
        host.create(NAME)
        channel = Channel(host.host)
        host.heard()
        assert [line.rsplit("/", 1)[-1] for line in unplug(host)] == ["vfio0"]
        assert channel.request.read() >= 1
        assert plug(host, 0x2008) == []
        channel.close_device()
        channel.close()
        host.settle()
        assert host.heard()[-2:] == [f"unbind {SUBCHANNEL}", f"remove {SUBCHANNEL}"]
        assert not host.exists(NAME)
        host.write("rescan", "1")
        assert host.read(f"{NAME}/dev_busid") == "0.0.2008\n"
