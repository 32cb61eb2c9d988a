"""What bare-metal POWER does for EEH, by the firmware's calls (``arch/powerpc/platforms/powernv/eeh-powernv.c``).

::

    reset of an endpoint that is   a bus behind the root port    hot or fundamental, of the host bridge's slot
                                   a bus further down            of the slot of the bridge above it
                                   the host bridge               complete
                                   a virtual function            function level

What froze stays frozen through a reset, until registers are as they were: then Linux thaws it.
"""

from __future__ import annotations

import errno
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from pyvfio.abi import opal as api
from pyvfio.abi import pci_capability_regs as capability_regs
from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_ids
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.abi.opal import OpalErrorType, OpalFreezeAction, OpalFreezeState, OpalReset, OpalSeverity
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.ioda.model import P7IOC
from pyvfio_backends.software.linux.eeh import DISABLE, ENABLE, FREEZE, THAW_DMA, THAW_MMIO, ResetKind
from pyvfio_backends.software.linux.eeh_log import phb_log
from pyvfio_backends.software.linux.eeh_pe import ACTIVE, DevMode, EehDev, EehHost, EehPe, EehState, PeFlag, PeType
from pyvfio_backends.software.linux.kernel_log import ERROR, INFO, WARNING, say
from pyvfio_backends.software.linux.pcie_function import PcieFunction

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.opal import Opal
    from pyvfio_backends.software.linux.eeh import Eeh
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pcie_bus import PcieBus

__all__ = ["ErrorKind", "Found", "PnvEeh"]

_HOLD, _SETTLE = 0.25, 1.8
_LINK_DELAY, _NOT_READY = 0.1, 1.023
_WORDS = 16
_PEND_TRIES = 4
_LOG_BUFFER = 1 << 16
_RESTRICTED: Final = {(0x14E4, device) for device in (0x1656, 0x1657, 0x168A, 0x168E)}
"""Broadcom NICs that may not be asked for their configuration while they are frozen."""
_BROKEN = OpalErrorType.PHB_ERROR
_STATES: Final = {
    OpalFreezeState.NOT_FROZEN: ACTIVE,
    OpalFreezeState.MMIO_FREEZE: EehState.DMA_ACTIVE | EehState.DMA_ENABLED,
    OpalFreezeState.DMA_FREEZE: EehState.MMIO_ACTIVE | EehState.MMIO_ENABLED,
    OpalFreezeState.MMIO_DMA_FREEZE: EehState(0),
    OpalFreezeState.RESET: EehState.RESET_ACTIVE,
    OpalFreezeState.TEMP_UNAVAIL: EehState.UNAVAILABLE,
    OpalFreezeState.PERM_UNAVAIL: EehState.NOT_SUPPORT,
}


class ErrorKind(Enum):
    """``EEH_NEXT_ERR_*``: what the firmware has found."""

    NONE = auto()
    FROZEN_PE = auto()
    FENCED_PHB = auto()
    DEAD_PHB = auto()


class Found(NamedTuple):
    """An error, and the endpoint that has it."""

    kind: ErrorKind
    pe: EehPe | None = None


