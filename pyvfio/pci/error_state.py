"""What there is to see of errors of a function and of all that it can fail with: the whole tree below its root port.

Recovery runs on everybody below a port, so a program may be told of an error that another function found.  A function
of the root complex fails alone; in place of a root port there is the event collector where its messages end.  A
`TreeErrors` is what registers and counters said at one moment; two of them make a `DeviceError`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.address import PciAddress
from pyvfio.errors import BadAddress, PyvfioError
from pyvfio.pci.aer import AerRegisters, DpcRegisters
from pyvfio.pci.collector import collector_of, express_kind, integrated_endpoints
from pyvfio.pci.config import ConfigSpace
from pyvfio.pci.error_counters import ErrorCounters, read_counters
from pyvfio.pci.topology import functions_up
from pyvfio.sysfs import Sysfs

__all__ = ["FunctionErrors", "TreeErrors", "error_root", "functions_below", "look_at", "reporting_at"]

_NOBODY = 0xFFFF


@dataclass(frozen=True, slots=True)
class FunctionErrors:
    """A function at one moment: its AER and DPC `registers`, the kernel's `counters`, each None where it has none.

    `answers` is whether reads of configuration space come back, `kind` what the function is to PCI Express.  `command`,
    `control` (device control) and `bases` (the base address registers) are what a reset clears.
    """

    address: PciAddress
    path: str
    answers: bool
    registers: AerRegisters | None = None
    containment: DpcRegisters | None = None
    counters: ErrorCounters | None = None
    command: int = 0
    control: int = 0
    bases: tuple[int, ...] = ()
    kind: ExpressType | None = None

    @property
    def name(self) -> str:
        """The address as sysfs prints it."""
        return str(self.address)

    def was_reset_since(self, before: FunctionErrors) -> bool:
        """Whether what it had been set up with is gone."""
        if not self.answers or not before.answers:
            return False
        bases = any(before.bases) and not any(self.bases)
        control = bool(before.control & ~self.control) and not self.command & _DECODES
        return bases or control


_DECODES = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_IO | regs.PCI_COMMAND_MASTER


def look_at(sysfs: Sysfs, path: str) -> FunctionErrors:
    """A function now, by its directory.  One that is gone answers nothing.  Raise `BadAddress` for another path."""
    address = PciAddress.parse(posixpath.basename(path))
    counters = read_counters(sysfs, path)
    try:
        data = sysfs.read_bytes(f"{path}/config")
    except PyvfioError:
        return FunctionErrors(address, path, answers=False, counters=counters)
    config = ConfigSpace(lambda offset, count: data[offset : offset + count], str(address), size=len(data))
    if len(data) < regs.PCI_STD_HEADER_SIZEOF or config.vendor_id == _NOBODY:
        return FunctionErrors(address, path, answers=False, counters=counters)
    bridge = config.header_type == regs.PCI_HEADER_TYPE_BRIDGE
    bases = tuple(config.read_u32(regs.PCI_BASE_ADDRESS_0 + 4 * n) & ~0xF for n in range(2 if bridge else 6))
    registers = containment = None
    control = 0
    try:
        express = config.capability(regs.PCI_CAP_ID_EXP)
        if express is not None:
            control = config.read_u16(express.offset + regs.PCI_EXP_DEVCTL)
        registers, containment = AerRegisters.read(config), DpcRegisters.read(config)
    except PyvfioError:  # an ordinary user sees 64 bytes, or the function is half there
        pass
    return FunctionErrors(
        address,
        path,
        answers=True,
        registers=registers,
        containment=containment,
        counters=counters,
        command=int(config.command),
        control=control,
        bases=bases,
        kind=express_kind(config),
    )


@dataclass(frozen=True, slots=True)
class TreeErrors:
    """All functions below the root port of `device` at one moment, by address, the port first.

    `ports` are the bridges above the device, the root port last.  For a function of the root complex there is its event
    `collector`, which is its only port then, with all functions that it is for; any other on a root bus is alone.
    """

    device: PciAddress
    ports: tuple[PciAddress, ...]
    functions: Mapping[PciAddress, FunctionErrors]
    collector: PciAddress | None = None

    @classmethod
    def look(cls, sysfs: Sysfs, path: str) -> TreeErrors:
        """Look at the tree of the function with this directory."""
        up = functions_up(path)
        found = [look_at(sysfs, one) for one in functions_below(sysfs, up[-1])] if up else []
        device, *ports = [PciAddress.parse(posixpath.basename(one)) for one in up]
        collector = _collector(sysfs, found[0]) if len(found) == 1 else None
        if collector is None:
            return cls(device, tuple(ports), {one.address: one for one in found})
        every = [look_at(sysfs, one) for one in (collector, *integrated_endpoints(sysfs, collector))]
        functions = {one.address: one for one in every}
        address = every[0].address
        return cls(device, () if device == address else (address,), functions, address)

    def seen_from(self, device: PciAddress) -> TreeErrors:
        """The same, from another function of the tree."""
        found = self.functions.get(device)
        up = functions_up(found.path) if found is not None else []
        ports = tuple(PciAddress.parse(posixpath.basename(one)) for one in up[1:])
        if self.collector is not None and found is not None and device != self.collector:
            ports = (self.collector,)
        return TreeErrors(device, ports, self.functions, self.collector)

    @property
    def own(self) -> FunctionErrors | None:
        """The device itself; None when it is gone."""
        return self.functions.get(self.device)

    @property
    def root(self) -> FunctionErrors | None:
        """The root port, or the event collector; None for any other device on a root bus."""
        return self.functions.get(self.ports[-1]) if self.ports else None


def error_root(sysfs: Sysfs, path: str) -> str:
    """The directory of who takes the messages of a function: its root port or event collector, or else itself."""
    top = functions_up(path)[-1]
    if top != path:
        return top
    return _collector(sysfs, look_at(sysfs, path)) or path


def reporting_at(sysfs: Sysfs, path: str) -> list[str]:
    """The functions whose messages end at the root port or event collector with this directory, by address.

    Those without advanced error reporting are left out, as the kernel has none of them report.  Of another function,
    and of one whose messages firmware keeps to itself, there are none.
    """
    counters = read_counters(sysfs, path)
    if counters is None or not counters.messages:
        return []
    below = [*functions_below(sysfs, path), *integrated_endpoints(sysfs, path)]
    found = [posixpath.basename(one) for one in below if one != path and read_counters(sysfs, one) is not None]
    return sorted(found, key=PciAddress.parse)


def _collector(sysfs: Sysfs, function: FunctionErrors) -> str | None:
    """The collector of a function of the root complex; one is its own."""
    if function.kind is ExpressType.RC_EC:
        return function.path
    return collector_of(sysfs, function.path) if function.kind is ExpressType.RC_END else None


def functions_below(sysfs: Sysfs, path: str) -> Iterator[str]:
    """The directory of a function and those of all functions below it."""
    yield path
    for name in sysfs.names(path):
        if name.count(":") == 2 and ":pcie" not in name:
            try:
                PciAddress.parse(name)
            except BadAddress:
                continue
            yield from functions_below(sysfs, f"{path}/{name}")
