"""Errors on demand: have a PCI Express function of a software machine detect an error (``machine.errors``).

It is what QEMU's ``pcie_aer_inject_error`` does: the function notes the error in its registers, and whether a message
goes to the root port depends on masks, severity and enables, as of any error.

>>> from pyvfio.backend import open_backend
>>> with open_backend("software", machine="lab-x86") as backend:
...     backend.machine.errors.inject("0000:0d:00.0", "COMP_TIME")
...     fd = backend.open("/sys/bus/pci/devices/0000:0d:00.0/aer_dev_nonfatal", 0)
...     print(backend.read(fd, 300).decode().split()[10:12])
['CmpltTO', '1']
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.address import PciAddress
from pyvfio.errors import BadAddress, Misuse, NoSuchDevice
from pyvfio.pci.aer import AerError, find_error
from pyvfio_backends.software.hardware.pcie.aer import CORRECTABLE, UNCORRECTABLE
from pyvfio_backends.software.hardware.pcie.reporting import PacketLog

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.machine import Machine

__all__ = ["PcieErrors"]

_WORDS = 4
_DO = "inject an error"


class PcieErrors:
    """Makes the functions of `machine` detect errors; all methods may be called on any thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def inject(
        self,
        address: str | PciAddress,
        *errors: str | AerError,
        header: Sequence[int] = (),
        prefix: Sequence[int] = (),
        advisory: bool = False,
    ) -> None:
        """Have a function detect errors, one after the other, before Linux reads what they were.

        Each is named as Linux or QEMU does (`pyvfio.pci.aer.find_error`).  `header` are the four words of the packet
        for the header log of an uncorrectable one, `prefix` up to four words of prefixes.  `advisory`: somebody else
        learns of a non-fatal one by a completion, so it is reported as correctable.

        Raise `NoSuchDevice`, `Misuse`: a function of conventional PCI, an error that it cannot detect, bad words.
        """
        found = [error if isinstance(error, AerError) else find_error(error) for error in errors]
        with self._machine.lock:
            function = self._function(str(address))
            log = self._log(function, header, prefix)
            self._check(function, found)
            for error in found:
                if error.correctable:
                    function.errors.correctable(error.mask)
                else:
                    function.errors.uncorrectable(error.mask, None, advisory=advisory, log=log)
            self._machine.clock.settle()

    def trigger_containment(self, address: str | PciAddress) -> None:
        """Have a port contain by software, as a write of its control register does.  Raise as `inject`."""
        with self._machine.lock:
            function = self._function(str(address))
            at = function.offset(extended.PCI_EXT_CAP_ID_DPC, extended=True)
            if at is None:
                raise Misuse("trigger containment", function.name, cause="it has no downstream port containment")
            register = at + extended.PCI_EXP_DPC_CTL
            control = function.config.read(register, 2)
            function.config.write(register, 2, control | extended.DpcControl.SOFTWARE_TRIGGER)
            self._machine.clock.settle()

    def _function(self, address: str) -> Function:
        try:
            wanted = PciAddress.parse(address)
        except BadAddress as error:
            raise Misuse(_DO, address, cause=error.cause) from error
        rid = wanted.bus << 8 | wanted.device << 3 | wanted.function
        complex_ = getattr(self._machine, "pcie", None)
        function: Function | None = None if complex_ is None else complex_.function(wanted.domain, rid)
        if function is None:
            raise NoSuchDevice(_DO, address, cause=f"machine {self._machine.name} has no PCI Express function there")
        if function.offset(regs.PCI_CAP_ID_EXP) is None:
            raise Misuse(_DO, address, cause="it is a function of conventional PCI")
        return function

    @staticmethod
    def _check(function: Function, errors: Sequence[AerError]) -> None:
        if not errors:
            raise Misuse(_DO, function.name, cause="no error was named")
        for error in errors:
            if not (CORRECTABLE if error.correctable else UNCORRECTABLE) & error.mask:
                raise Misuse(_DO, function.name, cause=f"no function here detects {error}")

    @staticmethod
    def _log(function: Function, header: Sequence[int], prefix: Sequence[int]) -> PacketLog:
        if len(header) not in (0, _WORDS) or len(prefix) > _WORDS:
            raise Misuse(_DO, function.name, cause="a header has four words, and there are at most four of prefixes")
        if any(not 0 <= word <= 0xFFFFFFFF for word in (*header, *prefix)):
            raise Misuse(_DO, function.name, cause="a word of a header has 32 bits")
        padded = (*prefix, *(0,) * (_WORDS - len(prefix))) if prefix else ()
        return PacketLog(tuple(header) or (0,) * _WORDS, padded)
