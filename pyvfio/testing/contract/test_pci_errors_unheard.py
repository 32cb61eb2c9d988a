"""Errors of PCI Express where root ports have no driver, as on bare-metal POWER: they are noted, nobody counts them.

Firmware has functions report them to the host bridge, which stops the endpoint (`pyvfio.ioda`); QEMU's notes them only.
The kernel does not tell the program that has the function open either way: an endpoint in use is its user's to look at.
Sources: ``pnv_pci_init`` in ``arch/powerpc/platforms/powernv/pci.c``, ``eeh_dev_check_failure`` in
``arch/powerpc/kernel/eeh.c``, ``pci_aer_init`` in ``drivers/pci/pcie/aer.c``; ``hw/phb4.c`` of skiboot.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.vfio import IrqSetFlags, PciIrq
from pyvfio.backend import Backend
from pyvfio.errors import NotAvailable
from pyvfio.host import Host
from pyvfio.pci.error_poll import HostErrors
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import settles
from pyvfio.testing.modes import OpenDevice

EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
UNCORRECTABLE, CORRECTABLE = extended.PCI_ERR_UNCOR_STATUS, extended.PCI_ERR_COR_STATUS
ERRORS = [
    ("RCVR", CORRECTABLE, extended.PCI_ERR_COR_RCVR),
    ("BAD_TLP", CORRECTABLE, extended.PCI_ERR_COR_BAD_TLP),
    ("COMP_TIME", UNCORRECTABLE, extended.PCI_ERR_UNC_COMP_TIME),
    ("POISON_TLP", UNCORRECTABLE, extended.PCI_ERR_UNC_POISON_TLP),
    ("DLP", UNCORRECTABLE, extended.PCI_ERR_UNC_DLP),
]
DIGESTS = extended.PCI_ERR_CAP_ECRC_GENE | extended.PCI_ERR_CAP_ECRC_CHKE
REPORTS = regs.PCI_EXP_DEVCTL_CERE | regs.PCI_EXP_DEVCTL_NFERE | regs.PCI_EXP_DEVCTL_FERE | regs.PCI_EXP_DEVCTL_URRE


@pytest.fixture(autouse=True)
def unheard(sysfs: Attributes, port: str) -> None:
    if sysfs.link(f"{port}/driver") is not None:
        pytest.skip("the root ports of this host have a driver")


class Registers:
    """Configuration space of a function by its file, with the places of two capabilities, 0 for none."""

    def __init__(self, sysfs: Attributes, path: str) -> None:
        self._backend = sysfs.backend
        self._path = f"{path}/config"
        self.express = self.read(regs.PCI_CAPABILITY_LIST, 1)
        while self.express and self.read(self.express, 1) != regs.PCI_CAP_ID_EXP:
            self.express = self.read(self.express + regs.PCI_CAP_LIST_NEXT, 1)
        self.errors = regs.PCI_CFG_SPACE_SIZE
        while self.errors and self.read(self.errors, 2) != extended.PCI_EXT_CAP_ID_ERR:
            self.errors = self.read(self.errors + 2, 2) >> 4

    def read(self, at: int, size: int) -> int:
        fd = self._backend.open(self._path, os.O_RDONLY)
        try:
            return int.from_bytes(self._backend.pread(fd, size, at), "little")
        finally:
            self._backend.close(fd)

    def write(self, at: int, size: int, value: int) -> None:
        fd = self._backend.open(self._path, os.O_RDWR)
        try:
            self._backend.pwrite(fd, value.to_bytes(size, "little"), at)
        finally:
            self._backend.close(fd)


def counted(sysfs: Attributes, path: str, port: str) -> list[int]:
    """All that Linux has counted: errors of the function, and messages that the root port had."""
    found = []
    for name in ("correctable", "nonfatal", "fatal"):
        lines = sysfs.read(f"{path}/aer_dev_{name}").splitlines()
        found.append(sum(int(line.rsplit(None, 1)[1]) for line in lines))
    found += [int(sysfs.read(f"{port}/aer_rootport_total_err_{name}")) for name in ("cor", "nonfatal", "fatal")]
    return found


def test_there_are_no_services(backend: Backend, sysfs: Attributes) -> None:
    assert backend.listdir("/sys/bus/pci_express/devices") == []
    assert backend.listdir("/sys/bus/pci_express/drivers") == []
    assert not sysfs.exists("/sys/bus/pci/drivers/pcieport")


def test_firmware_has_the_port_report_and_check(sysfs: Attributes, port: str) -> None:
    found = Registers(sysfs, port)
    assert found.read(found.express + regs.PCI_EXP_DEVCTL, 2) == REPORTS
    assert found.read(found.errors + extended.PCI_ERR_CAP, 4) & DIGESTS == DIGESTS
    assert found.read(found.errors + extended.PCI_ERR_ROOT_COMMAND, 4) == 7
    masked = extended.PCI_ERR_UNC_POISON_TLP | extended.PCI_ERR_UNC_COMP_TIME
    masked |= extended.PCI_ERR_UNC_COMP_ABORT | extended.PCI_ERR_UNC_ECRC
    assert found.read(found.errors + extended.PCI_ERR_UNCOR_MASK, 4) == masked
    severity = found.read(found.errors + extended.PCI_ERR_UNCOR_SEVER, 4)
    assert severity & extended.PCI_ERR_UNC_UNX_COMP
    assert not severity & (masked | extended.PCI_ERR_UNC_UNSUP)


def test_linux_has_functions_with_error_registers_report_all(
    sysfs: Attributes, function: BoundFunction, function2: BoundFunction
) -> None:
    """Firmware leaves correctable errors out, of all functions."""
    with_errors, without = Registers(sysfs, function.path), Registers(sysfs, function2.path)
    if not with_errors.errors or without.errors:
        pytest.skip("it takes a function with error registers, and one without")
    assert with_errors.read(with_errors.express + regs.PCI_EXP_DEVCTL, 2) & REPORTS == REPORTS
    assert with_errors.read(with_errors.errors + extended.PCI_ERR_CAP, 4) & DIGESTS == DIGESTS
    control = without.read(without.express + regs.PCI_EXP_DEVCTL, 2)
    assert control & REPORTS == REPORTS & ~regs.PCI_EXP_DEVCTL_CERE


@pytest.mark.parametrize(("error", "register", "bit"), ERRORS, ids=[name for name, _, _ in ERRORS])
def test_an_error_is_noted_and_not_counted(
    sysfs: Attributes,
    opened: OpenDevice,
    function: BoundFunction,
    port: str,
    detect: Callable[[str], None],
    error: str,
    register: int,
    bit: int,
) -> None:
    found = Registers(sysfs, function.path)
    status = found.errors + register
    found.write(status, 4, 0xFFFFFFFF)
    detect(error)
    assert settles(lambda: found.read(status, 4) == bit)
    assert counted(sysfs, function.path, port) == [0] * 6
    found.write(status, 4, bit)
    assert found.read(status, 4) == 0


@pytest.mark.parametrize("error", ["BAD_TLP", "COMP_TIME", "DLP"])
def test_the_program_is_not_told(opened: OpenDevice, detect: Callable[[str], None], error: str) -> None:
    with EventFd() as errors, EventFd() as request:
        requests.set_irqs(opened.backend, opened.fd, PciIrq.ERR, EVENTFD, [errors.fileno()])
        requests.set_irqs(opened.backend, opened.fd, PciIrq.REQ, EVENTFD, [request.fileno()])
        detect(error)
        time.sleep(0.5)
        assert (errors.read(), request.read()) == (0, 0)


def test_who_watches_the_host_is_told_that_nobody_counts(host: Host, function: BoundFunction) -> None:
    for names in ([function.address], []):
        with pytest.raises(NotAvailable, match="no driver"):
            HostErrors(host, names)
