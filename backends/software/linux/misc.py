"""Devices of class ``misc``: a node of major number 10 each (``drivers/char/misc.c``)."""

from __future__ import annotations

from typing import Final

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.vfs import CharacterDevice, Opener

__all__ = ["add_misc_device"]

_MISC_MAJOR: Final = 10
_PLAIN: Final = 0o600


class _MiscDevice(Device):
    """A device of class ``misc``; its events say the mode of the node."""

    __slots__ = ("mode",)

    def __init__(self, kernel: Kernel, name: str, minor: int, path: str, mode: int) -> None:
        super().__init__(kernel, name, None, cls=kernel.class_("misc"))
        self.devnode = (_MISC_MAJOR, minor, path)
        self.mode = mode

    def uevent_vars(self) -> list[tuple[str, str]]:
        return [("DEVMODE", f"{self.mode:#05o}".replace("0o", "0"))] if self.mode != _PLAIN else []


def add_misc_device(kernel: Kernel, name: str, minor: int, path: str, mode: int, opener: Opener) -> None:
    """Put a misc device into the tree, and its node below ``/dev``; mode 0600 is what a driver has that says none."""
    device = _MiscDevice(kernel, name, minor, path, mode)
    kernel.add_class_device(device, quiet=True)
    kernel.add_node(path, CharacterDevice(_MISC_MAJOR, minor, opener, mode))
