"""Resets by firmware, step by step: whoever asked waits the milliseconds that a step takes, and asks for the next.

::

    hot           secondary bus reset on    1 s    off    1 s    link up?
    fundamental   PERST on                  250 ms off           link up?
    complete      fence, PERST on           10 ms  bridge out of reset, tables written again  250 ms   as fundamental
    of a bridge   its secondary bus reset   250 ms off    1 s

While it lasts nothing behind the bridge answers configuration accesses, and that the link goes down is no error.
Endpoints stay frozen, but for a complete reset.  A hot reset of an empty slot has nothing to do; a link that does not
come up within a second is an error.  Source: ``hw/phb4.c`` and ``core/pcie-slot.c`` of skiboot.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.pcie.bridge import Bridge

__all__ = ["ResetFailed", "SlotReset"]

_SECOND, _PERST, _SETTLE, _LINK_POLL = 1000, 250, 10, 100
_LINK_POLLS = 10


class ResetFailed(Exception):
    """A reset came to nothing: the link did not come up."""


class SlotReset:
    """The resets of one slot: of the bridge itself (`below` None), or of what is behind the bridge `below`."""

    def __init__(self, phb: Phb, below: Bridge | None = None) -> None:
        self.phb = phb
        self.below = below
        self._steps: Iterator[int] | None = None

    @property
    def busy(self) -> bool:
        """Whether a reset is going on."""
        return self._steps is not None

    def hot(self) -> int:
        """Begin a hot reset; milliseconds to wait, 0: it is done."""
        return self._begin(self._hot() if self.below is None else self._bridge(self.below))

    def fundamental(self) -> int:
        """Begin a fundamental reset."""
        return self._begin(self._fundamental() if self.below is None else self._bridge(self.below))

    def complete(self) -> int:
        """Begin a complete reset of the bridge."""
        return self._begin(self._complete())

    def poll(self) -> int:
        """Go on; milliseconds to wait, 0: it is done.  Raise `ResetFailed`."""
        if self._steps is None:
            return 0
        try:
            return next(self._steps)
        except StopIteration:
            self._steps = None
            return 0
        except ResetFailed:
            self._steps = None
            raise

    def _begin(self, steps: Iterator[int]) -> int:
        self._steps = steps
        return self.poll()

    def _hot(self) -> Iterator[int]:
        port = self.phb.port
        if not port.present:
            return
        self._prepare()
        try:
            self._bus_reset(port, on=True)
            yield _SECOND
            self._bus_reset(port, on=False)
            yield _SECOND
            yield from self._link()
        finally:
            self._finish()

    def _bridge(self, bridge: Bridge) -> Iterator[int]:
        self._bus_reset(bridge, on=True)
        yield _PERST
        self._bus_reset(bridge, on=False)
        yield _SECOND

    def _fundamental(self) -> Iterator[int]:
        self._prepare()
        try:
            self._perst(on=True)
            yield _PERST
            self._perst(on=False)
            yield from self._link()
        finally:
            self._finish()

    def _complete(self) -> Iterator[int]:
        phb = self.phb
        self._prepare()
        try:
            phb.inject(None)
            phb.fence_quietly()
            self._perst(on=True)
            yield _SETTLE
            phb.port.reset_self(cold=True)
            phb.port.power_up()
            phb.inbound.forget()
            phb.forget_units()
            phb.endpoints.clear_all()
            phb.informative = False
            phb.unfence()
            self._perst(on=True)
            yield _PERST
            self._perst(on=False)
            yield from self._link()
        finally:
            self._finish()

    def _prepare(self) -> None:
        self.phb.link_expected = True
        self.phb.hold(True)

    def _finish(self) -> None:
        self.phb.link_expected = False
        self.phb.hold(False)

    def _perst(self, *, on: bool) -> None:
        """Assert PERST: everything below loses its state, sticky bits too."""
        port = self.phb.port
        port.holds_reset = on
        if on:
            for function in [one for one in port.secondary.functions.values() if not one.virtual]:
                function.reset(cold=True)
        port.moved()

    def _bus_reset(self, bridge: Bridge, *, on: bool) -> None:
        at, bit = bridge_regs.PCI_BRIDGE_CONTROL, bridge_regs.PCI_BRIDGE_CTL_BUS_RESET
        control = bridge.config.read(at, 2)
        bridge.config.write(at, 2, control | bit if on else control & ~bit)

    def _link(self) -> Iterator[int]:
        self.phb.port.settle(at_once=True)
        for _ in range(_LINK_POLLS):
            if self.phb.port.link_up:
                return
            yield _LINK_POLL
        raise ResetFailed
