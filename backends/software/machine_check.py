"""Checks of the table ``[machine]`` of a machine file: rules between values, which types do not tell."""

from __future__ import annotations

from typing import Final

from pyvfio_backends.software.description import ARCHITECTURES, MODULES, PLATFORMS, POWER, MachineSpec
from pyvfio_backends.software.file_report import Report, check_range, listing
from pyvfio_backends.software.power_check import check_power

__all__ = ["check_machine"]

_MOST_PROCESSORS: Final = 64


def check_machine(spec: MachineSpec, error: Report) -> None:
    """Check the table ``[machine]``.  Raise what `error` makes of a place and a cause."""
    if spec.architecture not in ARCHITECTURES:
        raise error(("machine", "architecture"), f"not modelled; there is {listing(ARCHITECTURES)}")
    if spec.platform and (spec.architecture not in POWER or spec.platform not in PLATFORMS):
        there = f"there is {listing(PLATFORMS)}" if spec.architecture in POWER else "only POWER has several"
        raise error(("machine", "platform"), f"no platform {spec.platform!r}; {there}")
    for name in spec.modules:
        if name.replace("-", "_") not in MODULES:
            raise error(("machine", "modules"), f"no module {name!r}; there is {listing(MODULES)}")
    if spec.page_size not in (1 << 12, 1 << 14, 1 << 16):
        raise error(("machine", "page_size"), "must be 4096, 16384 or 65536")
    if spec.memory < spec.page_size:
        raise error(("machine", "memory"), f"must be a page of {spec.page_size} bytes at least, not {spec.memory}")
    if spec.memlock < -1:
        raise error(("machine", "memlock"), f"must be a number of bytes, or -1: none; not {spec.memlock}")
    check_power(spec, error)
    check_range(error, spec.slot_buses, (0, 0xFF), ("machine", "slot_buses"))
    if not 1 <= spec.processors <= _MOST_PROCESSORS:
        raise error(("machine", "processors"), f"must be 1 to {_MOST_PROCESSORS}")
    check_range(error, spec.nodes, (0, _MOST_PROCESSORS), ("machine", "nodes"))
    for n, pool in enumerate(spec.huge_pages if spec.nodes else ()):
        check_range(error, pool.node, (0, spec.nodes - 1), ("huge_pages", "node"), n)
