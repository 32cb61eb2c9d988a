"""Make a host believe that a function has reported errors: Linux's module ``aer_inject``.

Nothing is sent on any link, but all that Linux does of an error it does: it counts, asks the drivers of everybody below
the port, and resets the link after a fatal one.  Software machines with PCI Express have the module, too.

Source: ``drivers/pci/pcie/aer_inject.c`` (Linux 6.12); the kernel needs CONFIG_PCIEAER_INJECT.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from pyvfio.abi.aer_inject import AER_INJECT, AER_INJECT_MODULE, AER_INJECT_NODE
from pyvfio.address import PciAddress
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.pci.aer import AerError
from pyvfio.refusal import MISSING, refusal
from pyvfio.sysfs import Sysfs

__all__ = ["inject_errors", "require_injection"]

_OPERATION = "inject an error"
_WORDS = 4
_CAUSES = {
    errno.ENODEV: "it is not below a root port whose errors Linux handles, or is gone",
    errno.EPROTONOSUPPORT: "it, or its root port, has no advanced error reporting",
    errno.EINVAL: "the function masks these errors",
}


def require_injection(sysfs: Sysfs, name: str) -> None:
    """Raise `NotAvailable` when this host has no ``/dev/aer_inject``."""
    if not sysfs.exists(AER_INJECT_NODE):
        raise _missing(name)


def _missing(name: str) -> NotAvailable:
    return NotAvailable(
        _OPERATION,
        name,
        path=AER_INJECT_NODE,
        cause=f"the module {AER_INJECT_MODULE} is not loaded",
        next_step=f"modprobe {AER_INJECT_MODULE}, with a kernel that has it (CONFIG_PCIEAER_INJECT; few are built so)",
    )


def inject_errors(sysfs: Sysfs, address: PciAddress, errors: Sequence[AerError], header: Sequence[int] = ()) -> None:
    """Have a function report these errors at once; `header` are the four words of a packet for its log.

    Correctable and uncorrectable ones are two messages, of which Linux handles the correctable one first.  Raise
    `NotAvailable` without the module, `Misuse` (no error, bad words, errors that are masked), else the class for the
    errno.
    """
    name = str(address)
    if not errors:
        raise Misuse(_OPERATION, name, cause="no error was named")
    if len(header) not in (0, _WORDS) or any(not 0 <= word <= 0xFFFFFFFF for word in header):
        raise Misuse(_OPERATION, name, cause="a header has four words of 32 bits")
    request = AER_INJECT.pack(
        address.bus,
        address.device,
        address.function,
        sum({one.mask for one in errors if not one.correctable}),
        sum({one.mask for one in errors if one.correctable}),
        *(header or (0,) * _WORDS),
        address.domain,
    )
    backend = sysfs.backend
    try:
        fd = backend.open(AER_INJECT_NODE, os.O_WRONLY | os.O_CLOEXEC)
        try:
            backend.write(fd, request)
        finally:
            backend.close(fd)
    except OSError as error:
        if error.errno in MISSING and not sysfs.exists(AER_INJECT_NODE):
            raise _missing(name) from error
        if error.errno in _CAUSES:
            kind = Misuse if error.errno == errno.EINVAL else NotAvailable
            raise kind(_OPERATION, name, path=AER_INJECT_NODE, errno=error.errno, cause=_CAUSES[error.errno]) from error
        raise refusal(backend, error, _OPERATION, name, path=AER_INJECT_NODE) from error
