"""Reports of errors to the machine (``report_error`` of a zPCI function).

Source: ``report_error_write()`` in ``arch/s390/pci/pci_sysfs.c``, ``sclp_pci_check_report()`` in
``drivers/s390/char/sclp_pci.c``.  The lab's machine takes no reports, so a good one is EOPNOTSUPP.
"""

from __future__ import annotations

import errno
import os
import struct

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.expect import fails
from pyvfio.testing.plugin import Lab

HEADER = struct.Struct("=BBH")  # version, action, length of what follows, in the kernel's byte order

REPORTS = {
    "nothing of the header": (b"\x01", errno.EINVAL),
    "part of the header": (b"\x01\x00\x00", errno.EINVAL),
    "version 0": (HEADER.pack(0, 0, 0), errno.EINVAL),
    "version 2": (HEADER.pack(2, 0, 0), errno.EINVAL),
    "action 3": (HEADER.pack(1, 3, 0), errno.EINVAL),
    "longer than fits": (HEADER.pack(1, 0, 4073), errno.EINVAL),
    "as long as fits": (HEADER.pack(1, 0, 4072), errno.EOPNOTSUPP),
    "reset": (HEADER.pack(1, 0, 0), errno.EOPNOTSUPP),
    "repair": (HEADER.pack(1, 1, 4) + bytes(4), errno.EOPNOTSUPP),
    "information": (HEADER.pack(1, 2, 60) + bytes(60), errno.EOPNOTSUPP),
}


@pytest.fixture
def report(backend: Backend, lab: Lab) -> str:
    path = f"/sys/bus/pci/devices/{lab.pci}/report_error"
    try:
        backend.stat(path)
    except FileNotFoundError:
        pytest.skip("the function has no report_error: it is no zPCI function")
    return path


@pytest.mark.parametrize("name", REPORTS)
def test_a_report(name: str, backend: Backend, report: str) -> None:
    data, number = REPORTS[name]
    fd = backend.open(report, os.O_WRONLY)
    try:
        with fails(number):
            backend.write(fd, data)
    finally:
        backend.close(fd)


def test_not_at_an_offset(backend: Backend, report: str) -> None:
    fd = backend.open(report, os.O_WRONLY)
    try:
        with fails(errno.EINVAL):
            backend.pwrite(fd, HEADER.pack(1, 0, 0), 8)
    finally:
        backend.close(fd)
