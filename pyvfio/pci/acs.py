"""Access control services (ACS): whether a PCI Express function sends what comes from below up to the IOMMU.

Without them a bridge may send a request of one device straight to another one beside it, and the IOMMU never sees it;
so the kernel puts the two into one group.  It asks for four services, those in `REQUIRED`:

===  ===================  =========================================================================
SV   source validation    a request under another device's name is stopped
RR   request redirect     a request to a device beside goes up to the IOMMU first
CR   completion redirect  so does the answer to one
UF   upstream forwarding  a request that came back for another device below is sent up, not down
===  ===================  =========================================================================

What the capability register does not have counts as wired on, and a function of a device with no other functions needs
none of it.  Source: ``pci_acs_enabled()`` and ``pci_acs_flags_enabled()`` in ``drivers/pci/pci.c``; PCI Express Base
Specification, 6.12.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import AcsBits, ExpressType
from pyvfio.errors import PyvfioError
from pyvfio.pci.config import ConfigSpace
from pyvfio.sysfs import Sysfs

__all__ = ["NEEDS_ROOT", "REQUIRED", "Acs", "Answer", "FunctionFacts", "Isolation", "kind_words", "read_facts"]

REQUIRED: Final = AcsBits.SV | AcsBits.RR | AcsBits.CR | AcsBits.UF
"""What the kernel asks of a function before it trusts in isolation (``REQ_ACS_FLAGS`` in ``drivers/iommu/iommu.c``)."""

NEEDS_ROOT: Final = "needs root"
"""Why most of configuration space could not be read by an ordinary user."""
_SERVICES: Final = ~AcsBits(0)
"""The seven; above them in the capability register is the size of the egress control vector."""

_KINDS: Final = {
    ExpressType.ENDPOINT: "endpoint",
    ExpressType.LEG_END: "legacy endpoint",
    ExpressType.ROOT_PORT: "root port",
    ExpressType.UPSTREAM: "switch upstream port",
    ExpressType.DOWNSTREAM: "switch downstream port",
    ExpressType.PCI_BRIDGE: "PCIe-to-PCI bridge",
    ExpressType.PCIE_BRIDGE: "PCI-to-PCIe bridge",
    ExpressType.RC_END: "root complex integrated endpoint",
    ExpressType.RC_EC: "root complex event collector",
}
_NEVER: Final = (ExpressType.PCI_BRIDGE, ExpressType.PCIE_BRIDGE, ExpressType.RC_EC)
_ALWAYS: Final = (ExpressType.ROOT_PORT, ExpressType.DOWNSTREAM)


class Answer(Enum):
    """What can be said: yes, no, or nothing (configuration space beyond the header could not be read)."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Acs:
    """The capability register (`capable`: what the function has) and the control register (`control`: what is on)."""

    capable: AcsBits
    control: AcsBits

    @property
    def missing(self) -> AcsBits:
        """Those of `REQUIRED` that the function has and that are off."""
        return REQUIRED & self.capable & ~self.control


@dataclass(frozen=True, slots=True)
class Isolation:
    """Whether a function keeps apart what it joins, the services it lacks for that, and the reason in words."""

    answer: Answer
    missing: AcsBits
    reason: str


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """What configuration space says that decides about isolation.

    `express` is the kind of a PCI Express function, None for conventional PCI; `acs` is None without the capability.
    Where `unknown` is not empty it says why `express` and `acs` could not be read, and both are None.  `multifunction`
    is as the kernel has it: also true for every function but the first, and false for virtual functions.
    """

    name: str
    bridge: bool
    multifunction: bool
    express: int | None
    acs: Acs | None
    unknown: str = ""

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return kind_words(self.express, bridge=self.bridge, unknown=bool(self.unknown))

    @property
    def aliases(self) -> Answer:
        """Whether it is a bridge under whose name (requester ID) all that is below it reaches the IOMMU.

        Every bridge but a PCI Express port is one: behind it is a conventional PCI bus, or before it.  Source:
        ``pci_for_each_dma_alias()`` in ``drivers/pci/search.c``.
        """
        if not self.bridge:
            return Answer.NO
        if self.unknown:
            return Answer.UNKNOWN
        is_one = self.express is None or self.express in (ExpressType.PCI_BRIDGE, ExpressType.PCIE_BRIDGE)
        return Answer.YES if is_one else Answer.NO

    @property
    def isolation(self) -> Isolation:
        """What ``pci_acs_enabled()`` answers for `REQUIRED`; the kernel's table of quirks is not in it."""
        if self.unknown:
            return Isolation(Answer.UNKNOWN, AcsBits(0), f"its ACS is unknown ({self.unknown})")
        if self.express is None:
            return Isolation(Answer.NO, REQUIRED, "conventional PCI has no ACS")
        if self.express in _NEVER:
            return Isolation(Answer.NO, REQUIRED, f"a {self.kind} has no ACS")
        if self.express not in _ALWAYS and not self.multifunction:
            return Isolation(Answer.YES, AcsBits(0), "the only function of its device needs no ACS")
        if self.acs is None:
            return Isolation(Answer.NO, REQUIRED, f"no ACS capability ({_listed(REQUIRED)} missing)")
        missing = self.acs.missing
        if missing:
            return Isolation(Answer.NO, missing, f"ACS {_listed(missing)} off")
        return Isolation(Answer.YES, AcsBits(0), f"ACS {_listed(REQUIRED)} on")


