"""The root port of a host bridge.

It sends requests up whatever their address is: DMA addresses have nothing to do with those of the bridge's windows, so
one that looks like an address below it is not a mistake of the port's.  It has no
interrupt of its own.  The identities are those of IBM's bridges, the
registers what QEMU gives PHB4's port.
"""

from __future__ import annotations

from typing import Final

from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.ioda.model import P7IOC, PHB3, PhbModel
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.capabilities import SubsystemId
from pyvfio_backends.software.hardware.pcie.express import Express, Slot
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.port import RootPort
from pyvfio_backends.software.hardware.pcie.request import Completion, Outcome, Request

__all__ = ["PhbPort", "phb_port"]

_IBM: Final = 0x1014
_DEVICES: Final = {P7IOC.name: 0x03B9, PHB3.name: 0x03DC}
_PHB4_DEVICE: Final = 0x04C1
_BRIDGE: Final = 0x060400
_SUBSYSTEM_AT, _EXPRESS_AT, _AER_AT = 0x40, 0x48, 0x100


class PhbPort(RootPort):
    """A root port that forwards every address."""

    def ascend(self, request: Request, source: Function) -> Completion:
        """See `Bridge.ascend`."""
        refused = self.check_forwarded(request)
        if refused is not None:
            return refused
        if not self.control.master or not self.passes or self.bus is None:
            return Completion(Outcome.UNSUPPORTED, completer=self.rid)
        return self.bus.ascend(request, self)


def phb_port(model: PhbModel, slot: Slot | None = None, *, name: str = "") -> PhbPort:
    """The root port of a bridge of `model`; without `slot` what is below it is soldered on."""
    identity = Identity(_IBM, _DEVICES.get(model.name, _PHB4_DEVICE), class_code=_BRIDGE)
    port = PhbPort(ConfigSpace(identity, bridge=True), name=name)
    port.add(SubsystemId(_IBM), _SUBSYSTEM_AT)
    port.add(Express(ExpressType.ROOT_PORT, ari=True, slot=slot), _EXPRESS_AT)
    port.add(Aer(root=True, multiple=True), _AER_AT)
    port.finish()
    return port
