"""Planning DMA against the host's limits before anything is mapped: what is needed, and what there is.

=============  ========================================  ===========================================================
limit          needs                                     has
=============  ========================================  ===========================================================
DMA mappings   one for each buffer                       what the container says is left (``dma_entry_limit``)
locked memory  the bytes of all                          RLIMIT_MEMLOCK less what is locked (VmLck, VmPin)
IOVA space     a piece for each in the kernel's ranges   the ranges less what is reserved and mapped
=============  ========================================  ===========================================================
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvfio import causes
from pyvfio.backend import Backend
from pyvfio.errors import KernelRefused, Misuse, NotAvailable
from pyvfio.process.locked import Locked
from pyvfio.sysfs import Sysfs

if TYPE_CHECKING:
    from pyvfio.iommu.address_space import AddressSpace

__all__ = ["DmaPlan", "Limit", "LockedMemory", "locked_memory", "make_plan"]


@dataclass(frozen=True, slots=True)
class LockedMemory:
    """What this process may lock: `limit` bytes (None: any number), of which it has locked `now`."""

    limit: int | None
    now: int

    @property
    def left(self) -> int | None:
        """How much more it may lock, None: any number."""
        return None if self.limit is None else max(0, self.limit - self.now)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit called `name`: how much is needed and how much there is (None: there is no limit, or it is not told).

    `reason` and `next_step` say why it is not `kept`, and what to do; both are empty when it is.
    """

    name: str
    need: int
    has: int | None
    errno: int
    reason: str = ""
    next_step: str = ""

    @property
    def kept(self) -> bool:
        """Whether it suffices."""
        return not self.reason

    def __str__(self) -> str:
        has = "no limit" if self.has is None else f"{self.has:,} left"
        return f"{self.name}: {self.need:,} needed, {has}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class DmaPlan:
    """Buffers of `lengths` bytes (rounded up to what can be mapped) against all `limits`."""

    space: str
    lengths: tuple[int, ...]
    limits: tuple[Limit, ...]

    @property
    def fits(self) -> bool:
        """Whether no limit is in the way."""
        return all(limit.kept for limit in self.limits)

    def require(self) -> None:
        """Raise `KernelRefused` with the errno that the kernel would give in the midst of it, if it does not fit."""
        broken = [limit for limit in self.limits if not limit.kept]
        if broken:
            raise KernelRefused(
                f"plan {len(self.lengths)} DMA mappings (not asked)",
                self.space,
                errno=broken[0].errno,
                cause="; ".join(limit.reason for limit in broken),
                next_step="; ".join(limit.next_step for limit in broken if limit.next_step),
            )


def locked_memory(backend: Backend) -> LockedMemory:
    """What this process may lock on the host, and has.  CAP_IPC_LOCK frees it from the limit."""
    limit = backend.sysconf("RLIMIT_MEMLOCK")
    found = Locked.parse(Sysfs(backend).attribute("/proc/self/status") or "")
    return LockedMemory(None if limit < 0 or found.unlimited else limit, found.size)


def make_plan(
    space: AddressSpace, backend: Backend, lengths: list[int], *, below: int | None, alignment: int | None
) -> DmaPlan:
    """See `AddressSpace.plan`.  Raise `Misuse` for lengths or an alignment that make no sense."""
    if any(length <= 0 for length in lengths):
        raise Misuse("plan DMA", space.table.name, cause=f"a buffer of {min(lengths)} bytes makes no sense")
    granule = space.granule
    rounded = tuple(-(-length // granule) * granule for length in lengths)
    limits = (
        _mappings(space, len(rounded)),
        _locked(backend, sum(rounded)),
        _places(space, rounded, below=below, alignment=alignment),
    )
    return DmaPlan(space.table.name, rounded, limits)


def _mappings(space: AddressSpace, need: int) -> Limit:
    has = space.available
    if has is None or need <= has:
        return Limit("DMA mappings", need, has, errno.ENOSPC)
    why = causes.entry_limit(len(space.mappings()))
    reason = f"{need:,} DMA mappings are needed, {has:,} are left"
    return Limit("DMA mappings", need, has, errno.ENOSPC, reason, why.next_step)


def _locked(backend: Backend, need: int) -> Limit:
    locked = locked_memory(backend)
    why = causes.Cause() if locked.limit is None else causes.memlock(need, locked.limit, locked.now)
    return Limit("locked memory", need, locked.left, errno.ENOMEM, why.sentence, why.next_step)


def _places(space: AddressSpace, lengths: tuple[int, ...], *, below: int | None, alignment: int | None) -> Limit:
    """Try all of them, the largest first, and give them back: that is the only way to know whether they fit."""
    name, need = "IOVA space", sum(lengths)
    try:
        allocator = space.allocator
    except NotAvailable:
        return Limit(name, need, None, errno.EINVAL)  # this kernel does not say its ranges
    has = allocator.free_bytes
    held: list[int] = []
    try:
        for length in sorted(lengths, reverse=True):
            held.append(allocator.allocate(length, below=below, alignment=alignment))
    except NotAvailable as error:
        return Limit(name, need, has, errno.EINVAL, error.cause, error.next_step)
    finally:
        for iova in held:
            allocator.free(iova)
    return Limit(name, need, has, errno.EINVAL)
