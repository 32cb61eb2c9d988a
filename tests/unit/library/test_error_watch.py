"""The watch for errors of the hardware: what it tells on the software machine, and how it ends."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import gc
import os
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import pyvfio
from pyvfio.errors import Misuse, Timeout
from pyvfio.host import Host
from pyvfio.pci.aer import Severity
from pyvfio.pci.device_error import DeviceError, describe
from pyvfio.pci.error_state import TreeErrors
from pyvfio.vfio import Device
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import MachineSpec, PcieFunctionSpec
from pyvfio_backends.software.loader import find_machine, load_machine

NET, PORT = "0000:0d:00.0", "0000:00:0f.0"
PACKET = (0x40000001, 0x0D00000F, 0xFEE00000, 0)


def containing() -> MachineSpec:
    """lab-x86 with a port that contains errors above `NET`."""
    spec = load_machine(find_machine("lab-x86"))
    functions = [
        dataclasses.replace(one, options={"containment": True}) if one.id == "rpg" else one
        for one in spec.pcie_functions
    ]
    assert all(isinstance(one, PcieFunctionSpec) for one in functions)
    return dataclasses.replace(spec, pcie_functions=functions)


@pytest.fixture
def host() -> Iterator[Host]:
    with pyvfio.Host("software", machine="lab-x86") as one:
        yield one


@pytest.fixture
def machine(host: Host) -> Any:
    return software_of(host.backend).machine


@pytest.fixture
def device(host: Host) -> Iterator[Device]:
    pyvfio.bind(host.function(NET))
    with pyvfio.open_device(host, NET) as one:
        yield one


def test_all_that_is_known_of_an_error(machine: Any, device: Device) -> None:
    with device.errors() as errors:
        assert errors.poll() is None
        machine.errors.inject(NET, "POISON_TLP", header=PACKET, prefix=(0x80000001,))
        error = errors.poll()
    assert error is not None
    assert (error.device, error.source, error.severity, error.outcome) == (NET, NET, Severity.NONFATAL, "recovered")
    assert [one.name for one in error.errors] == ["TLP"]
    assert error.first is error.errors[0]
    assert error.header is not None
    assert (error.header.address, error.header.requester) == (0xFEE00000, 0x0D00)
    assert error.prefix == (0x80000001, 0, 0, 0)
    assert (error.answers, error.reset, error.containment) == (True, False, None)
    assert error.counters == {
        (PORT, "nonfatal", "messages"): (0, 1),
        (NET, "nonfatal", "TLP"): (0, 1),
    }
    assert error.log[0] == f"pcieport {PORT}: AER: Uncorrectable (Non-Fatal) error message received from {NET}"
    plain = error.as_dict()
    assert (plain["severity"], plain["first"], plain["prefix"][0]) == ("nonfatal", "TLP", "80000001")  # type: ignore[index]


def test_a_contained_error_tells_why(host: Host) -> None:
    with pyvfio.Host("software", machine=containing()) as other:
        pyvfio.bind(other.function(NET))
        with pyvfio.open_device(other, NET) as device, device.errors() as errors:
            software_of(other.backend).machine.errors.inject(NET, "MALF_TLP", header=PACKET)
            error = errors.wait(5)
            assert error.containment == "ERR_FATAL from 0d:00.0"
            assert (error.source, error.severity, error.outcome) == (NET, Severity.FATAL, "recovered")
            assert [one.name for one in error.errors] == ["MalfTLP"]
            assert (error.answers, error.reset) == (True, True)
            assert error.counters == {}  # no message came to the root port
            software_of(other.backend).machine.errors.trigger_containment(PORT)
            again = errors.wait(5)
            assert (again.containment, again.source, again.errors) == ("software", PORT, ())


def test_the_error_of_another_function_below_the_same_port(host: Host, machine: Any) -> None:
    """Everybody below the port is told; the library says whose error it was."""
    first, second = "0000:0c:00.0", "0000:0c:00.1"
    for name in (first, second):
        pyvfio.bind(host.function(name))
    with pyvfio.open_device(host, second) as device, device.errors() as errors:
        from pyvfio.pci.aer import find_error
        from pyvfio.pci.aer_inject import inject_errors

        inject_errors(host.sysfs, host.function(first).address, [find_error("CmpltTO")])
        error = errors.wait(5)
    assert (error.device, error.source) == (second, first)
    assert [one.name for one in error.errors] == ["CmpltTO"]
    assert str(error).startswith(f"{second}: nonfatal error (CmpltTO) of {first}")


def test_only_a_function_of_pci_express_has_errors(host: Host) -> None:
    pyvfio.bind(host.function("0000:00:06.0"))
    with pyvfio.open_device(host, "0000:00:06.0") as device:
        assert device.error is None
        with pytest.raises(Misuse, match="only a function of PCI Express"):
            device.errors()


def test_one_watch_at_a_time(machine: Any, device: Device) -> None:
    with device.errors() as errors:
        with pytest.raises(Misuse, match="it is enabled"):
            device.errors()
        machine.errors.inject(NET, "COMP_TIME")
        assert errors.wait(5).severity is Severity.NONFATAL
        errors.close()
        errors.close()
    with device.on_error(lambda error: None) as pushed:
        for call in (pushed.poll, pushed.wait):
            with pytest.raises(Misuse, match="has a thread that waits"):
                call()


def test_nothing_comes(device: Device) -> None:
    with device.errors() as errors, pytest.raises(Timeout):
        errors.wait(0.01)


def test_it_can_be_polled_with_others(machine: Any, device: Device) -> None:
    with device.errors() as errors:
        assert select.select([errors], [], [], 0)[0] == []
        machine.errors.inject(NET, "COMP_TIME")
        assert select.select([errors], [], [], 5)[0] == [errors]
        assert errors.wait(0).outcome == "recovered"
        machine.errors.inject(NET, "COMP_TIME")
        assert [next(iter(errors)).severity] == [Severity.NONFATAL]


def test_errors_are_awaited(machine: Any, device: Device) -> None:
    async def some() -> list[str]:
        found = []
        with device.errors() as errors:
            machine.errors.inject(NET, "COMP_TIME")
            async for error in errors:
                found += [one.name for one in error.errors]
                if len(found) == 2:
                    return found
                machine.errors.inject(NET, "UNX_COMP")
        return found

    assert asyncio.run(some()) == ["CmpltTO", "UnxCmplt"]


def test_the_callback_may_close_the_device(host: Host, machine: Any) -> None:
    pyvfio.bind(host.function(NET))
    device = pyvfio.open_device(host, NET)
    done = threading.Event()

    def close(error: DeviceError) -> None:
        device.close()
        done.set()

    watch = device.on_error(close)
    machine.errors.inject(NET, "DLP")
    assert done.wait(10)
    device.close()
    watch.stop()
    assert device.fileno() == -1
    pyvfio.release(host.function(NET))


def test_closing_the_device_ends_the_watch(host: Host) -> None:
    pyvfio.bind(host.function(NET))
    before = threading.active_count()
    device = pyvfio.open_device(host, NET)
    device.on_error(lambda error: None)
    assert threading.active_count() == before + 1
    device.close()
    assert threading.active_count() == before


def test_closing_does_not_wait_for_a_recovery_that_nobody_tells_the_end_of(device: Device) -> None:
    """The interrupt is fired by hand, so that no event of a recovery follows."""
    watch = device.on_error(lambda error: None, patience=60.0)
    assert device.error is not None
    device.error.trigger()
    time.sleep(0.2)
    began = time.monotonic()
    watch.close()
    assert time.monotonic() - began < 10


def test_another_thread_may_close_it_while_an_error_is_looked_into(device: Device) -> None:
    watch = device.errors(patience=60.0)
    found: list[DeviceError | BaseException] = []

    def wait() -> None:
        try:
            found.append(watch.wait(60))
        except BaseException as error:
            found.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert device.error is not None
    device.error.trigger()
    time.sleep(0.2)
    watch.close()
    waiter.join(10)
    assert [type(one) for one in found] == [DeviceError]


def test_no_descriptor_is_left_where_it_cannot_begin(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()  # what earlier tests left is not this one's
    before = os.listdir("/proc/self/fd")

    def none_left() -> None:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr("pyvfio.vfio.watch_thread.EventFd", none_left)
    with pytest.raises(OSError, match="too many"):
        device.on_error(lambda error: None)
    assert os.listdir("/proc/self/fd") == before
    assert device.error is not None
    assert not device.error.enabled


def test_an_error_that_a_later_kernel_has_a_name_for(host: Host, machine: Any) -> None:
    """It is counted, and its message is known; which bit it has is not."""
    path = host.function(NET).path
    before = TreeErrors.look(host.sysfs, path)
    machine.errors.inject(NET, "COMP_TIME")
    after = TreeErrors.look(host.sysfs, path)
    own = after.own
    assert own is not None
    assert own.counters is not None
    names = {**own.counters.errors[Severity.NONFATAL], "BrandNew": 1}
    errors = {**own.counters.errors, Severity.NONFATAL: names}
    own = dataclasses.replace(own, counters=dataclasses.replace(own.counters, errors=errors))
    found = describe(before, dataclasses.replace(after, functions={**after.functions, own.address: own}))
    assert [one.name for one in found.errors] == ["CmpltTO"]
    assert found.counters[NET, "nonfatal", "BrandNew"] == (0, 1)


@pytest.mark.usefixtures("device")  # with a driver, the kernel clears what it handled
def test_the_log_of_an_earlier_error_is_not_taken_for_this_one(host: Host, machine: Any) -> None:
    path = host.function(NET).path
    machine.errors.inject(NET, "COMP_TIME", header=PACKET)
    before = TreeErrors.look(host.sysfs, path)
    machine.errors.inject(NET, "POISON_TLP", header=PACKET)
    after = TreeErrors.look(host.sysfs, path)
    assert describe(before, after).header is not None  # the pointer says that it is of this one
    own, registers = after.own, after.own.registers if after.own is not None else None
    assert own is not None
    assert registers is not None
    old = dataclasses.replace(registers, control=registers.control & ~0x1F | 14)  # and now, of the one before
    own = dataclasses.replace(own, registers=old)
    found = describe(before, dataclasses.replace(after, functions={**after.functions, own.address: own}))
    assert ([one.name for one in found.errors], found.first, found.header) == (["TLP"], None, None)


def test_a_function_that_is_gone_answers_nothing(host: Host, machine: Any, device: Device) -> None:
    """A fatal error, and the link stays down: somebody has switched it off."""
    with device.errors(patience=0.1) as errors:
        machine.errors.inject(NET, "COMP_TIME")
        port = machine.pcie.function(0, 0x0F << 3)
        port.unplug()
        error = errors.wait(5)
    assert error.answers is False
    assert "does not answer" in str(error)


def test_an_ordinary_user_sees_no_registers(host: Host, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sysfs shows 64 bytes of configuration space to who is not root; the counters tell all the same."""
    sysfs, read = host.sysfs, host.sysfs.read_bytes
    monkeypatch.setattr(
        sysfs, "read_bytes", lambda path, count=None: read(path, count)[: 64 if path.endswith("/config") else None]
    )
    path = host.function(NET).path
    before = TreeErrors.look(sysfs, path)
    assert before.own is not None
    assert (before.own.answers, before.own.registers, before.own.counters is None) == (True, None, False)
    machine.errors.inject(NET, "COMP_TIME")
    error = describe(before, TreeErrors.look(sysfs, path))
    assert (error.source, error.severity, [one.name for one in error.errors]) == (NET, Severity.NONFATAL, ["CmpltTO"])
    assert (error.first, error.header) == (None, None)
