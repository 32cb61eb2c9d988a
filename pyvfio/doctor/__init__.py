"""Is a host ready for VFIO?  Checks, each a function that yields remarks with what to do next.

==================  =====================================================================================
module              looks at
==================  =====================================================================================
`iommus`            IOMMUs, IOMMU groups, the kernel's options about them
`modules`           the modules of VFIO: loaded, built in, or to be had; the drivers on their buses
`nodes`             the nodes below ``/dev``: there, opened, owner and mode, and the right device numbers
`memory`            the limit of locked memory against what is needed, huge pages for each size and node
`safety`            parameters that give isolation up
`devices`           groups that cannot be used, overrides that were left, devices without a driver
`s390`              memory I/O, UID checking, channel I/O
`power`             EEH: whether errors are isolated
`runs`              runs of pyvfio that were killed
==================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyvfio.doctor import devices, iommus, memory, modules, nodes, power, runs, s390, safety
from pyvfio.doctor.remark import OK, PROBLEM, WARNING, Patient, Remark
from pyvfio.host import Host

__all__ = ["CHECKS", "OK", "PROBLEM", "WARNING", "Patient", "Remark", "examine"]

CHECKS: tuple[Callable[[Patient], Iterator[Remark]], ...] = (
    iommus.groups,
    iommus.options,
    modules.loaded,
    modules.drivers,
    nodes.container,
    nodes.iommufd,
    nodes.devices,
    memory.locked,
    memory.mappings,
    memory.huge_pages,
    safety.interrupts,
    safety.no_iommu,
    devices.viability,
    devices.overrides,
    devices.free,
    s390.memory_io,
    s390.uid_checking,
    s390.channel_io,
    power.error_handling,
    runs.unfinished,
)
"""The checks, in the order of the report."""


def examine(host: Host, *, need: int | None = None, journal: str | None = None) -> list[Remark]:
    """All remarks on a host.

    `need` is how many bytes a program is going to map for DMA; `journal` is the directory of journals (None: the usual
    one).  What cannot be looked at is said in a remark; nothing is raised for it.
    """
    patient = Patient(host, need, journal)
    found: list[Remark] = []
    for check in CHECKS:
        found += patient.ask(check)
    return found
