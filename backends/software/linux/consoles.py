"""The terminals of the class ``tty`` that the kernel's console is on, ``/dev/console`` and ``/proc/consoles``.

None of them has a parent in sysfs (``drivers/tty/tty_io.c``, ``drivers/s390/char/con3270.c``, ``drivers/tty/hvc``), so
that no link leads from a device to its terminal.  No character passes.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.host_state import ConsoleEntry
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.vfs import Attribute, CharacterDevice, Node, fail
from pyvfio_backends.software.usage import CONSOLES

__all__ = ["add_terminal", "remove_terminal", "set_consoles"]

_CONSOLE = (5, 1)


class _Terminal(Device):
    """A terminal or another character device `path` below ``/dev``, with the number `major`:`minor`."""

    def __init__(self, kernel: Kernel, cls: str, path: str, major: int, minor: int) -> None:
        super().__init__(kernel, path.replace("/", "!"), None, cls=kernel.class_(cls))
        self.devnode = (major, minor, path)


class _Console(_Terminal):
    def attributes(self) -> dict[str, Node]:
        # show_cons_active: the preferred console comes last
        names = [
            name for entry in reversed(self.kernel.consoles) for name in CONSOLES if CONSOLES[name][0] == entry.name
        ]
        return {"active": Attribute(lambda: " ".join(names) + "\n")}


def _open(path: str, flags: int) -> File:
    raise NotModelled(f"not modelled: what passes through {path}")


def add_terminal(kernel: Kernel, cls: str, path: str, major: int, minor: int, *, quiet: bool = False) -> None:
    """Add a terminal with its node."""
    kernel.add_node(path, CharacterDevice(major, minor, _open))
    kernel.add_class_device(_Terminal(kernel, cls, path, major, minor), quiet=quiet)


def remove_terminal(kernel: Kernel, cls: str, path: str) -> None:
    """Remove a terminal and its node, if it is there."""
    device = kernel.class_(cls).devices.get(path.replace("/", "!"))
    if device is not None:
        kernel.remove_node(path)
        kernel.remove_class_device(device)


def set_consoles(kernel: Kernel, names: Sequence[str]) -> None:
    """Put the kernel's console on these terminals; the last one is ``/dev/console``.  Raise OSError ENODEV."""
    for place, name in enumerate(reversed(names)):
        if name not in CONSOLES:
            raise fail(errno.ENODEV)
        shown, major, minor = CONSOLES[name]
        kernel.consoles.append(ConsoleEntry(shown, flags="Ep" if place else "ECp", major=major, minor=minor))
        if name.replace("/", "!") not in kernel.class_("tty").devices:
            add_terminal(kernel, "tty", name, major, minor, quiet=True)
    kernel.add_node("console", CharacterDevice(*_CONSOLE, _open))
    kernel.add_class_device(_Console(kernel, "tty", "console", *_CONSOLE), quiet=True)
