"""The bench of the channel subsystem's tests, one storey higher: the same subchannel as a guest has it.

A host machine boots, finds the device, gives its subchannel to vfio_ccw, and a guest's channel subsystem has it by the
same number.  `GuestBench` is used as `css_rig.Bench` is.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ccw_fixture import CcwHost
from css_rig import SCHID, Bench
from guest_css import GuestCss

from pyvfio.address import SubchannelId
from pyvfio.passthrough import GuestMemory, MemoryArea
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.hardware.css import MAINFRAME, ControlUnit, CssModel, SubchannelConfig

OPEN: list[ExitStack] = []
"""What the benches of a test have open; its fixture closes it."""


class Storage(GuestMemory):
    """As `css_rig.Memory`, for a guest."""

    css: GuestCss | None = None

    def __init__(self, size: int = 0x90000) -> None:
        super().__init__(size)

    def add(self, start: int, size: int) -> MemoryArea:
        area = super().add(start, size)
        if self.css is not None:
            self.css.memory_added()
        return area


class _Clock:
    """Time of the host, and with it the guest's looking at what came."""

    def __init__(self, host: CcwHost, css: GuestCss) -> None:
        self._host = host
        self._css = css

    def settle(self) -> None:
        self._host.settle()
        while self._css.poll():
            self._host.settle()

    def advance(self, seconds: float) -> None:
        with self._host.machine.lock:
            self._host.machine.clock.advance(seconds)
        self.settle()


class GuestBench(Bench):
    """A guest's channel subsystem with one enabled subchannel at `SCHID`."""

    memory: Any
    clock: Any
    css: Any

    def __init__(self, device: ControlUnit | None = None, model: CssModel = MAINFRAME, **config: Any) -> None:
        stack = ExitStack()
        OPEN.append(stack)
        self.host = stack.enter_context(CcwHost(MachineSpec("host")))
        self.host.machine.css.model = model
        self.device = device
        self.interrupts: list[SubchannelId] = []
        self.crw_calls = 0
        self.memory = Storage()
        stack.callback(self.memory.close)
        self.css = GuestCss(self.memory, on_io_interrupt=self._interrupted, on_crw=self._on_crw)
        self.css.host = self.host
        stack.enter_context(self.css)
        self.memory.css = self.css
        self.css.add_subchannel(SubchannelConfig(SCHID, **{"devno": 0x1001, "device": device, **config}))
        self.clock = _Clock(self.host, self.css)
        assert self.enable() == 0

    def _interrupted(self, schid: SubchannelId) -> None:
        self.interrupts.append(schid)
