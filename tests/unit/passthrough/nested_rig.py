"""A guest of a guest: the bench once more, on a Linux that is itself a guest.

::

    NestedBench.css        guest of the guest     GuestChannelSubsystem, memory: a part of the guest's
    NestedBench.linux      the guest's kernel     vfio_ccw, on the channel subsystem of GuestBench
    GuestBench.css         the guest              GuestChannelSubsystem, memory: of this process
    GuestBench.host        the host's kernel      vfio_ccw, on the hardware
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ccw_fixture import CSS, UUID, CcwHost
from css_rig import SCHID
from guest_css import GuestCss
from guest_rig import OPEN, GuestBench, Storage

import pyvfio
from pyvfio.css import StorageError
from pyvfio.passthrough import MemoryArea
from pyvfio.process import ProcessMemory
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.linux import css as linux_css

KERNEL = 0x100000  # of the guest: 1 MiB for its kernel, behind that of what it runs
ROOM = 0x100000
INNER = KERNEL + ROOM
INNER_SIZE = 0x90000


class KernelStorage:
    """The absolute storage of a guest's kernel, as `HostMemory`: its blocks and its programs' pages are the guest's."""

    def __init__(self, memory: Storage, page_size: int) -> None:
        self.memory = memory
        self.page_size = page_size
        self._blocks: dict[int, int] = {}

    def allocate(self, size: int) -> int:
        room = -(-max(size, 1) // self.page_size) * self.page_size
        for at in range(KERNEL, KERNEL + ROOM, self.page_size):
            if all(at + room <= start or start + length <= at for start, length in self._blocks.items()):
                self._blocks[at] = room
                self.memory.write(at, bytes(room))
                return at
        raise MemoryError

    def free(self, address: int) -> None:
        self._blocks.pop(address, None)

    def pinned_address(self, caller: ProcessMemory, virtual: int) -> int:
        for area in self.memory.areas():
            if area.address <= virtual < area.address + area.length:
                return area.start + virtual - area.address
        raise StorageError(virtual, 1)

    def read(self, address: int, count: int) -> bytes:
        return self.memory.read(address, count)

    def write(self, address: int, data: bytes) -> None:
        self.memory.write(address, data)


class InnerStorage:
    """Memory of a guest of a guest: `INNER_SIZE` bytes of the guest's."""

    def __init__(self, memory: Storage) -> None:
        self._memory = memory

    def areas(self) -> Sequence[MemoryArea]:
        outer = next(area for area in self._memory.areas() if area.start == KERNEL)
        return [MemoryArea(0, outer.address + INNER - KERNEL, INNER_SIZE)]

    def _check(self, address: int, count: int) -> None:
        if not 0 <= address <= address + count <= INNER_SIZE:
            raise StorageError(address, count)

    def read(self, address: int, count: int) -> bytes:
        self._check(address, count)
        return self._memory.read(INNER + address, count)

    def write(self, address: int, data: bytes) -> None:
        self._check(address, len(data))
        self._memory.write(INNER + address, data)


class _Clock:
    """Time of all storeys, from the lowest up."""

    def __init__(self, outer: Any, css: GuestCss, linux: CcwHost, inner: GuestCss) -> None:
        self._outer = outer
        self._css = css
        self._linux = linux
        self._inner = inner

    def settle(self) -> None:
        seen = 1
        while seen:
            self._outer.settle()
            self._linux.settle()
            seen = self._css.poll() + self._inner.poll()

    def advance(self, seconds: float) -> None:
        self._outer.advance(seconds)
        self.settle()


class NestedBench(GuestBench):
    """A guest of a guest with one enabled subchannel at `SCHID`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        stack = OPEN[-1]
        self.enable(False)
        outer_css, outer_memory, outer_clock = self.css, self.memory, self.clock
        outer_memory.add(KERNEL, ROOM + INNER_SIZE)
        self.linux = stack.enter_context(CcwHost(MachineSpec("guest")))
        machine = self.linux.machine
        machine.kernel.memory = KernelStorage(outer_memory, machine.page_size)  # type: ignore[assignment]
        css = machine.kernel.subsystems[linux_css.CSS]
        css.hardware = outer_css
        outer_css._on_io_interrupt = css.io_interrupt
        outer_css._on_crw = css.channel_report_pending
        self.memory = InnerStorage(outer_memory)
        inner = GuestCss(self.memory, on_io_interrupt=self._interrupted, on_crw=self._on_crw)
        inner.host = self.linux
        self.clock = _Clock(outer_clock, outer_css, self.linux, inner)
        with machine.lock:
            css.evaluate(SCHID)
        self.clock.settle()
        name = str(SCHID)
        assert self.linux.exists(f"{name}/0.0.1001"), "the guest's kernel did not find the device"
        self.linux.write(f"{name}/driver_override", "vfio_ccw")
        self.linux.write(f"{CSS}/drivers/io_subchannel/unbind", name)
        self.linux.write(f"{CSS}/drivers/vfio_ccw/bind", name)
        self.linux.create(name, UUID)
        library = pyvfio.Host(self.linux.host)
        self.css = stack.enter_context(inner)
        self.css.attach(pyvfio.open_device(library, library.mdev(UUID)), "0.0.1001", schid=SCHID)
        assert self.enable() == 0
