"""The library tells the program that owns a function what an error of the hardware was.

Only what every host can tell is asked for: the kernel may have cleared registers, and the log of packets may be empty.
Sources: ``drivers/pci/pcie/err.c``, ``vfio_pci_core_aer_err_detected``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

import pyvfio
from pyvfio.errors import Timeout
from pyvfio.host import Host
from pyvfio.pci.aer import Severity
from pyvfio.pci.device_error import DeviceError
from pyvfio.pci.error_poll import HostErrors
from pyvfio.testing.devices import BoundFunction
from pyvfio.vfio import Device

NONFATAL = [("COMP_TIME", "CmpltTO"), ("POISON_TLP", "TLP"), ("UNSUP", "UnsupReq")]


def names(error: DeviceError) -> list[str]:
    return [one.name for one in error.errors]


def gained(error: DeviceError, severity: str, name: str) -> list[int]:
    """What counters of this kind gained, of whichever functions."""
    found = error.counters.items()
    return [after - before for (_, one, what), (before, after) in found if (one, what) == (severity, name)]


def test_a_nonfatal_error_is_told(inject: Callable[[str], None], device: Device, function: BoundFunction) -> None:
    with device.errors() as errors:
        inject("COMP_TIME")
        error = errors.wait(10)
    assert (error.device, error.source) == (function.address, function.address)
    assert (error.severity, error.outcome) == (Severity.NONFATAL, "recovered")
    assert "CmpltTO" in names(error)
    assert (error.answers, error.reset, error.containment) == (True, False, None)
    assert gained(error, "nonfatal", "CmpltTO") == [1]
    assert gained(error, "nonfatal", "messages") == [1]


@pytest.mark.parametrize(("injected", "name"), NONFATAL)
def test_each_error_has_its_name(
    inject: Callable[[str], None], host: Host, function: BoundFunction, injected: str, name: str
) -> None:
    with pyvfio.open_device(host, function.address) as device, device.errors() as errors:
        inject(injected)
        assert name in names(errors.wait(10))


def test_a_correctable_error_is_not_told(inject: Callable[[str], None], host: Host, function: BoundFunction) -> None:
    with pyvfio.open_device(host, function.address) as device, device.errors() as errors:
        inject("BAD_TLP")
        with pytest.raises(Timeout):
            errors.wait(0.5)
        assert errors.count == 0


def test_two_errors_are_told_one_after_the_other(
    inject: Callable[[str], None], host: Host, function: BoundFunction
) -> None:
    with pyvfio.open_device(host, function.address) as device, device.errors() as errors:
        for injected, name in (("COMP_TIME", "CmpltTO"), ("UNX_COMP", "UnxCmplt")):
            inject(injected)
            error = errors.wait(10)
            assert gained(error, "nonfatal", name) == [1]
        assert errors.count == 2


def test_a_task_awaits_errors(inject: Callable[[str], None], host: Host, function: BoundFunction) -> None:
    async def first() -> DeviceError:
        with pyvfio.open_device(host, function.address) as device, device.errors() as errors:
            task = asyncio.create_task(errors.wait_async(10))
            await asyncio.sleep(0)
            await asyncio.to_thread(inject, "COMP_TIME")
            return await task

    assert "CmpltTO" in names(asyncio.run(first()))


def test_a_callback_is_called_with_the_error(
    inject: Callable[[str], None], host: Host, function: BoundFunction
) -> None:
    told: list[DeviceError] = []
    done = threading.Event()

    def callback(error: DeviceError) -> None:
        told.append(error)
        done.set()

    with pyvfio.open_device(host, function.address) as device, device.on_error(callback) as watch:
        inject("COMP_TIME")
        assert done.wait(20)
        assert watch.count == 1
    assert "CmpltTO" in names(told[0])


def test_a_fatal_error_resets_the_function(
    inject: Callable[[str], None], device: Device, function: BoundFunction
) -> None:
    """The kernel does not read what it was, but the function still has it noted."""
    with device.errors(patience=15) as errors:
        inject("DLP")
        error = errors.wait(10)
    assert (error.device, error.source) == (function.address, function.address)
    assert (error.severity, error.outcome) == (Severity.FATAL, "recovered")
    assert names(error) == ["DLP"]
    assert (error.answers, error.reset) == (True, True)
    assert gained(error, "fatal", "messages") == [1]


def test_a_closed_watch_can_be_made_again(inject: Callable[[str], None], host: Host, function: BoundFunction) -> None:
    with pyvfio.open_device(host, function.address) as device:
        for _ in range(2):
            with device.errors() as errors:
                inject("COMP_TIME")
                assert "CmpltTO" in names(errors.wait(10))


def test_who_watches_the_host_sees_correctable_errors_too(
    inject: Callable[[str], None], host: Host, function: BoundFunction
) -> None:
    with (
        pyvfio.open_device(host, function.address),
        HostErrors(host, [function.address], interval=0.05) as errors,
    ):
        inject("BAD_TLP")
        error = errors.read(10)
        assert error is not None
        assert (error.device, error.source) == (function.address, function.address)
        assert (error.severity, names(error)) == (Severity.CORRECTABLE, ["BadTLP"])
        inject("COMP_TIME")
        error = errors.read(10)
        assert error is not None
        assert error.severity is Severity.NONFATAL
        assert "CmpltTO" in names(error)
