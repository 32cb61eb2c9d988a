"""A software machine as a guest: source document 002's listing, devices that come and go, nesting down to a program."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

import pyvfio
from pyvfio.channel_errors import UnitCheck
from pyvfio.css import Crw, Subchannel, Trace
from pyvfio.drivers import Dasd
from pyvfio.errors import PyvfioError, Timeout
from pyvfio_backends.software import Machine, SoftwareBackend
from pyvfio_backends.software.guest import GuestMachine
from pyvfio_tools.lscss import table

DISK, ECHO = "0.0.013f", "0.0.0e00"


@dataclass
class Pair:
    """A host and the guest on it."""

    host: pyvfio.Host
    machine: GuestMachine
    guest: pyvfio.Host
    trace: Trace

    def give(self, number: str, guest: str, schid: str | None = None) -> None:
        pyvfio.ccw_take(self.host, number)
        self.machine.attach(pyvfio.open_device(self.host, number), guest, schid=schid)

    def listed(self) -> list[str]:
        return [line.rstrip() for line in table(self.guest)][2:]

    @property
    def hardware(self) -> Machine:
        backend = self.host.backend
        assert isinstance(backend, SoftwareBackend)
        return backend.machine


@contextmanager
def pair_of() -> Iterator[Pair]:
    with ExitStack() as stack:
        host = stack.enter_context(pyvfio.Host("software", machine="z15-lpar"))
        trace = Trace()
        machine = GuestMachine(trace=trace)
        guest = stack.enter_context(pyvfio.Host(SoftwareBackend(machine)))
        stack.callback(machine.close)
        yield Pair(host, machine, guest, trace)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pair_of() as made:
        yield made


def test_the_listing_of_the_document(pair: Pair) -> None:
    pair.give(DISK, "0.0.1234", "0.0.1234")
    assert pair.listed() == [
        "0.0.0000 0.0.0000  0000/00 3832/01 yes  80  80  ff   00000000 00000000",
        "0.0.0001 0.0.0001  0000/00 3832/02 yes  80  80  ff   00000000 00000000",
        "0.0.1234 0.0.1234  3390/0c 3990/e9      f0  f0  ff   42434445 00000000",
    ]
    assert pair.trace.names[:2] == ["Q1", "Q2"]
    assert pair.trace.names[2:7] == ["Q3", "Q4", "Q5", "Q6", "Q7"]


def test_devices_come_and_go(pair: Pair) -> None:
    pair.give(ECHO, "0.0.2000")
    assert len(pair.listed()) == 3
    (schid,) = pair.machine.guest_css.schids()
    pair.machine.detach(schid)
    assert len(pair.listed()) == 2


def test_the_host_takes_its_device_back(pair: Pair) -> None:
    pair.give(ECHO, "0.0.2000")
    thread = threading.Thread(target=pair.host.mdevs()[0].remove)
    thread.start()
    while pair.machine.guest_css.schids():
        pair.machine.guest_css.wait(0.1)
        pair.machine.look()
    thread.join(10)
    assert not thread.is_alive()
    pair.machine.look()
    assert len(pair.listed()) == 2


def test_a_path_goes_and_the_guest_lists_it(pair: Pair) -> None:
    pair.give(DISK, "0.0.1234")
    with pair.hardware.lock:
        pair.hardware.css.set_path_online(0, 0x43, False)
        pair.hardware.clock.settle()
    assert pair.machine.look()
    (line,) = [line for line in pair.listed() if "1234" in line]
    assert "f0  b0  ff" in line


def test_a_report_of_the_hypervisors_own(pair: Pair) -> None:
    pair.give(ECHO, "0.0.2000")
    pair.machine.inject(Crw(rsc=4, erc=2, rsid=0x42))
    assert pair.machine.guest_css.stcrw() is None  # the guest's Linux has taken it


def test_a_program_of_the_guest_drives_it(pair: Pair) -> None:
    """Through two kernels: errors, data that span pages, a program that is given up."""
    pair.give(ECHO, "0.0.2000")
    pyvfio.ccw_take(pair.guest, "0.0.2000")
    with Subchannel.open(pair.guest, "0.0.2000") as subchannel:
        assert subchannel.name == "0.0.2000"
        data = os.urandom(10_000)
        subchannel.write(data)
        assert subchannel.read(10_000) == data
        with pytest.raises(UnitCheck, match="command reject"):
            subchannel.run([pyvfio.Control(0x77)])
        with pytest.raises(Timeout, match=r"was (halted|cleared)"):
            subchannel.run([pyvfio.Control(3), pyvfio.Tic(0)], timeout=0.1)
        assert subchannel.read(10_000) == data


def test_the_disk_in_the_guest(pair: Pair) -> None:
    pair.give(DISK, "0.0.1234", "0.0.1234")
    pair.guest.ccw_device("0.0.1234").set_online(True)
    assert any("yes" in line for line in pair.listed() if "1234" in line)
    pair.guest.ccw_device("0.0.1234").set_online(False)
    pyvfio.ccw_take(pair.guest, "0.0.1234")
    with Subchannel.open(pair.guest, "0.0.1234") as subchannel, Dasd(subchannel, name="0.0.1234") as disk:
        new = "dasd-eckd 0.0.1234: New DASD 3390/0C (CU 3990/01) with 30051 cylinders, 15 heads, 224 sectors"
        assert new in disk.messages()
        assert disk.label is not None
        assert disk.label.volser == "0X3F3F"


def test_a_guest_of_a_guest_of_a_guest(pair: Pair) -> None:
    pair.give(ECHO, "0.0.2000")
    pyvfio.ccw_take(pair.guest, "0.0.2000")
    inner = GuestMachine()
    try:
        inner.attach(pyvfio.open_device(pair.guest, "0.0.2000"), "0.0.3000")
        with pyvfio.Host(SoftwareBackend(inner)) as host:
            assert any(line.startswith("0.0.3000") for line in table(host))
            pyvfio.ccw_take(host, "0.0.3000")
            with Subchannel.open(host, "0.0.3000") as subchannel:
                subchannel.write(b"deep")
                assert subchannel.read(4) == b"deep"
    finally:
        inner.close()


def test_nothing_is_left_behind() -> None:
    def count() -> tuple[int, int]:
        gc.collect()  # what earlier tests left is not this one's
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with pair_of() as made:
        made.give(ECHO, "0.0.2000")
    before = count()
    for _ in range(2):
        with pair_of() as made:
            made.give(ECHO, "0.0.2000")
            made.machine.look()
    assert count() == before


def test_errors_are_the_guests(pair: Pair) -> None:
    pair.give(ECHO, "0.0.2000")
    with pytest.raises(PyvfioError) as caught:
        pyvfio.open_device(pair.guest, "0.0.2000")
    assert "0.0.2000" in str(caught.value)
