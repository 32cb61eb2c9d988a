"""Major numbers that drivers of character devices ask the kernel for: the highest that is free, from 254 down.

Every virtio console takes one for its ports; the vfio module, which is loaded later, takes two.  Where there is no
console, 254 is something else's (as on most hosts), so vfio has 253 and 252.

Source: ``fs/char_dev.c``, ``find_dynamic_major``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.subsystems import Key

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["release_major", "take_major", "vfio_majors"]

_HIGHEST: Final = 254
_TAKEN: Final[Key[set[int]]] = Key("majors")
_VFIO: Final[Key[tuple[int, int]]] = Key("vfio majors")


def _taken(kernel: Kernel) -> set[int]:
    return kernel.subsystems.get_or_make(_TAKEN, set)


def take_major(kernel: Kernel) -> int:
    """The highest number that is free, taken now."""
    taken = _taken(kernel)
    number = _HIGHEST
    while number in taken:
        number -= 1
    taken.add(number)
    return number


def release_major(kernel: Kernel, number: int) -> None:
    """Give a number back."""
    _taken(kernel).discard(number)


def vfio_majors(kernel: Kernel, consoles: int = 0) -> tuple[int, int]:
    """The numbers of vfio's groups and of its devices, taken when they are first asked for.

    They are below those of the `consoles` that are there before the module.
    """
    majors = kernel.subsystems.get(_VFIO)
    if majors is None:
        groups = _HIGHEST - max(consoles, 1)
        majors = kernel.subsystems[_VFIO] = (groups, groups - 1)
        _taken(kernel).update(majors)
    return majors
