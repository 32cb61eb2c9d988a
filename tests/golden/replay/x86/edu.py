"""edu's registers through an open device: what several replays do with it."""

from __future__ import annotations

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio

from .lab import Lab
from .opened import REGION_SHIFT

__all__ = ["DMA", "Edu"]

#: Where its buffer is in its own address space.
DMA = 0x40000
_SOURCE, _TARGET, _COUNT, _DMA_COMMAND = 0x80, 0x88, 0x90, 0x98
_RUN, _FROM_DEVICE, _INTERRUPT = 1, 2, 4
_ON = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER
_CONFIG = vfio.VFIO_PCI_CONFIG_REGION_INDEX << REGION_SHIFT
_TRIES = 50
_STEP = 0.02


class Edu:
    """edu behind the descriptor `fd`."""

    def __init__(self, lab: Lab, fd: int) -> None:
        self.lab = lab
        self.fd = fd

    def enable(self, command: int = _ON) -> None:
        """Let it answer and be a master."""
        self.lab.host.pwrite(self.fd, command.to_bytes(2, "little"), _CONFIG + regs.PCI_COMMAND)

    def load(self, offset: int, size: int = 4) -> int:
        """Read a register."""
        return int.from_bytes(self.lab.host.pread(self.fd, size, offset), "little")

    def store(self, offset: int, value: int, size: int = 4) -> None:
        """Write a register."""
        self.lab.host.pwrite(self.fd, value.to_bytes(size, "little"), offset)

    def copy(self, source: int, target: int, count: int, *, to_device: bool, interrupt: bool = False) -> str:
        """Let it copy: ``done`` once its command register says so."""
        self.store(_SOURCE, source, 8)
        self.store(_TARGET, target, 8)
        self.store(_COUNT, count, 8)
        self.store(_DMA_COMMAND, _RUN | (0 if to_device else _FROM_DEVICE) | (_INTERRUPT if interrupt else 0), 8)
        for _ in range(_TRIES):
            if not self.load(_DMA_COMMAND, 8) & _RUN:
                return "done"
            self.lab.wait(_STEP)
        return "still running"
