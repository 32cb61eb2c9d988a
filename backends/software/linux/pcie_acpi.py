"""What ACPI tells of PCI Express functions: for each place below the first root bus there is an object (QEMU's DSDT).

The objects are ``/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/device:NN``, below each other as the functions are,
with `path` and `adr`; a function's link ``firmware_node`` leads to its own (``drivers/acpi/glue.c``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import Attribute, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["companion"]

_ROOTS = ("LNXSYSTM:00", "LNXSYBUS:00", "PNP0A08:00")
_PATHS = ("\\", "\\_SB_", "\\_SB_.PCI0")
_COMPANIONS: Final[Key[_Companions]] = Key("acpi companions")


class _Object(Device):
    """An object of the firmware's tree."""

    def __init__(self, kernel: Kernel, name: str, parent: Device | None, path: str, adr: int | None = None) -> None:
        super().__init__(kernel, name, parent)
        self.path = path
        self._adr = adr
        if parent is not None:
            parent.children[name] = self

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        found: dict[str, Node] = {"path": Attribute(lambda: f"{self.path}\n")}
        if self._adr is not None:
            found["adr"] = Attribute(lambda: f"{self._adr:#010x}\n")
        return found


class _Companions:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        above: Device | None = None
        for name, path in zip(_ROOTS, _PATHS, strict=True):
            above = _Object(kernel, name, above, path)
            if above.parent is None:
                kernel.add_root(above)
        self._root = above
        self._found: dict[PcieFunction, _Object] = {}

    def of(self, function: PcieFunction) -> _Object:
        known = self._found.get(function)
        if known is not None:
            return known
        above = function.on.above
        parent = self._root if above is None else self.of(above)
        path = f"{parent.path if isinstance(parent, _Object) else ''}.S{function.devfn:02X}_"
        adr = (function.devfn >> 3) << 16 | function.devfn & 7
        found = self._found[function] = _Object(self._kernel, f"device:{len(self._found):02x}", parent, path, adr)
        return found


def companion(function: PcieFunction) -> Device | None:
    """The object of a function; None for what is below another root bus, of which the firmware tells nothing."""
    if function.bridge.domain or function.bridge.root.number:
        return None
    kernel = function.bridge.bus.kernel
    return kernel.subsystems.get_or_make(_COMPANIONS, lambda: _Companions(kernel)).of(function)