def _listed(bits: AcsBits) -> str:
    names = [bit.name or "" for bit in bits]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def kind_words(express: int | None, *, bridge: bool, unknown: bool = False) -> str:
    """What a function is by its PCI Express type (None: conventional PCI), in words."""
    if express is not None:
        return _KINDS.get(ExpressType(express), "PCIe function") if express in set(ExpressType) else "PCIe function"
    if unknown:
        return "bridge" if bridge else "function"
    return "PCI bridge" if bridge else "conventional PCI function"


def read_facts(sysfs: Sysfs, path: str) -> FunctionFacts:
    """The facts of the function whose sysfs directory is `path`.

    An ordinary user sees the first 64 bytes of configuration space only, and a function without power answers nothing;
    then `FunctionFacts.unknown` says so.
    """
    name = posixpath.basename(path)
    virtual = sysfs.link(f"{path}/physfn") is not None
    first = name.endswith(".0")
    try:
        head = sysfs.read_at(f"{path}/config", 0, regs.PCI_CFG_SPACE_SIZE)
    except PyvfioError as error:
        return FunctionFacts(
            name, False, not (first or virtual), None, None, f"no configuration space: {error.errno_name}"
        )
    if len(head) < regs.PCI_STD_HEADER_SIZEOF or regs.is_silent(head):
        return FunctionFacts(name, False, not (first or virtual), None, None, "the function does not answer")

    def read(offset: int, count: int) -> bytes:
        if offset < regs.PCI_CFG_SPACE_SIZE:
            return head[offset : offset + count]
        return sysfs.read_at(f"{path}/config", offset, count)

    config = ConfigSpace(read, name, size=regs.PCI_CFG_SPACE_EXP_SIZE)
    bridge = config.header_type != regs.PCI_HEADER_TYPE_NORMAL
    multifunction = not virtual and (config.multifunction or not first)
    if len(head) < regs.PCI_CFG_SPACE_SIZE and config.status & regs.Status.CAP_LIST:
        return FunctionFacts(name, bridge, multifunction, None, None, NEEDS_ROOT)
    try:
        express = _express(config)
        acs = None if express is None else _acs(config)
    except PyvfioError as error:
        return FunctionFacts(name, bridge, multifunction, None, None, f"malformed capabilities: {error.cause}")
    return FunctionFacts(name, bridge, multifunction, express, acs)


def _express(config: ConfigSpace) -> int | None:
    """The type of a PCI Express function; None for conventional PCI."""
    found = config.capability(regs.PCI_CAP_ID_EXP)
    if found is None:
        return None
    flags = int.from_bytes(found.data[regs.PCI_EXP_FLAGS : regs.PCI_EXP_FLAGS + 2], "little")
    return regs.pci_exp_type(flags)


def _acs(config: ConfigSpace) -> Acs | None:
    at = config.extended_capability(regs.PCI_EXT_CAP_ID_ACS)
    if at is None:
        return None
    capable, control = config.read_u16(at + regs.PCI_ACS_CAP), config.read_u16(at + regs.PCI_ACS_CTRL)
    return Acs(AcsBits(capable) & _SERVICES, AcsBits(control) & _SERVICES)
