"""SR-IOV as sysfs shows it: what a physical function can make, and the virtual functions that it has made.

Sources: ``Documentation/ABI/testing/sysfs-bus-pci`` (``sriov_*``), ``drivers/pci/iov.c``.  On s390 virtual functions
come by events of the machine after the write to ``sriov_numvfs`` (``arch/s390/pci/pci_iov.c``), and those that belong
to another partition never do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyvfio.address import PciAddress
from pyvfio.devices import PciFunction
from pyvfio.errors import MalformedAnswer, NotAvailable

__all__ = ["Sriov", "physical_function", "require_sriov", "sriov", "virtual_functions"]

_LINK = re.compile(r"virtfn(\d+)\Z")


@dataclass(frozen=True, slots=True)
class Sriov:
    """The SR-IOV side of a physical function.

    `total` virtual functions are possible and `number` are enabled; their routing identifiers are `offset` behind that
    of the physical one and `stride` apart; `vf_device` is their device id (16 bits).  `autoprobe` says whether the
    kernel looks for drivers for them, None on a kernel before 4.12, which always does.
    """

    total: int
    number: int
    offset: int
    stride: int
    vf_device: int
    autoprobe: bool | None


def sriov(function: PciFunction) -> Sriov | None:
    """Read the SR-IOV side of a function; None when it is no physical function.

    Plans go by it, so a value that cannot be read raises the class for the errno.
    """
    files = function.sysfs.names(function.path)
    if "sriov_totalvfs" not in files:
        return None

    def number(name: str, base: int = 10) -> int:
        text = function.read(name)
        try:
            return int(text, base)
        except ValueError:
            raise MalformedAnswer("read SR-IOV", function.name, f"{name} is {text!r}, no number") from None

    return Sriov(
        number("sriov_totalvfs"),
        number("sriov_numvfs"),
        number("sriov_offset"),
        number("sriov_stride"),
        number("sriov_vf_device", 16),
        bool(number("sriov_drivers_autoprobe")) if "sriov_drivers_autoprobe" in files else None,
    )


def virtual_functions(function: PciFunction) -> dict[int, PciFunction]:
    """The virtual functions of a physical one that are here, by their number from 0."""
    found: dict[int, PciFunction] = {}
    for name in function.sysfs.names(function.link_path):
        match = _LINK.match(name)
        target = function.sysfs.link_name(f"{function.link_path}/{name}") if match else None
        if match and target is not None:
            found[int(match[1])] = PciFunction(function.sysfs, PciAddress.parse(target))
    return dict(sorted(found.items()))


def physical_function(function: PciFunction) -> PciFunction | None:
    """The physical function of a virtual one; None when it is none, or the physical one is not here."""
    name = function.sysfs.link_name(f"{function.link_path}/physfn")
    return None if name is None else PciFunction(function.sysfs, PciAddress.parse(name))


def require_sriov(function: PciFunction) -> Sriov:
    """As `sriov`.  Raise `NotAvailable` which says why the function has none."""
    function.require()
    found = sriov(function)
    if found is not None:
        return found
    physical = physical_function(function)
    cause = "it has no SR-IOV capability here (its sysfs directory has no sriov_totalvfs)"
    step = "a function with SR-IOV has it; the firmware may have to turn SR-IOV on, and a guest is seldom given it"
    if physical:
        cause, step = f"it is a virtual function itself, of {physical}", f"pyvfio sriov {physical}"
    raise NotAvailable("read SR-IOV", function.name, path=function.path, cause=cause, next_step=step)
