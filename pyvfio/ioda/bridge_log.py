"""The error log of a host bridge, for root: the kernel prints it when a file of debugfs is written.

A program that has a device gets no log with its freeze: the kernel takes one for its own recoveries only.  The file is
``/sys/kernel/debug/powerpc/PCIDDDD/dump_diag_regs``, DDDD being the domain.  Source: ``pnv_pci_diag_data_set`` in
``arch/powerpc/platforms/powernv/pci-ioda.c`` (Linux 6.12).
"""

from __future__ import annotations

from typing import Final

from pyvfio.backend import Backend
from pyvfio.errors import PyvfioError
from pyvfio.ioda.diagnosis import Diagnosis
from pyvfio.ioda.diagnosis_text import parse_messages
from pyvfio.pci.kernel_messages import KernelMessages
from pyvfio.sysfs import Sysfs

__all__ = ["read_bridge_log"]

_FOLDER: Final = "/sys/kernel/debug/powerpc"


def read_bridge_log(backend: Backend, domain: int) -> Diagnosis | None:
    """The log of the host bridge of a PCI domain now.

    None where it cannot be had: another machine, another user than root, debugfs not mounted, or an old bridge.
    """
    with KernelMessages(backend) as messages:
        if not messages.readable:
            return None
        try:
            Sysfs(backend).write_text(f"{_FOLDER}/PCI{domain:04x}/dump_diag_regs", "1")
        except PyvfioError:
            return None
        found = [log for number, log in parse_messages(messages.new()) if number == domain]
    return found[-1] if found else None
