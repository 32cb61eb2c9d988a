"""The machine that answers, and what all replays of the x86 lab do with it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Any

from pyvfio.abi import vfio
from pyvfio_backends.software.loader import find_machine, load_machine
from replay.seam import Seam

__all__ = ["CONTAINER", "DEVICES", "DRIVERS", "GROUPS", "IOMMU", "MEMLOCK", "RW", "SLOTS", "Answers", "Lab", "attempt"]

DEVICES = "/sys/bus/pci/devices"
DRIVERS = "/sys/bus/pci/drivers"
GROUPS = "/sys/kernel/iommu_groups"
SLOTS = "/sys/bus/pci/slots"
CONTAINER = "/dev/vfio/vfio"
IOMMU = "/dev/iommu"
RW = os.O_RDWR | os.O_CLOEXEC
#: The host's drivers that the recorder had loaded.
_DRIVERS = ("virtio_pci", "e1000e", "igb", "nvme", "pci_stub", "shpchp", "mdev", "mtty")
#: What a process of the recorder's guest could lock, without the privilege to lock more.
MEMLOCK = 8 << 20


def attempt(work: Callable[[], Any]) -> Any:
    """The value, ``{"errno": ...}``, or ``{"exception": ...}`` where the replay itself went wrong."""
    try:
        return work()
    except OSError as error:
        return {"errno": errno.errorcode.get(error.errno or 0, str(error.errno))}
    except Exception as error:  # what breaks here is an answer that disagrees
        return {"exception": f"{type(error).__name__}: {error}"}


class Answers(dict[str, Any]):
    """A replay's answers in the recording's shape."""

    def ask(self, key: str, work: Callable[[], Any]) -> Any:
        """Do it and note what came: see `attempt`."""
        self[key] = attempt(work)
        return self[key]


class Lab:
    """``lab-x86`` behind the seam, in the notation of the lab's recorder."""

    def __init__(self, *, privileged: bool = True) -> None:
        spec = load_machine(find_machine("lab-x86"))
        spec.memlock = MEMLOCK
        spec.modules = (*spec.modules, *_DRIVERS)
        spec.ipc_lock = privileged
        self.seam = Seam(spec)
        self.host = self.seam.host

    def close(self) -> None:
        """End the machine."""
        self.seam.close()

    # sysfs

    def text(self, path: str) -> str:
        """An attribute without the newline at its end."""
        return self.seam.read(path).decode().rstrip("\n")

    def mode(self, path: str) -> str:
        """``0o644``."""
        return oct(self.host.stat(path).st_mode & 0o7777)

    def driver(self, address: str) -> str | None:
        """The driver that has a function."""
        return self.seam.link(f"{DEVICES}/{address}/driver")

    def drivers(self, addresses: Iterable[str]) -> dict[str, str | None]:
        """The drivers of several functions."""
        return {address: self.driver(address) for address in addresses}

    def group(self, address: str) -> str | None:
        """The number of its IOMMU group."""
        return self.seam.link(f"{DEVICES}/{address}/iommu_group")

    def members(self, group: str | None) -> list[str]:
        """The functions of a group."""
        return self.seam.listing(f"{GROUPS}/{group}/devices")

    def override(self, address: str, driver: str) -> int:
        """Write ``driver_override``."""
        return self.seam.write(f"{DEVICES}/{address}/driver_override", driver)

    def bind(self, driver: str, address: str) -> int:
        """Write a driver's ``bind``."""
        return self.seam.write(f"{DRIVERS}/{driver}/bind", address)

    def unbind(self, driver: str, address: str) -> int:
        """Write a driver's ``unbind``."""
        return self.seam.write(f"{DRIVERS}/{driver}/unbind", address)

    def probe(self, address: str) -> int:
        """Write ``drivers_probe``."""
        return self.seam.write("/sys/bus/pci/drivers_probe", address)

    def take(self, address: str, driver: str = "vfio-pci") -> None:
        """Give a function to a driver, as the recorder did between its questions."""
        holder = self.driver(address)
        if holder == driver:
            return
        if holder is not None:
            self.unbind(holder, address)
        self.override(address, driver)
        self.probe(address)

    def release(self, address: str) -> None:
        """Give a function back."""
        holder = self.driver(address)
        if holder is not None:
            self.unbind(holder, address)
        self.override(address, "\n")
        self.probe(address)

    # events and time

    def events(self) -> list[list[str]]:
        """The lines of each uevent since the last look."""
        return self.seam.new_events()

    def wait(self, seconds: float) -> None:
        """Let machine time pass, as the recorder slept."""
        self.seam.advance(seconds)

    # vfio

    def open(self, path: str) -> int:
        """Open a node."""
        return self.host.open(path, RW)

    def open_group(self, address: str) -> int:
        """Open the group of a function."""
        return self.open(f"/dev/vfio/{self.group(address)}")

    def group_flags(self, group: int) -> int:
        """``VFIO_GROUP_GET_STATUS``: the flags."""
        status = vfio.GroupStatus.sized()
        self.seam.call(group, vfio.VFIO_GROUP_GET_STATUS, status)
        return int(status.flags)

    def set_container(self, group: int, container: int) -> int:
        """``VFIO_GROUP_SET_CONTAINER``."""
        return self.seam.descriptor(group, vfio.VFIO_GROUP_SET_CONTAINER, container)

    def cdev(self, address: str) -> str:
        """The node of the device itself."""
        return f"/dev/vfio/devices/{self.host.listdir(f'{DEVICES}/{address}/vfio-dev')[0]}"
