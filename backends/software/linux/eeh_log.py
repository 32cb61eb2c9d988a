"""What EEH writes to the kernel's log of a frozen endpoint: the bridge's error log, and registers of its functions.

Lines are those of ``pnv_pci_dump_phb_diag_data`` (``platforms/powernv/pci.c``) and ``eeh_dump_dev_log``
(``arch/powerpc/kernel/eeh.c``) of Linux 6.12; registers of the bridge's own error units are not modelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh_state import EehDevMode
from pyvfio.abi.opal_diag import ERROR_DATA, OPAL_PHB_ERROR_DATA_TYPE_PHB3, OPAL_PHB_ERROR_DATA_TYPE_PHB4
from pyvfio.ioda.diagnosis import Diagnosis
from pyvfio_backends.software.linux.kernel_log import INFO, WARNING, kernel_log

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh_pe import EehDev, EehPe
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pnv_eeh import PnvEeh

__all__ = ["device_log", "phb_log"]

_NAMES: Final = {OPAL_PHB_ERROR_DATA_TYPE_PHB3: ("PHB3", 12, "x"), OPAL_PHB_ERROR_DATA_TYPE_PHB4: ("PHB4", 11, "d")}
"""The generation, how wide what stands before the numbers is, and how the bridge's own number is written."""
_LINES: Final = {
    "brdgCtl:": ("brdgCtl",),
    "RootSts:": ("deviceStatus", "slotStatus", "linkStatus", "devCmdStatus", "devSecStatus"),
    "RootErrSts:": ("rootErrorStatus", "uncorrErrorStatus", "corrErrorStatus"),
    "RootErrLog:": ("tlpHdr1", "tlpHdr2", "tlpHdr3", "tlpHdr4"),
}
_STOPPED = 1 << 63
_VERSION = 1
_EXPRESS_WORDS, _AER_WORDS, _ROW = 9, 14, 4


def phb_log(kernel: Kernel, number: int, data: bytes) -> None:
    """Write the error log of a host bridge, as far as it says something."""
    if not data:
        return
    log = kernel_log(kernel)
    diagnosis = Diagnosis.parse(data)
    registers = diagnosis.registers
    generation, width, base = _NAMES.get(diagnosis.type, ("P7IOC", 12, "x"))
    log.add(INFO, f"{generation} PHB#{number:{base}} Diag-data (Version: {_VERSION})")
    for title, names in _LINES.items():
        values = [registers.get(name, 0) for name in names]
        if any(values):
            log.add(INFO, f"{title:<{width}} " + " ".join(f"{value:08x}" for value in values))
    source = registers.get("sourceId", 0)
    if source and diagnosis.type == OPAL_PHB_ERROR_DATA_TYPE_PHB4:
        log.add(INFO, f"{'sourceId:':<{width}} {source:08x}")
    elif source:
        rest = (registers.get("errorClass", 0), registers.get("correlator", 0))
        log.add(INFO, f"{'RootErrLog1:':<{width}} {source:08x} " + " ".join(f"{value:016x}" for value in rest))
    for line in _endpoint_lines(diagnosis):
        log.add(INFO, line)


def _endpoint_lines(diagnosis: Diagnosis) -> Iterator[str]:
    """Those that are frozen (``pnv_pci_dump_pest``): of a run that are alike, the first and the last.

    The last is told with what follows, so not where nothing does.
    """
    before: tuple[int, int] | None = None
    repeated = False
    count = next(kind.ENDPOINTS for kind in ERROR_DATA if diagnosis.type == kind.TYPE)
    for number in range(count):
        pair = diagnosis.endpoints.get(number, (0, 0))
        frozen = any(value & _STOPPED for value in pair)
        if pair == before:
            repeated = repeated or frozen
            continue
        if repeated:
            yield f"PE[..{number - 1:03x}] A/B: as above"
        before, repeated = pair, False
        if frozen:
            yield f"PE[{number:03x}] A/B: {pair[0]:016x} {pair[1]:016x}"


def device_log(platform: PnvEeh, pe: EehPe) -> None:
    """Write what all functions of an endpoint have in their registers (``eeh_dump_pe_log``)."""
    log = kernel_log(platform.eeh.kernel)
    for dev in pe.every():
        for line in _device_lines(platform, dev):
            log.add(WARNING, f"EEH: {line}")


def _device_lines(platform: PnvEeh, dev: EehDev) -> Iterator[str]:
    yield f"of node={dev.name}"
    yield f"PCI device/vendor: {platform.read_config(dev, regs.PCI_VENDOR_ID, 4):08x}"
    yield f"PCI cmd/status register: {platform.read_config(dev, regs.PCI_COMMAND, 4):08x}"
    if dev.mode & EehDevMode.BRIDGE:
        yield f"Bridge secondary status: {platform.read_config(dev, bridge_regs.PCI_SEC_STATUS, 2):04x}"
        yield f"Bridge control: {platform.read_config(dev, bridge_regs.PCI_BRIDGE_CONTROL, 2):04x}"
    if dev.express:
        yield "PCI-E capabilities and status follow:"
        yield from _rows(platform, dev, dev.express, _EXPRESS_WORDS, "PCI-E")
    if dev.aer:
        yield "PCI-E AER capability register set follows:"
        yield from _rows(platform, dev, dev.aer, _AER_WORDS, "PCI-E AER")


def _rows(platform: PnvEeh, dev: EehDev, at: int, count: int, title: str) -> Iterator[str]:
    words = [platform.read_config(dev, at + 4 * word, 4) for word in range(count)]
    for first in range(0, count, _ROW):
        row = " ".join(f"{word:08x}" for word in words[first : first + _ROW])
        yield f"{title} {4 * first:02x}: {row} "
