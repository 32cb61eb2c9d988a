"""How bare-metal POWER resets an endpoint (``arch/powerpc/platforms/powernv/eeh-powernv.c``, 6.12).

::

    a bus behind the root port    hot or fundamental, of the host bridge's slot
    a bus further down            of the slot of the bridge above it
    the host bridge               complete
    a virtual function            function level

What froze stays frozen through a reset, until registers are as they were: then Linux thaws it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import opal as api
from pyvfio.abi import pci_capability_regs as capability_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.opal import OpalReset
from pyvfio_backends.software.hardware.ioda.model import P7IOC
from pyvfio_backends.software.linux.eeh import ResetKind
from pyvfio_backends.software.linux.eeh_pe import PeType
from pyvfio_backends.software.linux.kernel_log import WARNING, say

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh_pe import EehDev, EehHost, EehPe
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.pcie_function import PcieFunction
    from pyvfio_backends.software.linux.pnv_eeh import PnvEeh

__all__ = ["PnvReset"]

_HOLD, _SETTLE = 0.25, 1.8
_LINK_DELAY, _NOT_READY = 0.1, 1.023
_PEND_TRIES = 4
_AF_FLR = capability_regs.PCI_AF_CAP_TP | capability_regs.PCI_AF_CAP_FLR


class PnvReset:
    """Resets for `platform`; each answers 0 or a negative errno."""

    def __init__(self, platform: PnvEeh) -> None:
        self._platform = platform
        self._opal = platform.opal
        self._sleep = platform.eeh.sleep

    def step(self, pe: EehPe, kind: int) -> int:
        """A step of a reset (``pnv_eeh_reset``)."""
        host = pe.host
        if pe.type & PeType.PHB:
            return self._phb_reset(host, kind)
        model = self._opal.phbs[host.opal_id].model
        if (
            model is P7IOC  # which keeps injected errors
            and kind != ResetKind.DEACTIVATE
            and self._opal.pci_reset(host.opal_id, OpalReset.PHB_ERROR, api.OPAL_ASSERT_RESET)
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
            self._sleep(code / 1000)
            code = self._opal.pci_poll(slot)
        return 0 if code == api.OPAL_SUCCESS else -errno.EIO

    def _phb_reset(self, host: EehHost, kind: int) -> int:
        how = api.OPAL_DEASSERT_RESET if kind == ResetKind.DEACTIVATE else api.OPAL_ASSERT_RESET
        code = self._finish(host.opal_id, self._opal.pci_reset(host.opal_id, OpalReset.PHB_COMPLETE, how))
        if not code and kind == ResetKind.DEACTIVATE:
            self._sleep(_SETTLE)
        return code

    def _root_reset(self, host: EehHost, kind: int) -> int:
        scope = OpalReset.PCI_FUNDAMENTAL if kind == ResetKind.FUNDAMENTAL else OpalReset.PCI_HOT
        how = api.OPAL_DEASSERT_RESET if kind == ResetKind.DEACTIVATE else api.OPAL_ASSERT_RESET
        code = self._finish(host.opal_id, self._opal.pci_reset(host.opal_id, scope, how))
        if kind == ResetKind.DEACTIVATE:
            self._sleep(_SETTLE)
        return code

    def _bridge_reset(self, host: EehHost, bridge: PcieFunction, kind: int) -> int:
        if bridge.on.above is None:
            return self._root_reset(host, kind)
        if kind == ResetKind.DEACTIVATE:
            return 0
        slot = api.OPAL_SLOT_ID_PREFIX | bridge.rid << 16 | host.opal_id
        scope = OpalReset.PCI_FUNDAMENTAL if kind == ResetKind.FUNDAMENTAL else OpalReset.PCI_HOT
        return self._finish(slot, self._opal.pci_reset(slot, scope, api.OPAL_ASSERT_RESET))

    def behind(self, bridge: PcieFunction) -> None:
        """Reset the bus behind a bridge, from beginning to end (``pnv_pci_reset_secondary_bus``)."""
        host = next(one for one in self._platform.eeh.hosts if one.number == bridge.bridge.domain)
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
        self._sleep(_LINK_DELAY)
        if first.read_config(regs.PCI_COMMAND, 4) != 0xFFFFFFFF:
            return True
        self._sleep(_NOT_READY)
        say(first, WARNING, f"not ready {_NOT_READY * 1000:.0f}ms after bus reset; giving up")
        return False

    def _reset_virtual(self, pe: EehPe, kind: int) -> int:
        """``pnv_eeh_reset_vf_pe``: a function-level reset, of PCI Express or else of Advanced Features."""
        if not pe.devs:
            return -errno.ENXIO
        dev, over = pe.devs[0], kind == ResetKind.DEACTIVATE
        if self._can(dev, dev.express, regs.PCI_EXP_DEVCAP, 4, regs.PCI_EXP_DEVCAP_FLR):
            at, bit = dev.express + regs.PCI_EXP_DEVCTL, regs.PCI_EXP_DEVCTL_BCR_FLR
            if not over:
                self._wait_pending(dev, "", dev.express + regs.PCI_EXP_DEVSTA, regs.PCI_EXP_DEVSTA_TRPND)
            value = self._platform.read_config(dev, at, 4)
            self._platform.write_config(dev, at, 4, value & ~bit if over else value | bit)
        elif self._can(dev, dev.advanced, capability_regs.PCI_AF_CAP, 1, _AF_FLR):
            at = dev.advanced + capability_regs.PCI_AF_CTRL
            if not over:  # the status is the byte behind
                self._wait_pending(dev, "AF", at, capability_regs.PCI_AF_STATUS_TP << 8)
            self._platform.write_config(dev, at, 1, 0 if over else capability_regs.PCI_AF_CTRL_FLR)
        else:
            return -errno.ENOTTY
        self._sleep(_SETTLE if over else _HOLD)
        return 0

    def _can(self, dev: EehDev, at: int, register: int, size: int, bits: int) -> bool:
        """Whether a capability, at 0 when there is none, says that it can reset."""
        return bool(at) and self._platform.read_config(dev, at + register, size) & bits == bits

    def _wait_pending(self, dev: EehDev, kind: str, at: int, bit: int) -> None:
        """Wait for what the function has asked for (``pnv_eeh_wait_for_pending``), not for ever."""
        for attempt in range(_PEND_TRIES):
            if not self._platform.read_config(dev, at, 2) & bit:
                return
            self._sleep((1 << attempt) * 0.1)
        text = f"pnv_eeh_wait_for_pending: Pending transaction while issuing {kind}FLR to {dev.name}"
        self._platform.eeh.kernel_line(WARNING, text)
