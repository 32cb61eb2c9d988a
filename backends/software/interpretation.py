"""The machine's own execution of a guest's PCI instructions, for who runs the guest.

It is what `pyvfio.passthrough.interpretation` asks for.

As for the verbs of the seam, each call has the machine's lock, and what it caused is done when it returns.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyvfio.zpci.handle import FH_ENABLED
from pyvfio.zpci.instructions import Refused
from pyvfio_backends.software.linux.kvm_zpci import Kvm, KvmZdev
from pyvfio_backends.software.linux.vfio_file import DeviceFile
from pyvfio_backends.software.linux.vfio_pci import VfioPciDevice
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.linux.zpci import to_zpci

if TYPE_CHECKING:
    from pyvfio.passthrough.interpretation import Areas
    from pyvfio.zpci.fib import Fib
    from pyvfio_backends.software.machine import Machine

__all__ = ["SoftwareInterpretation"]


class SoftwareInterpretation:
    """A guest, as the machine knows it (implements `Interpretation`); `kvm` is what the kernel keeps of it."""

    def __init__(self, machine: Machine, areas: Areas, interrupt: Callable[[int], None]) -> None:
        self._machine = machine
        self.kvm = Kvm(machine.kernel, areas, interrupt)

    def add(self, fd: int) -> _GuestsFunction:
        """See `Interpretation.add`."""
        with self._machine.lock:
            file = self._machine.kernel.fds.get(fd)
            if not isinstance(file, DeviceFile) or not isinstance(file.device, VfioPciDevice):
                raise fail(errno.EINVAL)
            function = _GuestsFunction(self._machine, KvmZdev(self.kvm, file.device.pdev))
            self._machine.clock.settle()
            return function


class _GuestsFunction:
    """A function that its guest uses (implements `HostFunction`)."""

    def __init__(self, machine: Machine, zdev: KvmZdev) -> None:
        self._machine = machine
        self._zdev = zdev
        self._function = zdev.function
        self._lock = machine.lock
        self._settle = machine.clock.settle

    @property
    def fh(self) -> int:
        """See `HostFunction.fh`."""
        handle = self._function.fh
        return handle if handle & FH_ENABLED and self._mine else 0

    @property
    def _mine(self) -> bool:
        return to_zpci(self._zdev.device).kzdev is self._zdev

    def load(self, space: int, offset: int, length: int) -> int:
        """PCI LOAD.  Raise `Refused` or `OperandException`."""
        with self._lock:
            if not self._mine:
                raise Refused(3)
            value = self._function.load(space, offset, length)
            self._settle()
            return value

    def store(self, space: int, offset: int, length: int, value: int) -> None:
        """PCI STORE.  Raise `Refused` or `OperandException`."""
        with self._lock:
            if not self._mine:
                raise Refused(3)
            self._function.store(space, offset, length, value)
            self._settle()

    def check_block(self, space: int, offset: int, length: int) -> None:
        """See `Accessible.check_block`."""
        with self._lock:
            if not self._mine:
                raise Refused(3)
            self._function.check_block(space, offset, length)

    def has_bar(self, number: int) -> bool:
        """See `HostFunction.has_bar`."""
        return self._function.has_bar(number)

    def forward(self, fib: Fib, *, assist: bool) -> None:
        """See `HostFunction.forward`."""
        with self._lock:
            if not self._mine:
                raise fail(errno.ENODEV)
            self._zdev.enable_forwarding(fib, assist=assist)
            self._settle()

    def stop_forwarding(self) -> None:
        """See `HostFunction.stop_forwarding`."""
        with self._lock:
            if self._mine:
                self._zdev.disable_forwarding()

    def close(self) -> None:
        """See `HostFunction.close`."""
        with self._lock:
            if self._mine:
                self._zdev.unregister()
                self._settle()
