"""AER: which errors of a function reach the program that owns it, and where they are counted.

Errors come from the monitor of the QEMU in which the host runs, or from the software machine
(`pyvfio.testing.injecting`).
Source of the rule: ``vfio_pci_core_aer_err_detected`` in ``drivers/vfio/pci/vfio_pci_core.c``, which the recovery in
``drivers/pci/pcie/err.c`` calls; correctable errors are only counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio import IrqSetFlags, PciIrq
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import settles
from pyvfio.testing.modes import OpenDevice, group_mode, open_device

EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
CORRECTABLE = [("RCVR", "RxErr"), ("BAD_TLP", "BadTLP"), ("BAD_DLLP", "BadDLLP")]
NONFATAL = [("COMP_TIME", "CmpltTO"), ("POISON_TLP", "TLP"), ("UNX_COMP", "UnxCmplt"), ("ECRC", "ECRC")]


class Counters:
    """What Linux has counted for a function, and for the root port above it."""

    def __init__(self, sysfs: Attributes, function: BoundFunction, port: str) -> None:
        self._sysfs = sysfs
        self._function = function.path
        self._port = port

    def of(self, severity: str) -> dict[str, int]:
        """The function's counters of ``correctable``, ``nonfatal`` or ``fatal`` errors, by the kernel's names."""
        lines = self._sysfs.read(f"{self._function}/aer_dev_{severity}").splitlines()
        return {name: int(count) for name, count in (line.rsplit(None, 1) for line in lines)}

    def port(self, severity: str) -> int:
        """How many messages the root port has had (``cor``, ``nonfatal``, ``fatal``)."""
        return int(self._sysfs.read(f"{self._port}/aer_rootport_total_err_{severity}"))


@pytest.fixture
def counters(sysfs: Attributes, inject: Callable[[str], None], function: BoundFunction, port: str) -> Counters:
    return Counters(sysfs, function, port)


class Armed:
    """The open function with an eventfd for errors and one for requests."""

    def __init__(self, device: OpenDevice) -> None:
        self.device = device
        self.error, self.request = EventFd(), EventFd()
        requests.set_irqs(device.backend, device.fd, PciIrq.ERR, EVENTFD, [self.error.fileno()])
        requests.set_irqs(device.backend, device.fd, PciIrq.REQ, EVENTFD, [self.request.fileno()])

    def command(self) -> int:
        """The function's command register as the program sees it."""
        at = requests.region_info(self.device.backend, self.device.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
        return int.from_bytes(self.device.backend.pread(self.device.fd, 2, at + 4), "little")

    def close(self) -> None:
        self.error.close()
        self.request.close()


@pytest.fixture
def armed(counters: Counters, space: OpenDevice) -> Iterator[Armed]:
    found = Armed(space)
    yield found
    found.close()


@pytest.fixture
def armed_once(backend: Backend, files: OpenFiles, counters: Counters, function: BoundFunction) -> Iterator[Armed]:
    found = Armed(open_device(backend, files, function, group_mode(backend)))
    yield found
    found.close()


@pytest.mark.parametrize(("error", "name"), CORRECTABLE)
def test_a_correctable_error_is_only_counted(
    inject: Callable[[str], None], counters: Counters, armed_once: Armed, error: str, name: str
) -> None:
    before, messages = counters.of("correctable"), counters.port("cor")
    inject(error)
    assert settles(lambda: counters.of("correctable")[name] == before[name] + 1)
    assert counters.of("correctable")["TOTAL_ERR_COR"] == before["TOTAL_ERR_COR"] + 1
    assert counters.port("cor") == messages + 1
    assert (armed_once.error.read(), armed_once.request.read()) == (0, 0)


def test_a_nonfatal_error_reaches_the_program(inject: Callable[[str], None], counters: Counters, armed: Armed) -> None:
    before, command = counters.of("nonfatal"), armed.command()
    inject("COMP_TIME")
    assert armed.error.wait(10) == 1
    assert settles(lambda: counters.of("nonfatal")["CmpltTO"] == before["CmpltTO"] + 1)
    assert armed.request.read() == 0
    assert armed.command() == command


@pytest.mark.parametrize(("error", "name"), NONFATAL)
def test_each_nonfatal_error_has_its_counter(
    inject: Callable[[str], None], counters: Counters, armed_once: Armed, error: str, name: str
) -> None:
    before, messages = counters.of("nonfatal"), counters.port("nonfatal")
    inject(error)
    assert armed_once.error.wait(10) == 1
    assert settles(lambda: counters.of("nonfatal")["TOTAL_ERR_NONFATAL"] == before["TOTAL_ERR_NONFATAL"] + 1)
    assert counters.of("nonfatal")[name] == before[name] + 1
    assert counters.port("nonfatal") == messages + 1
    assert armed_once.error.read() == 0


def test_two_errors_are_two(inject: Callable[[str], None], counters: Counters, armed_once: Armed) -> None:
    for _ in range(2):
        inject("COMP_TIME")
        assert armed_once.error.wait(10) == 1


def test_nobody_waits_for_errors(
    inject: Callable[[str], None], counters: Counters, function: BoundFunction, opened: OpenDevice
) -> None:
    before = counters.of("nonfatal")
    inject("COMP_TIME")
    assert settles(lambda: counters.of("nonfatal")["CmpltTO"] == before["CmpltTO"] + 1)
    assert requests.device_info(opened.backend, opened.fd)[0].num_irqs == vfio.VFIO_PCI_NUM_IRQS


def test_a_fatal_error_resets_the_link(inject: Callable[[str], None], counters: Counters, armed_once: Armed) -> None:
    messages = counters.port("fatal")
    inject("DLP")
    assert armed_once.error.wait(10) == 1
    assert counters.port("fatal") == messages + 1
    # the function behind the link is as after a reset, and what it sent cannot be asked of it any more
    assert settles(lambda: armed_once.command() & 0x7 == 0)
    assert counters.of("fatal")["TOTAL_ERR_FATAL"] == 0
    time.sleep(0.5)
    assert armed_once.error.read() == 0
