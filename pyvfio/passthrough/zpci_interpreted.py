"""A guest's PCI function whose loads and stores the host's machine carries out (`interpretation`).

Its handle in the guest is the host's, enabled when the guest has enabled it, so that the machine finds the function by
it; and it has the device's own MSI-X table, not one of the hypervisor's.

Source: ``hw/s390x/s390-pci-bus.c`` (``s390_pci_interp_plug``) and ``s390-pci-inst.c`` of QEMU (which register
interruptions with the kernel).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from pyvfio.passthrough.interpretation import HostFunction
from pyvfio.passthrough.memory import GuestStorage
from pyvfio.passthrough.msix import Send
from pyvfio.passthrough.zpci_function import GuestFunction
from pyvfio.vfio.device import Device
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.function import FunctionState
from pyvfio.zpci.handle import FH_ENABLED, FH_INDEX
from pyvfio.zpci.measurement import Counts

__all__ = ["InterpretedFunction"]

_USABLE = (FunctionState.ENABLED, FunctionState.BLOCKED)


class InterpretedFunction(GuestFunction):
    """The function of the open `device`, which the machine knows as `host`.

    `assist` is whether it forwards interruptions by itself.  `changed` is called when the machine may, or may no more,
    carry out the guest's instructions (`usable`).  The rest is as of `GuestFunction`.
    """

    interpreted = True

    def __init__(
        self,
        device: Device,
        storage: GuestStorage,
        uid: int,
        fid: int,
        lost: Callable[[GuestFunction], None],
        host: HostFunction,
        *,
        assist: bool,
        changed: Callable[[InterpretedFunction], None],
    ) -> None:
        self.host = host
        self.forwarding_assist = assist
        self.counts = Counts()
        self._changed = changed
        self._known = host.fh
        self._state = FunctionState.DISABLED
        super().__init__(device, storage, self._known & FH_INDEX, uid, fid, lost)
        self.store_block = self.query_group().maxstbl

    def _make_msix(self) -> None:
        """The guest writes the device's own table."""

    @property
    def state(self) -> FunctionState:
        """The state in the guest."""
        return self._state

    @state.setter
    def state(self, state: FunctionState) -> None:
        self._state = state
        self._changed(self)

    @property
    def usable(self) -> bool:
        """Whether the machine carries out loads and stores."""
        return self._state in _USABLE

    @property
    def fh(self) -> int:
        """The handle now: the host's."""
        self._known = self.host.fh or self._known
        return self._known & ~FH_ENABLED | (0 if self.is_disabled else FH_ENABLED)

    def reset(self) -> None:
        """See `GuestFunction.reset`; the host's function may have another handle then."""
        self.host.stop_forwarding()
        super().reset()

    def load(self, space: int, offset: int, length: int) -> int:
        """Load a little-endian number.  Raise `Refused` or `OperandException`."""
        return self.host.load(space, offset, length)

    def store(self, space: int, offset: int, length: int, value: int) -> None:
        """Store a little-endian number.  Raise `Refused` or `OperandException`."""
        self.host.store(space, offset, length, value)

    def check_block(self, space: int, offset: int, length: int) -> None:
        """Whether the block can be stored.  Raise `Refused` or `OperandException`."""
        self.host.check_block(space, offset, length)

    def register_interrupts(self, send: Send | None) -> None:
        """Messages do not come by here; see `forward`."""
        if send is None:
            self.host.stop_forwarding()

    def forward(self, fib: Fib) -> None:
        """Have the guest's registration told to the machine.  Raise OSError."""
        self.host.forward(fib, assist=self.forwarding_assist)

    def close(self) -> None:
        """Take it from the guest and close the device."""
        with contextlib.suppress(OSError):  # the device is gone
            self.host.close()
        super().close()
