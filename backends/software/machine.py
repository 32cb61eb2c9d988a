"""A whole machine: hardware, kernel, clock, and the way to break it."""

from __future__ import annotations

import random
import threading
import uuid
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyvfio.css.trace import StepListener
from pyvfio_backends.software.clock import Clock
from pyvfio_backends.software.description import POWER, PSERIES, MachineSpec
from pyvfio_backends.software.faults import Faults
from pyvfio_backends.software.linux import usage_boot, vfio_boot
from pyvfio_backends.software.linux.host_state import HugePages, ProcessEntry
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.vfio_state import vfio_core
from pyvfio_backends.software.memory import HostMemory
from pyvfio_backends.software.pci_devices import with_devices

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.css import ChannelSubsystemHardware
    from pyvfio_backends.software.hardware.pcie.host_bridges import HostBridges
    from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
    from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility
    from pyvfio_backends.software.pcie_errors import PcieErrors
    from pyvfio_backends.software.pcie_peripherals import Peripherals
    from pyvfio_backends.software.pcie_slots import MachineSlots

__all__ = ["Machine"]


class Machine:
    """The machine that `spec` describes, booted.

    `seed` decides every free choice; with ``paced=True`` devices answer later, on a thread.  `faults` plans failures of
    the seam; `clock` moves time; `kernel` is the upper storey, `css` and `zpci` (of IBM Z), or `pcie`, the hardware
    below it.  Functions in
    `pci_devices` plugs devices by name, in QEMU's words.  Functions in
    `ccw_trace` are called with each step of a START SUBCHANNEL through vfio_ccw (`pyvfio.css.trace`).
    """

    css: ChannelSubsystemHardware
    zpci: ZpciFacility
    pcie: RootComplex | HostBridges[Any]
    slots: MachineSlots
    peripherals: Peripherals

    def __init__(
        self, spec: MachineSpec, *, seed: int = 0, paced: bool = False, memory: HostMemory | None = None
    ) -> None:
        spec, self.pci_devices = with_devices(spec)
        self.spec = spec
        self.name = spec.name
        self.page_size = spec.page_size
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.clock = Clock(self.lock, paced=paced)
        self.faults = Faults(self.clock)
        self.ccw_trace: list[StepListener] = []
        self.memory = HostMemory(spec.page_size) if memory is None else memory
        self.kernel = Kernel(
            self.lock,
            self.clock,
            self.memory,
            seqnum=spec.seqnum,
            memlock=spec.memlock,
            ipc_lock=spec.ipc_lock,
            processors=spec.processors,
        )
        self.kernel.boot_id = str(uuid.UUID(bytes=random.Random(f"{spec.name} {seed}").randbytes(16), version=4))
        self.kernel.features = spec.features
        self.kernel.storage_size = spec.memory
        self.kernel.pci_mmap = spec.pci_mmap
        self.kernel.map_file = spec.map_file or spec.dma_buf
        self.kernel.cmdline = spec.host.cmdline
        self.kernel.raw_io = spec.raw_io
        self.kernel.numa_nodes = spec.nodes
        self.kernel.sys_resource = spec.sys_resource
        if spec.architecture == "x86_64":
            self.kernel.huge_page_size = 2 << 20
            self.kernel.huge_pages = [HugePages(self.kernel.huge_page_size >> 10)]
        if spec.architecture in POWER:
            self.kernel.huge_page_size = 2 << 20
            self.kernel.huge_pages = []  # none of its sizes is there in the lab's guest
        if spec.features and "edat" not in spec.features:
            self.kernel.huge_pages = []
        if spec.huge_pages:
            self.kernel.huge_pages = [
                HugePages(each.size, each.total, each.total if each.free < 0 else each.free, each.node)
                for each in spec.huge_pages
            ]
        self.kernel.processes += [ProcessEntry(each.pid, each.name, each.open) for each in spec.processes]
        with self.lock:
            if spec.architecture == "s390x":
                from pyvfio_backends.software.linux import css, zpci_boot  # each architecture has much of its own

                for subsystem in (vfio_boot, zpci_boot, css, usage_boot):
                    subsystem.boot(self)
                self.pci_devices.facility = self.zpci
            elif spec.architecture in POWER:
                if spec.platform == PSERIES:
                    from pyvfio_backends.software.linux.pseries_boot import boot as boot_power
                else:
                    from pyvfio_backends.software.linux.pnv_boot import boot as boot_power

                for boot in (vfio_boot.boot, boot_power, usage_boot.boot):
                    boot(self)
            else:
                from pyvfio_backends.software.linux import pcie_boot

                for boot in (vfio_boot.boot, pcie_boot.boot, usage_boot.boot):
                    boot(self)

    @cached_property
    def errors(self) -> PcieErrors:
        """Errors of its PCI Express functions on demand."""
        from pyvfio_backends.software.pcie_errors import PcieErrors

        return PcieErrors(self)

    def close(self) -> None:
        """End the machine: no thread, no listener, no descriptor stays, and no call hangs."""
        self.faults.release_all()
        self.clock.close()
        self.kernel.uevents.close()
        vfio_core(self.kernel).close()
        if self.spec.architecture == "s390x":
            self.zpci.close()
        else:
            self.peripherals.close()
