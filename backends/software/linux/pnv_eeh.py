"""What bare-metal POWER does for EEH, by the firmware's calls (``arch/powerpc/platforms/powernv/eeh-powernv.c``).

Resets are in `pnv_eeh_reset`, the errors that the firmware finds in `pnv_eeh_errors`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_ids
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.abi.eeh_state import EehDevMode, EehPeFlag, EehPlatformState
from pyvfio.abi.opal import OpalErrorType, OpalFreezeAction, OpalFreezeState
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.eeh import DISABLE, ENABLE, FREEZE, THAW_DMA, THAW_MMIO
from pyvfio_backends.software.linux.eeh_log import phb_log
from pyvfio_backends.software.linux.eeh_pe import ACTIVE, EehDev, EehHost, EehPe, PeType
from pyvfio_backends.software.linux.kernel_log import WARNING
from pyvfio_backends.software.linux.pcie_function import PcieFunction
from pyvfio_backends.software.linux.pnv_eeh_errors import PnvErrors
from pyvfio_backends.software.linux.pnv_eeh_reset import PnvReset

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.opal import Opal
    from pyvfio_backends.software.linux.eeh import Eeh
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["PnvEeh"]

_WORDS = 16
_LOG_BUFFER = 1 << 16
_RESTRICTED: Final = {(0x14E4, device) for device in (0x1656, 0x1657, 0x168A, 0x168E)}
"""Broadcom NICs that may not be asked for their configuration while they are frozen."""
_BROKEN = OpalErrorType.PHB_ERROR
_KNOWN: Final = (
    EehPlatformState.NOT_SUPPORT
    | EehPlatformState.UNAVAILABLE
    | EehPlatformState.MMIO_ACTIVE
    | EehPlatformState.DMA_ACTIVE
)
"""Not all of it is frozen, or nobody knows."""
_STATES: Final = {
    OpalFreezeState.NOT_FROZEN: ACTIVE,
    OpalFreezeState.MMIO_FREEZE: EehPlatformState.DMA_ACTIVE | EehPlatformState.DMA_ENABLED,
    OpalFreezeState.DMA_FREEZE: EehPlatformState.MMIO_ACTIVE | EehPlatformState.MMIO_ENABLED,
    OpalFreezeState.MMIO_DMA_FREEZE: EehPlatformState(0),
    OpalFreezeState.RESET: EehPlatformState.RESET_ACTIVE,
    OpalFreezeState.TEMP_UNAVAIL: EehPlatformState.UNAVAILABLE,
    OpalFreezeState.PERM_UNAVAIL: EehPlatformState.NOT_SUPPORT,
}


class PnvEeh:
    """The platform of `eeh`, over the firmware's calls."""

    def __init__(self, eeh: Eeh, opal: Opal) -> None:
        self.eeh = eeh
        self.opal = opal
        self.resets = PnvReset(self)
        self.errors = PnvErrors(self)

    # functions

    def probe(self, pdev: PciDevice) -> EehDev | None:
        """Find or make what EEH has of a device, and put it into its endpoint (``pnv_eeh_probe``)."""
        function = pdev.sysdata
        host = next((one for one in self.eeh.hosts if one.number == pdev.address.domain), None)
        if not isinstance(function, PcieFunction) or host is None:
            return None
        dev = host.devs.setdefault(function.rid, EehDev(host, function.rid))
        if dev.pe is not None:
            return None
        if dev.pdev is not None:
            return dev
        if pdev.class_code >> 8 == pci_ids.PCI_CLASS_BRIDGE_ISA:
            return None
        found = host.endpoints.of(function.rid)
        if found is None:
            return None
        dev.mode &= ~0xFF
        dev.express, dev.advanced = pdev.express, pdev.find_capability(regs.PCI_CAP_ID_AF)
        dev.aer = pdev.find_extended_capability(extended.PCI_EXT_CAP_ID_ERR) if pdev.express else 0
        if pdev.class_code >> 8 == pci_ids.PCI_CLASS_BRIDGE_PCI:
            dev.mode |= EehDevMode.BRIDGE
            kind = regs.pci_exp_type(self.read_config(dev, dev.express + regs.PCI_EXP_FLAGS, 2)) if dev.express else -1
            if kind == ExpressType.ROOT_PORT:
                dev.mode |= EehDevMode.ROOT_PORT
            elif kind == ExpressType.DOWNSTREAM:
                dev.mode |= EehDevMode.DS_PORT
        dev.address = found.number
        dev.physfn, dev.vf_index = pdev.physfn, function.number
        pe = host.insert(dev, self._above(host, function, pdev))
        if (pdev.vendor, pdev.device_id) in _RESTRICTED:
            pe.flags |= EehPeFlag.CFG_RESTRICTED
        if not pe.flags & EehPeFlag.PRI_BUS:
            pe.bus = function.on
            pe.flags |= EehPeFlag.PRI_BUS
        if not self.eeh.found:
            self.eeh.found = True
            self.eeh.recovery.start()
        dev.config = [self.read_config(dev, 4 * word, 4) for word in range(_WORDS)]
        if dev.mode & EehDevMode.BRIDGE:
            dev.config[1] |= regs.PCI_COMMAND_MASTER
        return dev

    @staticmethod
    def _above(host: EehHost, function: PcieFunction, pdev: PciDevice) -> EehPe | None:
        """The endpoint of the bridge above, or of the physical function (``pnv_eeh_get_upstream_pe``)."""
        above = pdev.physfn.sysdata if pdev.physfn is not None else function.on.above
        if not isinstance(above, PcieFunction):
            return None
        found = host.endpoints.of(above.rid)
        return None if found is None else host.get(found.number)

    # configuration, which recovery always reaches

    def _blocked(self, dev: EehDev) -> bool:
        pe = dev.pe
        if pe is None or (dev.physfn is not None and pe.flags & EehPeFlag.RESET):
            return False
        return bool(pe.flags & EehPeFlag.CFG_BLOCKED)

    def read_config(self, dev: EehDev, where: int, size: int) -> int:
        """Read configuration space; ones while it is blocked (``pnv_eeh_read_config``)."""
        if self._blocked(dev):
            return (1 << 8 * size) - 1
        return self.opal.pci_config_read(dev.host.opal_id, dev.rid, where, size)[1]

    def write_config(self, dev: EehDev, where: int, size: int, value: int) -> None:
        """Write it (``pnv_eeh_write_config``)."""
        if not self._blocked(dev):
            self.opal.pci_config_write(dev.host.opal_id, dev.rid, where, size, value)

    # configuration for everybody else (pnv_pci_cfg_check, pnv_pci_read_config)

    def _dev(self, domain: int, rid: int) -> EehDev | None:
        host = next((one for one in self.eeh.hosts if one.number == domain), None)
        return None if host is None else host.devs.get(rid)

    def blocks(self, domain: int, rid: int) -> bool:
        """Whether a function's configuration is not to be touched: during a reset, or it is gone for good."""
        dev = self._dev(domain, rid) if self.eeh.found else None
        if dev is None:
            return False
        return bool(dev.mode & EehDevMode.REMOVED or (dev.pe is not None and dev.pe.flags & EehPeFlag.CFG_BLOCKED))

    def config_failed(self, domain: int, rid: int) -> bool:
        """Ones were read of a function: whether it is frozen."""
        dev = self._dev(domain, rid) if self.eeh.found else None
        return dev is not None and self.eeh.check_failure(dev)

    # registers

    def restore_bars(self, pe: EehPe) -> None:
        """Write the registers that were found at first, of all functions (``eeh_pe_restore_bars``)."""
        for dev in pe.every():
            if dev.mode & EehDevMode.BRIDGE:
                self._restore_bridge(dev)
            else:
                self._restore_device(dev)
            if dev.physfn is None:
                self.opal.pci_reinit(dev.host.opal_id, dev.rid)

    def _restore_words(self, dev: EehDev, first: int, end: int, rom: int) -> None:
        for word in (*range(first, end), rom):
            self.write_config(dev, 4 * word, 4, dev.config[word])
        self.write_config(dev, regs.PCI_CACHE_LINE_SIZE, 1, dev.config[3] & 0xFF)
        self.write_config(dev, regs.PCI_LATENCY_TIMER, 1, dev.config[3] >> 8 & 0xFF)
        self.write_config(dev, 4 * (_WORDS - 1), 4, dev.config[_WORDS - 1])

    def _restore_bridge(self, dev: EehDev) -> None:
        self._restore_words(dev, 4, 13, 14)
        command = dev.config[1] | regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER
        self.write_config(dev, regs.PCI_COMMAND, 4, command)
        if dev.mode & (EehDevMode.ROOT_PORT | EehDevMode.DS_PORT):  # eeh_bridge_check_link
            at = dev.express + express_regs.PCI_EXP_LNKCTL
            self.write_config(dev, at, 2, self.read_config(dev, at, 2) & ~express_regs.PCI_EXP_LNKCTL_LD)

    def _restore_device(self, dev: EehDev) -> None:
        self._restore_words(dev, 4, 10, 12)
        kept = regs.PCI_COMMAND_PARITY | regs.PCI_COMMAND_SERR
        command = self.read_config(dev, regs.PCI_COMMAND, 4) & ~kept | dev.config[1] & kept
        self.write_config(dev, regs.PCI_COMMAND, 4, command)

    def load(self, pdev: PciDevice, bar: int) -> None:
        """Read a byte of a BAR, and do not look what it is (``in_8``)."""
        host = next(one for one in self.eeh.hosts if one.number == pdev.address.domain)
        self.opal.phbs[host.opal_id].load(pdev.resources[bar].start, 1)

    # states

    def state(self, pe: EehPe) -> EehPlatformState:
        """What the firmware says of an endpoint; one that is found frozen is isolated (``pnv_eeh_get_state``)."""
        return self._phb_state(pe) if pe.type & PeType.PHB else self._pe_state(pe)

    def _phb_state(self, pe: EehPe) -> EehPlatformState:
        status = self.opal.pci_eeh_freeze_status(pe.host.opal_id, pe.address)
        if status.code:
            return EehPlatformState.NOT_SUPPORT
        if status.error is not _BROKEN:
            return ACTIVE
        self._first_seen(pe)
        return EehPlatformState(0)

    def _pe_state(self, pe: EehPe) -> EehPlatformState:
        if pe.flags & EehPeFlag.RESET:
            return ACTIVE
        state = _STATES[pe.host.endpoints.state(pe.address)]
        if not state & _KNOWN:
            self._first_seen(pe)
        return state

    def _first_seen(self, pe: EehPe) -> None:
        """The endpoint was not known to be frozen: note that, and the bridge's log."""
        if pe.flags & EehPeFlag.ISOLATED:
            return
        if not pe.type & PeType.PHB:
            pe.host.endpoints.freeze(pe.address)
        pe.isolate()
        self.take_log(pe)

    def take_log(self, pe: EehPe) -> None:
        """`fetch_log`, and write it down at once where people want that (``eeh=early_log``)."""
        self.fetch_log(pe)
        if self.eeh.early_log:
            phb_log(self.eeh.kernel, pe.host.number, pe.log)

    def fetch_log(self, pe: EehPe) -> None:
        """Keep the bridge's error log with the endpoint (``pnv_eeh_get_phb_diag``)."""
        code, data = self.opal.pci_get_phb_diag_data(pe.host.opal_id, _LOG_BUFFER)
        if code:
            text = f"pnv_eeh_get_phb_diag: Failure {code} getting PHB#{pe.host.number:x} diag-data"
            self.eeh.kernel_line(WARNING, text)
        else:
            pe.log = data

    def set_option(self, pe: EehPe, option: int) -> int:
        """Thaw or freeze; 0 or a negative errno (``pnv_eeh_set_option``)."""
        if option == FREEZE:
            pe.host.endpoints.freeze(pe.address)
            return 0
        if option in (DISABLE, ENABLE):
            return -errno.EPERM if option == DISABLE else 0
        action = {THAW_MMIO: OpalFreezeAction.MMIO, THAW_DMA: OpalFreezeAction.DMA}[option]
        return 0 if pe.host.endpoints.unfreeze(pe.address, action) else -errno.EIO

    def inject(self, pe: EehPe, type_: int, function: int, address: int, mask: int) -> int:
        """``pnv_eeh_err_inject``."""
        if type_ not in {one.value for one in EehErrorType}:
            self.eeh.kernel_line(WARNING, f"pnv_eeh_err_inject: Invalid error type {type_}")
            return -errno.ERANGE
        if function not in {one.value for one in EehErrorFunction}:
            self.eeh.kernel_line(WARNING, f"pnv_eeh_err_inject: Invalid error function {function}")
            return -errno.ERANGE
        code = self.opal.pci_err_inject(pe.host.opal_id, pe.address, type_, function, address, mask)
        if code:
            text = f"pnv_eeh_err_inject: Failure {code} injecting error {type_}-{function} to {pe.name}"
            self.eeh.kernel_line(WARNING, text)
        return -errno.EIO if code else 0
