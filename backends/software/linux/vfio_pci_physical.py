"""What vfio-pci's view of configuration space takes of a PCI function (`PhysicalFunction`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pyvfio_backends.software.linux.resource import Resource

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import SavedState
    from pyvfio_backends.software.linux.pci_vpd import PciVpd

__all__ = ["PhysicalFunction"]


class PhysicalFunction(Protocol):
    """A function as the PCI core knows it.  Offsets and lengths are bytes, values little-endian numbers."""

    name: str
    vendor: int
    device_id: int
    config_size: int
    """256 or 4096."""
    no_command_memory: bool
    """Whether its command register does not decide about memory decoding: of virtual functions."""
    power_state: str
    """``D0`` to ``D3cold``, or ``unknown``."""

    @property
    def resources(self) -> Sequence[Resource]:
        """The six base addresses, then the expansion ROM; there may be more."""
        ...

    @property
    def is_virtual(self) -> bool:
        """Whether it is a virtual function."""
        ...

    @property
    def product_data(self) -> PciVpd:
        """The vital product data that programs get: its own, or those that it shares.  Raise OSError ENODEV."""
        ...

    def load_config(self, offset: int, length: int) -> int:
        """Read 1, 2 or 4 bytes for a program.  Raise OSError."""
        ...

    def store_config(self, offset: int, length: int, value: int) -> None:
        """Write 1, 2 or 4 bytes for a program.  Raise OSError."""
        ...

    def read_config(self, offset: int, length: int) -> int:
        """Read 1, 2 or 4 bytes for the kernel: all ones when that fails."""
        ...

    def config_at_once(self, first: int, end: int) -> bytes | None:
        """The bytes as `load_config` would read them piece by piece, or None when that takes the accesses."""
        ...

    def find_capability(self, number: int) -> int:
        """Where the capability with this id is, 0 when there is none."""
        ...

    @property
    def has_virtual_functions(self) -> bool:
        """Whether virtual functions of it are on."""
        ...

    def set_power_state(self, state: int) -> bool:
        """Put it into D0 to D3hot (0 to 3), as far as it goes; False when it cannot be."""
        ...

    def save_state(self) -> SavedState:
        """Keep its configuration."""
        ...

    def restore_state(self, saved: SavedState) -> None:
        """Bring its configuration back."""
        ...

    def try_reset(self) -> None:
        """Reset it and bring its configuration back.  Raise OSError."""
        ...