class PnvEeh:
    """The platform of `eeh`, over the firmware's calls."""

    def __init__(self, eeh: Eeh, opal: Opal) -> None:
        self.eeh = eeh
        self.opal = opal

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
            dev.mode |= DevMode.BRIDGE
            kind = regs.pci_exp_type(self.read_config(dev, dev.express + regs.PCI_EXP_FLAGS, 2)) if dev.express else -1
            if kind == ExpressType.ROOT_PORT:
                dev.mode |= DevMode.ROOT_PORT
            elif kind == ExpressType.DOWNSTREAM:
                dev.mode |= DevMode.DS_PORT
        dev.address = found.number
        dev.physfn, dev.vf_index = pdev.physfn, function.number
        pe = host.insert(dev, self._above(host, function, pdev))
        if (pdev.vendor, pdev.device_id) in _RESTRICTED:
            pe.flags |= PeFlag.CFG_RESTRICTED
        if not pe.flags & PeFlag.PRI_BUS:
            pe.bus = function.on
            pe.flags |= PeFlag.PRI_BUS
        if not self.eeh.found:
            self.eeh.found = True
            self.eeh.recovery.start()
        dev.config = [self.read_config(dev, 4 * word, 4) for word in range(_WORDS)]
        if dev.mode & DevMode.BRIDGE:
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
        if pe is None or (dev.physfn is not None and pe.flags & PeFlag.RESET):
            return False
        return bool(pe.flags & PeFlag.CFG_BLOCKED)

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
        return bool(dev.mode & DevMode.REMOVED or (dev.pe is not None and dev.pe.flags & PeFlag.CFG_BLOCKED))

    def config_failed(self, domain: int, rid: int) -> bool:
        """Ones were read of a function: whether it is frozen."""
        dev = self._dev(domain, rid) if self.eeh.found else None
        return dev is not None and self.eeh.check_failure(dev)

    # registers

    def restore_bars(self, pe: EehPe) -> None:
        """Write the registers that were found at first, of all functions (``eeh_pe_restore_bars``)."""
        for dev in pe.every():
            if dev.mode & DevMode.BRIDGE:
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
        if dev.mode & (DevMode.ROOT_PORT | DevMode.DS_PORT):  # eeh_bridge_check_link
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

    def state(self, pe: EehPe) -> EehState:
        """What the firmware says of an endpoint; one that is found frozen is isolated (``pnv_eeh_get_state``)."""
        return self._phb_state(pe) if pe.type & PeType.PHB else self._pe_state(pe)

    def _phb_state(self, pe: EehPe) -> EehState:
        status = self.opal.pci_eeh_freeze_status(pe.host.opal_id, pe.address)
        if status.code:
            return EehState.NOT_SUPPORT
        if status.error is not _BROKEN:
            return ACTIVE
        self._first_seen(pe)
        return EehState(0)

    def _pe_state(self, pe: EehPe) -> EehState:
        if pe.flags & PeFlag.RESET:
            return ACTIVE
        state = _STATES[pe.host.endpoints.state(pe.address)]
        if not state & (EehState.NOT_SUPPORT | EehState.UNAVAILABLE | EehState.MMIO_ACTIVE | EehState.DMA_ACTIVE):
            self._first_seen(pe)
        return state

    def _first_seen(self, pe: EehPe) -> None:
        """The endpoint was not known to be frozen: note that, and the bridge's log."""
        if pe.flags & PeFlag.ISOLATED:
            return
        if not pe.type & PeType.PHB:
            pe.host.endpoints.freeze(pe.address)
        pe.isolate()
        self.take_log(pe)

    def take_log(self, pe: EehPe) -> None:
        """Keep the bridge's error log with the endpoint (``pnv_eeh_get_phb_diag``)."""
        code, data = self.opal.pci_get_phb_diag_data(pe.host.opal_id, _LOG_BUFFER)
        if code:
            self.eeh.say(WARNING, f"Failure {code} getting PHB#{pe.host.number:x} diag-data")
            return
        pe.log = data
        if self.eeh.early_log:
            phb_log(self.eeh.kernel, pe.host.number, data)

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

    # resets; each is 0 or a negative errno

    def reset(self, pe: EehPe, kind: int) -> int:
        """A step of a reset (``pnv_eeh_reset``)."""
        host = pe.host
        if pe.type & PeType.PHB:
            return self._phb_reset(host, kind)
        model = self.opal.phbs[host.opal_id].model
        if (
            model is P7IOC  # which keeps injected errors
            and kind != ResetKind.DEACTIVATE
            and self.opal.pci_reset(host.opal_id, OpalReset.PHB_ERROR, api.OPAL_ASSERT_RESET)
        ):
            return -errno.EIO
        if pe.type & PeType.VF:
            return self._reset_virtual(pe, kind)
        bus = pe.top()
        if bus is None:
            return -errno.EIO
        if bus.above is None:
            return self._root_reset(host, kind)
        if kind == ResetKind.DEACTIVATE:
            return 0
        if kind != ResetKind.FUNDAMENTAL and self._error_reset(host, bus):
            return 0
        return self._bridge_reset(host, bus.above, kind)

    def _finish(self, slot: int, code: int) -> int:
        """Wait until a reset is over (``pnv_eeh_poll``)."""
        while code > 0:
            self.eeh.sleep(code / 1000)
            code = self.opal.pci_poll(slot)
        return 0 if code == api.OPAL_SUCCESS else -errno.EIO

    def _phb_reset(self, host: EehHost, kind: int) -> int:
        how = api.OPAL_DEASSERT_RESET if kind == ResetKind.DEACTIVATE else api.OPAL_ASSERT_RESET
        code = self._finish(host.opal_id, self.opal.pci_reset(host.opal_id, OpalReset.PHB_COMPLETE, how))
        if not code and kind == ResetKind.DEACTIVATE:
            self.eeh.sleep(_SETTLE)
        return code

    def _root_reset(self, host: EehHost, kind: int) -> int:
        scope = OpalReset.PCI_FUNDAMENTAL if kind == ResetKind.FUNDAMENTAL else OpalReset.PCI_HOT
        how = api.OPAL_DEASSERT_RESET if kind == ResetKind.DEACTIVATE else api.OPAL_ASSERT_RESET
        code = self._finish(host.opal_id, self.opal.pci_reset(host.opal_id, scope, how))
        if kind == ResetKind.DEACTIVATE:
            self.eeh.sleep(_SETTLE)
        return code

    def _bridge_reset(self, host: EehHost, bridge: PcieFunction, kind: int) -> int:
        if bridge.on.above is None:
            return self._root_reset(host, kind)
        if kind == ResetKind.DEACTIVATE:
            return 0
        slot = api.OPAL_SLOT_ID_PREFIX | bridge.rid << 16 | host.opal_id
        scope = OpalReset.PCI_FUNDAMENTAL if kind == ResetKind.FUNDAMENTAL else OpalReset.PCI_HOT
        return self._finish(slot, self.opal.pci_reset(slot, scope, api.OPAL_ASSERT_RESET))

    def reset_behind(self, bridge: PcieFunction) -> None:
        """Reset the bus behind a bridge, from beginning to end (``pnv_pci_reset_secondary_bus``)."""
        host = next(one for one in self.eeh.hosts if one.number == bridge.bridge.domain)
        self._bridge_reset(host, bridge, ResetKind.HOT)
        self._bridge_reset(host, bridge, ResetKind.DEACTIVATE)

    def _error_reset(self, host: EehHost, bus: PcieBus) -> bool:
        """The PCI core's reset of a bus, and whether what is there answers then (``pci_bus_error_reset``).

        It does not when EEH blocks its configuration meanwhile: then the reset is made once more by other means.
        """
        assert bus.above is not None
        self._bridge_reset(host, bus.above, ResetKind.HOT)
        self._bridge_reset(host, bus.above, ResetKind.DEACTIVATE)
        first = next(iter(bus.devices()), None)
        if first is None:
            return True
        self.eeh.sleep(_LINK_DELAY)
        if first.read_config(regs.PCI_COMMAND, 4) != 0xFFFFFFFF:
            return True
        self.eeh.sleep(_NOT_READY)
        say(first, WARNING, f"not ready {_NOT_READY * 1000:.0f}ms after bus reset; giving up")
        return False

    def _reset_virtual(self, pe: EehPe, kind: int) -> int:
        """``pnv_eeh_reset_vf_pe``: a function-level reset, of PCI Express or else of Advanced Features."""
        if not pe.devs:
            return -errno.ENXIO
        dev, over = pe.devs[0], kind == ResetKind.DEACTIVATE
        if self.read_config(dev, dev.express + regs.PCI_EXP_DEVCAP, 4) & regs.PCI_EXP_DEVCAP_FLR:
            at, bit = dev.express + regs.PCI_EXP_DEVCTL, regs.PCI_EXP_DEVCTL_BCR_FLR
            self._wait_pending(dev, dev.express + regs.PCI_EXP_DEVSTA, regs.PCI_EXP_DEVSTA_TRPND)
            value = self.read_config(dev, at, 4)
            self.write_config(dev, at, 4, value & ~bit if over else value | bit)
        elif dev.advanced and self.read_config(dev, dev.advanced + capability_regs.PCI_AF_CAP, 1) & (
            capability_regs.PCI_AF_CAP_FLR
        ):
            at = dev.advanced + capability_regs.PCI_AF_CTRL
            self.write_config(dev, at, 1, 0 if over else capability_regs.PCI_AF_CTRL_FLR)
        else:
            return -errno.ENOTTY
        self.eeh.sleep(_SETTLE if over else _HOLD)
        return 0

    def _wait_pending(self, dev: EehDev, at: int, bit: int) -> None:
        for attempt in range(_PEND_TRIES):
            if not self.read_config(dev, at, 2) & bit:
                return
            self.eeh.sleep((1 << attempt) * 0.1)

    # errors that the firmware has found

    def next_error(self) -> Found:
        """The next error that is to be handled (``pnv_eeh_next_error``)."""
        for host in self.eeh.hosts:
            if host.pe.flags & PeFlag.ISOLATED:
                continue
            error = self.opal.pci_next_error(host.opal_id)
            if error.code or error.error is OpalErrorType.NO_ERROR or error.severity is OpalSeverity.NO_ERROR:
                continue
            found = self._classify(host, error.endpoint, error.error, error.severity)
            pe = found.pe
            if found.kind is ErrorKind.NONE or pe is None:
                continue
            if found.kind is not ErrorKind.DEAD_PHB and not pe.flags & PeFlag.ISOLATED:
                pe.isolate()
                self.take_log(pe)
            if found.kind is ErrorKind.FROZEN_PE:
                pe = self._highest(pe)
                pe.isolate()
            return Found(found.kind, pe)
        return Found(ErrorKind.NONE)

    def _highest(self, pe: EehPe) -> EehPe:
        """The frozen endpoint that is the highest above one, or itself."""
        above = pe.parent
        while above is not None and not above.type & PeType.PHB:
            state = self.state(above)
            if state > 0 and not state.active:
                pe = above
            above = above.parent
        return pe

    def _classify(self, host: EehHost, number: int, error: OpalErrorType, severity: OpalSeverity) -> Found:
        eeh = self.eeh
        if error is OpalErrorType.PHB_ERROR:
            if severity is OpalSeverity.PHB_DEAD:
                eeh.say(ERROR, f"dead PHB#{host.number:x} detected, location: N/A")
                return Found(ErrorKind.DEAD_PHB, host.pe)
            if severity is OpalSeverity.PHB_FENCED:
                eeh.say(ERROR, f"Fenced PHB#{host.number:x} detected, location: N/A")
                return Found(ErrorKind.FENCED_PHB, host.pe)
            eeh.say(INFO, f"PHB#{host.number:x} informative error detected, location: N/A")
            self.take_log(host.pe)
            phb_log(eeh.kernel, host.number, host.pe.log)
            return Found(ErrorKind.NONE)
        if error is not OpalErrorType.PE_ERROR:
            return Found(ErrorKind.NONE)
        pe = self._frozen(host, number)
        if pe is None:
            eeh.say(INFO, f"Clear non-existing PHB#{host.number:x}-PE#{number}")
            code, log = self.opal.pci_get_phb_diag_data(host.opal_id, _LOG_BUFFER)
            if not code:
                phb_log(eeh.kernel, host.number, log)
            self.opal.pci_eeh_freeze_clear(host.opal_id, number, OpalFreezeAction.ALL)
            return Found(ErrorKind.NONE)
        if pe.flags & PeFlag.ISOLATED or pe.passed:
            return Found(ErrorKind.NONE)
        eeh.say(ERROR, f"Frozen PE#{pe.address:x} on PHB#{host.number:x} detected")
        eeh.say(ERROR, "PE location: N/A, PHB location: N/A")
        return Found(ErrorKind.FROZEN_PE, pe)

    def _frozen(self, host: EehHost, number: int) -> EehPe | None:
        """The endpoint that is frozen, or one above it that is too (``pnv_eeh_get_pe``)."""
        number = host.endpoints.master_of(number)
        found = host.get(number)
        at = found
        if found is not None and not found.flags & PeFlag.ISOLATED:
            host.endpoints.freeze(number)
        while at is not None and (at := at.parent) is not None and not at.type & PeType.PHB:
            state = self.state(at)
            if state <= 0 or state.active:
                continue
            found = at
            if not at.flags & PeFlag.ISOLATED:
                host.endpoints.freeze(at.address)
        return found
