"""PCI Express functions through vfio-pci on the software machine: interrupts, configuration space, registers."""

from __future__ import annotations

from functools import partial

from measure import Line, best

import pyvfio
from pyvfio.abi.pci_regs import PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY
from pyvfio.abi.vfio import PciIrq
from pyvfio.pci import edu
from pyvfio_backends.software import software_of

__all__ = ["pcie_vfio"]

_NVME, _EDU = "0000:04:00.0", "0000:00:06.0"
_SEGMENT, _RID = 0, 0x400


def pcie_vfio() -> list[Line]:
    """A message to its eventfd through interrupt remapping, a pin unmasked each time, 4 KiB of configuration space."""
    lines = []
    with pyvfio.Host("software", machine="lab-x86") as host:
        for name in (_NVME, _EDU):
            pyvfio.bind(host.device(name))
        machine = software_of(host.backend).machine
        with pyvfio.open_device(host, _NVME) as device, device.irq(PciIrq.MSIX) as irq:
            irq.enable()
            device.config.write_u16(PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)
            rate = 1 / best(partial(machine.pcie.function(_SEGMENT, _RID).signal, 0), 50, 60)
            if not irq.eventfds[0].read():
                raise RuntimeError("no interrupt came")
            lines.append(Line("MSI-X of PCIe to an eventfd", f"{rate:,.0f}/s", "10,000/s", rate / 10_000))
            rate = 1 / best(partial(device.config.read, 0, 4096), 50, 20)
            lines.append(Line("4 KiB of configuration space", f"{rate:,.0f}/s", "5,000/s", rate / 5_000))
        with pyvfio.open_device(host, _EDU) as device, device.irq(PciIrq.INTX) as irq:
            irq.enable()
            device.config.write_u16(PCI_COMMAND, PCI_COMMAND_MEMORY)
            registers = device.region(edu.BAR)

            def once() -> None:
                registers.write_u32(edu.RAISE, 1)
                registers.write_u32(edu.ACK, 1)
                irq.unmask()

            rate = 1 / best(once, 50, 20)
            if irq.eventfds[0].read() < 50 * 20:
                raise RuntimeError("an interrupt is missing")
            lines.append(Line("INTx, acknowledged and unmasked", f"{rate:,.0f}/s", "2,000/s", rate / 2_000))
    return lines
