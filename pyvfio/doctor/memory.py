"""Memory for DMA: the limit of locked memory, the number of mappings, huge pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pyvfio.doctor.remark import OK, PROBLEM, WARNING, Patient, Remark, amount
from pyvfio.process.locked import Locked

__all__ = ["huge_pages", "locked", "mappings"]

_SMALL = 64 << 20
_KIB = 1024
_SIZE = re.compile(r"hugepages-(\d+)kB\Z")
_RAISE = "ulimit -l, a memlock line in /etc/security/limits.d, or LimitMEMLOCK= in the unit"


def locked(patient: Patient) -> Iterator[Remark]:
    """The limit of locked memory, which DMA mappings count against, and what is needed."""
    limit, need = patient.host.memlock, patient.need
    check = "locked memory"
    if limit < 0:
        yield Remark(check, OK, "unlimited")
        return
    now, unlimited = Locked.parse(patient.read("/proc/self/status") or "")
    if need is None:
        if limit < _SMALL and not unlimited:
            detail = f"at most {amount(limit)} for a process; a DMA mapping beyond it fails with ENOMEM"
            yield Remark(check, WARNING, detail, _RAISE)
        else:
            free = "; this process has CAP_IPC_LOCK and is not bound by it" if unlimited else ""
            yield Remark(check, OK, f"at most {amount(limit)} for a process{free}")
        return
    detail = f"{amount(need)} needed, {amount(now)} locked, the limit is {amount(limit)}"
    if now + need <= limit:
        yield Remark(check, OK, detail)
    elif unlimited:
        detail += "; it does not bind this process, which has CAP_IPC_LOCK, but other users"
        yield Remark(check, WARNING, detail, _RAISE)
    else:
        yield Remark(check, PROBLEM, detail, _RAISE)


def mappings(patient: Patient) -> Iterator[Remark]:
    """How many DMA mappings a container takes."""
    limit = patient.read("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit")
    if limit is not None:
        yield Remark("DMA mappings", OK, f"at most {limit} for a container (dma_entry_limit)")


def _counts(patient: Patient, folder: str) -> dict[int, tuple[int, int]]:
    """Page size in bytes -> (free, all) of the huge pages in a directory of them."""
    found = {}
    for name in patient.names(folder):
        match = _SIZE.match(name)
        if match:
            free, total = (patient.number(f"{folder}/{name}/{file}") for file in ("free_hugepages", "nr_hugepages"))
            found[int(match[1]) * _KIB] = (free, total)
    return dict(sorted(found.items()))


def huge_pages(patient: Patient) -> Iterator[Remark]:
    """Huge pages for each size and NUMA node; they are a choice, so too few are only a warning."""
    nodes = {
        name: _counts(patient, f"/sys/devices/system/node/{name}/hugepages")
        for name in patient.names("/sys/devices/system/node")
        if re.fullmatch(r"node\d+", name)
    }
    for size, (free, total) in _counts(patient, "/sys/kernel/mm/hugepages").items():
        parts = [f"{name} {at[size][0]} of {at[size][1]}" for name, at in nodes.items() if size in at]
        detail = f"{free} of {total} free" + (f" ({', '.join(parts)})" if len(parts) > 1 else "")
        check = f"huge pages of {amount(size)}"
        if patient.need is None or not total:
            yield Remark(check, OK, detail if total else "none; programs use pages of the usual size")
            continue
        wanted = -(-patient.need // size)
        if free >= wanted:
            yield Remark(check, OK, f"{detail}, {wanted} needed")
        else:
            step = f"echo {total + wanted - free} > /sys/kernel/mm/hugepages/hugepages-{size // _KIB}kB/nr_hugepages"
            yield Remark(check, WARNING, f"{detail}, {wanted} would be needed", step)
