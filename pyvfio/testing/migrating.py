"""A device that can be migrated, of whatever kind the host has one, with something in it that is worth saving.

On a kernel with its samples of mediated devices that is ``mtty``, a serial port; on a software machine the copier under
``copier-vfio-pci``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from pyvfio.abi import pci_regs as regs
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.pci import copier
from pyvfio.process.program import run_program
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import MDEV_UUID, BoundFunction, BoundMdev
from pyvfio.vfio import Device

__all__ = ["Migrating", "load_samples", "migrating"]

_MTTY = "/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1"
_SCRATCH = 7


class Migrating(Protocol):
    """A device that its driver can migrate."""

    name: str
    """The address, for `pyvfio.open_device`."""

    def put(self, device: Device, value: int) -> None:
        """Put a value from 1 to 255 into it."""

    def get(self, device: Device) -> int:
        """What is in it; 0 is what is in a new one."""


class _Serial:
    """A port of mtty: its scratch register."""

    name = MDEV_UUID

    def put(self, device: Device, value: int) -> None:
        device.bar(0).write_u8(_SCRATCH, value)

    def get(self, device: Device) -> int:
        return device.bar(0).read_u8(_SCRATCH)


class _Copier:
    """A copier: where its ring is to be."""

    def __init__(self, name: str) -> None:
        self.name = name

    def put(self, device: Device, value: int) -> None:
        self._decode(device)
        device.bar(copier.BAR).write_u64(copier.RING, value * copier.DESCRIPTOR_SIZE)

    def get(self, device: Device) -> int:
        self._decode(device)
        return device.bar(copier.BAR).read_u64(copier.RING) // copier.DESCRIPTOR_SIZE

    def _decode(self, device: Device) -> None:
        device.config.write(regs.PCI_COMMAND, regs.PCI_COMMAND_MEMORY.to_bytes(2, "little"))


def load_samples() -> None:
    """Have the kernel of this host load mtty, if it has it."""
    with suppress(OSError):
        run_program(["modprobe", "-q", "mtty"], {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


@contextmanager
def migrating(backend: Backend) -> Iterator[Migrating | None]:
    """A device on this host, taken for the ``with`` block, or None: a copier if it has one, else mtty."""
    sysfs = Attributes(backend)
    ids = (copier.VENDOR_ID, copier.DEVICE_ID)
    with Host(backend) as host:
        found = next((one.name for one in host.functions() if (one.vendor_id, one.device_id) == ids), None)
    if found is not None:
        with _BoundCopier(backend, found):
            yield _Copier(found)
        return
    if not sysfs.exists(_MTTY):
        yield None
        return
    sysfs.write(f"{_MTTY}/create", MDEV_UUID)
    with BoundMdev(backend, MDEV_UUID):
        yield _Serial()


class _BoundCopier(BoundFunction):
    def __enter__(self) -> _BoundCopier:
        self.take("copier-vfio-pci")
        return self
