"""Host bridges of POWER from the tables ``[[pcie.phb]]`` of a machine file, and what firmware does to them.

::

    [[pcie.phb]]                   [[pcie.function]]
    id = "phb0"                    model = "nvme"
    segment = 0                    behind = "phb0"
    model = "PHB4"

Below each bridge is one root port, and functions are behind that.  Where the windows of a bridge are goes by its
segment, six to a chip (``hw/phys-map.c`` of skiboot, for POWER9).  Firmware numbers the buses, has all functions report
their errors, and gives no addresses: Linux does (``core/pci.c``, ``hw/phb4.c``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse
from pyvfio.ioda.segments import Segments
from pyvfio_backends.software.description import PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.hardware.dma import DmaSpace
from pyvfio_backends.software.hardware.ioda.hub import Hub
from pyvfio_backends.software.hardware.ioda.model import MODELS
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.ioda.port import phb_port
from pyvfio_backends.software.hardware.pcie.allocation import Layout
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.enumeration import Reserve
from pyvfio_backends.software.hardware.pcie.express import Slot
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.pcie_peripherals import Peripherals
from pyvfio_backends.software.pcie_tree import LAST_SLOT, PcieTree

__all__ = ["PHB_MODELS", "PhbTree", "build_phbs", "m64_of", "start_phbs"]

PHB_MODELS: Final = ("PHB4", "PHB4 (small)", "PHB3")
"""The models that `PciePhbSpec` can name: those that Linux 6.12 knows."""
_M32_BUS, _M32_SIZE = 0x80000000, 0x80000000
_M32 = 0x600C000000000
_M64_SIZE = 1 << 38
_M64: Final = (
    *(0x6000000000000, 0x6004000000000, 0x6008000000000),
    *(0x6020000000000, 0x6024000000000, 0x6028000000000),
)
_CHIP_SHIFT = 42
_LAST_SEGMENT = 6 * 16 - 1
_NO_LINES = (0, 0, 0, 0)


def _m32_of(segment: int) -> int:
    chip, index = divmod(segment, len(_M64))
    return (_M32 | chip << _CHIP_SHIFT) + index * _M32_SIZE


def m64_of(segment: int) -> range:
    """Where the 64-bit memory of the bridge of a segment is."""
    chip, index = divmod(segment, len(_M64))
    first = _M64[index] | chip << _CHIP_SHIFT
    return range(first, first + _M64_SIZE)


class PhbTree(PcieTree):
    """Host bridges that are being built (`phbs`), before the machine's `memory`."""

    def __init__(self, memory: DmaSpace, peripherals: Peripherals | None = None) -> None:
        super().__init__(peripherals)
        self._memory = memory
        self.phbs: list[Phb] = []

    def add_phb(self, spec: PciePhbSpec) -> Phb:
        """Add a bridge.  Raise `Misuse` for a model that is not there, a segment or an id that is another's."""
        name = spec.id or f"phb{spec.segment}"
        wanted = spec.model or PHB_MODELS[0]
        if wanted not in PHB_MODELS:
            cause = f"there is no model {wanted!r}; there is {', '.join(PHB_MODELS)}"
            raise Misuse("build the host bridge", name, cause=cause)
        if not 0 <= spec.segment <= _LAST_SEGMENT:
            cause = f"segments are 0 to {_LAST_SEGMENT}, six for each chip; not {spec.segment}"
            raise Misuse("build the host bridge", name, cause=cause)
        if any(one.number == spec.segment for one in self.phbs):
            raise Misuse("build the host bridge", name, cause=f"segment {spec.segment:04x} is another's")
        if not -1 <= spec.slot <= LAST_SLOT:
            cause = f"slots have numbers from 0 to {LAST_SLOT}, and -1 is none; not {spec.slot}"
            raise Misuse("build the host bridge", name, cause=cause)
        model = MODELS[wanted]
        port = phb_port(model, Slot(spec.slot) if spec.slot >= 0 else None, name=name)
        self.add_port(name, port)
        m32 = Segments(_m32_of(spec.segment), _M32_BUS, _M32_SIZE, model.segments)
        phb = Phb(model, self._memory, port, m32, segment=spec.segment)
        self.phbs.append(phb)
        return phb


def build_phbs(
    specs: Sequence[PciePhbSpec],
    functions: Sequence[PcieFunctionSpec],
    memory: DmaSpace,
    peripherals: Peripherals | None = None,
) -> Hub:
    """The bridges with everything plugged, before firmware.  Raise `Misuse` as `PhbTree` does."""
    tree = PhbTree(memory, peripherals)
    for spec in specs:
        tree.add_phb(spec)
    for function in functions:
        tree.add(function)
    return Hub(tree.phbs)


def start_phbs(hub: Hub, slot_buses: int = 0) -> None:
    """What firmware does before Linux: bus numbers, and reports of errors; nothing decodes any address."""
    firmware = Firmware(
        lines=_NO_LINES, reserve=Reserve(buses=slot_buses), arrange=lambda access, buses, pools, reserve: Layout()
    )
    for phb in hub.phbs.values():
        with phb.probing():
            firmware.set_up(phb)
        phb.enable_reports()
        for _, function in phb.functions():
            bridge = isinstance(function, Bridge)
            command = regs.PCI_COMMAND_SERR
            command |= regs.PCI_COMMAND_IO | regs.PCI_COMMAND_MASTER if bridge else 0
            function.config.write(regs.PCI_COMMAND, 2, command)
