"""Resources: ranges of addresses with flags (``include/linux/ioport.h``)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Resource", "ResourceFlag"]


class ResourceFlag:
    """``include/linux/ioport.h``: the bits in the third column of ``resource``."""

    ROM_SHADOW = 0x2
    PCI_FIXED = 0x10
    IO = 0x100
    MEM = 0x200
    PREFETCH = 0x2000
    READONLY = 0x4000
    SIZEALIGN = 0x40000
    STARTALIGN = 0x80000
    MEM_64 = 0x100000
    UNSET = 0x20000000


@dataclass(slots=True)
class Resource:
    """A resource: first and last address and flags (`ResourceFlag`); all zero when there is none.

    `claimed`: it has its place in a window or in the machine's addresses, and keeps it (``resource.parent``).
    """

    start: int = 0
    end: int = 0
    flags: int = 0
    claimed: bool = False

    @property
    def size(self) -> int:
        """Bytes, 0 when there is none (``pci_resource_len``)."""
        return self.end - self.start + 1 if self.end else 0

    def __str__(self) -> str:
        """As the kernel's log has it (``%pR``, with flags of memory alone)."""
        if self.flags & ResourceFlag.IO:
            return f"[io  {self.start:#06x}-{self.end:#06x}]"
        wide = " 64bit" if self.flags & ResourceFlag.MEM_64 else ""
        pref = " pref" if self.flags & ResourceFlag.PREFETCH else ""
        return f"[mem {self.start:#010x}-{self.end:#010x}{wide}{pref}]"

    def clear(self) -> None:
        """Make it none."""
        self.start = self.end = self.flags = 0
        self.claimed = False
