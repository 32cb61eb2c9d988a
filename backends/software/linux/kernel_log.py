"""The kernel's log: what a kernel says of its errors, and ``/dev/kmsg`` to read it (``kernel/printk/printk.c``, 6.12).

A record is one read: ``PRIORITY,NUMBER,MICROSECONDS,-;TEXT``, then a line for the subsystem and one for the device,
each after a blank.  The oldest go when there are too many.  Only the parts of this kernel that recover from PCI Express
errors say anything here.
"""

from __future__ import annotations

import collections
import errno
import os
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import CharacterDevice, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.device import Device
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["ALERT", "ERROR", "INFO", "NOTICE", "WARNING", "KernelLog", "KmsgFile", "add_node", "kernel_log", "say"]

_LOG: Final[Key[KernelLog]] = Key("printk")
ALERT, ERROR, WARNING, NOTICE, INFO = 1, 3, 4, 5, 6
"""Levels (``KERN_ALERT``, ``KERN_ERR``, ``KERN_WARNING``, ``KERN_NOTICE``, ``KERN_INFO``)."""
_MAJOR, _MINOR, _MODE = 1, 11, 0o644
_RECORDS = 2000


class KernelLog:
    """The records, each with its number; `lines` is what ``dmesg`` would show."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.records: collections.deque[tuple[int, str, str]] = collections.deque(maxlen=_RECORDS)
        """Number, text, and the record as it is read."""
        self._next = 0

    def add(self, level: int, text: str, more: str = "") -> None:
        """Write a record; `more` are the lines after it."""
        number, self._next = self._next, self._next + 1
        when = int(self.kernel.clock.now * 1_000_000)
        self.records.append((number, text, f"{level},{number},{when},-;{text}\n{more}"))

    @property
    def lines(self) -> list[str]:
        """The texts, oldest first."""
        return [text for _, text, _ in self.records]


class KmsgFile(File):
    """An open ``/dev/kmsg``, at the oldest record."""

    def __init__(self, log: KernelLog, *, blocks: bool) -> None:
        self._log = log
        self._blocks = blocks
        self._at = log.records[0][0] if log.records else 0

    def read(self, n: int) -> bytes:
        """One record.  Raise OSError EAGAIN (none is left), EPIPE (the next one is gone), EINVAL (it is longer)."""
        records = self._log.records
        if self._blocks:
            self._log.kernel.clock.wait(lambda: bool(records) and records[-1][0] >= self._at)
        if not records or records[-1][0] < self._at:
            raise fail(errno.EAGAIN)
        if records[0][0] > self._at:
            self._at = records[0][0]
            raise fail(errno.EPIPE)
        record = records[self._at - records[0][0]][2].encode()
        if len(record) > n:
            raise fail(errno.EINVAL)
        self._at += 1
        return record


def kernel_log(kernel: Kernel) -> KernelLog:
    """The log, made when it is first asked for."""
    return kernel.subsystems.get_or_make(_LOG, lambda: KernelLog(kernel))


def add_node(kernel: Kernel) -> None:
    """Have ``/dev/kmsg``."""

    def opened(path: str, flags: int) -> File:
        return KmsgFile(kernel_log(kernel), blocks=not flags & os.O_NONBLOCK)

    kernel.add_node("kmsg", CharacterDevice(_MAJOR, _MINOR, opened, _MODE))


def say(device: Device, level: int, text: str) -> None:
    """Write about a device: its driver (or bus) and name go first (``dev_printk``)."""
    bus = "" if device.bus is None else device.bus.name
    who = device.driver.name if device.driver is not None else bus
    more = f" SUBSYSTEM={bus}\n DEVICE=+{bus}:{device.name}\n"
    kernel_log(device.kernel).add(level, f"{who} {device.name}: {text}", more)
