"""A machine of POWER whose functions have drivers that answer as they are told, behind a switch, and on a bridge alone.

::

    0000   root port PE fe
             upstream port of a switch PE fd
               two downstream ports PE fc
                 LEFT PE fb    RIGHT, RIGHT1 PE fa
    0001   root port
             OTHER
"""

from __future__ import annotations

import os
from typing import Any

from error_rig import Answers
from pci_fixture import BUS, Device
from pnv_fixture import Pnv

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi.vfio_spapr import EehState
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec, PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.linux.eeh import EEH
from pyvfio_backends.software.linux.eeh_pe import EehDev, EehPe
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.machine import Machine

LEFT, RIGHT, RIGHT1 = "0000:03:00.0", "0000:04:00.0", "0000:04:00.1"
"""Behind the two ports of the switch."""
UPSTREAM, DOWNSTREAM = "0000:01:00.0", "0000:02:00.0"
OTHER, EDU = "0001:01:00.0", "0002:01:00.0"
NET = (LEFT, RIGHT, RIGHT1, OTHER)
_FUNCTIONS = [
    ("x3130-upstream", "phb0", "00.0", "up"),
    ("xio3130-downstream", "up", "00.0", "left"),
    ("xio3130-downstream", "up", "01.0", "right"),
    ("virtio-net-pci", "left", "00.0", ""),
    ("virtio-net-pci", "right", "00.0", ""),
    ("virtio-net-pci", "right", "00.1", ""),
    ("virtio-net-pci", "phb1", "00.0", ""),
    ("edu", "phb2", "00.0", ""),
]
DEBUG = "/sys/kernel/debug/powerpc"
BAR = 1
"""Of those functions, one with memory."""
V2 = abi.VFIO_SPAPR_TCE_v2_IOMMU
MEMORY = (regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER).to_bytes(2, "little")


class EehRig(Pnv):
    """The machine; the driver `answers` has all network functions, nobody the `EDU`."""

    def __init__(self, model: str = "PHB4 (small)", **machine: Any) -> None:
        spec = MachineSpec(
            name="eeh",
            architecture="ppc64le",
            memory=1 << 31,
            modules=("vfio", "vfio_iommu_spapr_tce", "vfio_pci"),
            pcie_phbs=[PciePhbSpec(segment=number, model=model) for number in range(3)],
            pcie_functions=[PcieFunctionSpec(kind, behind, at, name) for kind, behind, at, name in _FUNCTIONS],
            **machine,
        )
        self.machine = Machine(spec)
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.complex = self.machine.pcie
        bus = self.kernel.buses["pci"]
        assert isinstance(bus, PciBus)
        self.answers = Answers(bus)
        with self.machine.lock:
            bus.register(self.answers)
        self.events = self.host.uevents()
        self.eeh = self.kernel.subsystems[EEH]

    @property
    def log(self) -> list[str]:
        """The lines of the kernel's log."""
        return kernel_log(self.kernel).lines

    def wait(self, seconds: float = 30) -> None:
        """Let recovery come to its end."""
        self.machine.clock.advance(seconds)

    def dev(self, name: str) -> EehDev:
        """What EEH has of a function, also of one that Linux has no device for."""
        domain, bus, rest = name.split(":")
        rid = int(bus, 16) << 8 | int(rest[:2], 16) << 3 | int(rest[3])
        return self.eeh.hosts[int(domain, 16)].devs[rid]

    def eeh_pe(self, name: str) -> EehPe:
        """The endpoint of a function."""
        found = self.dev(name).pe
        assert found is not None
        return found

    def strike(self, name: str) -> None:
        """An error of a function: a load that it does not answer."""
        self.write(f"{DEBUG}/eeh_dev_break", name)

    def there(self, name: str) -> bool:
        """Whether Linux has a device."""
        return name in self.kernel.buses["pci"].devices

    def state(self, name: str) -> tuple[int, int]:
        """What the firmware and what Linux says (``eeh_pe_state``)."""
        firmware, linux = self.attr(name, "eeh_pe_state").split()
        return int(firmware, 16), int(linux, 16)

    def asked(self, name: str) -> list[str]:
        """What the driver was asked about a function, in order."""
        return [question for who, question, _ in self.answers.asked if who == name]

    def leave(self, name: str) -> None:
        """Have no driver hold a function."""
        self.write(f"{BUS}/drivers/answers/unbind", name)

    def give_vfio(self, name: str) -> None:
        """Have vfio-pci hold a function."""
        if self.device(name).driver is not None:
            self.leave(name)
        self.write(f"{BUS}/devices/{name}/driver_override", "vfio-pci")
        self.write(f"{BUS}/drivers_probe", name)

    def text_of(self, path: str) -> str:
        """A file below debugfs' directory."""
        fd = self.host.open(f"{DEBUG}/{path}", os.O_RDONLY)
        try:
            return self.host.read(fd, 1 << 12).decode()
        finally:
            self.host.close(fd)

    def works(self, name: str) -> bool:
        """Whether loads reach a function, and its endpoint is as if nothing had been."""
        device = self.device(name)
        pe = self.eeh_pe(name)
        device.set_command(0, 2)
        return device.load_bar(BAR, 0, 4) != 0xFFFFFFFF and not pe.flags & ~0x800


class Opened:
    """A function for a program, decoding memory; the `EDU`, where no other is named."""

    def __init__(self, rig: EehRig, name: str = EDU) -> None:
        self.rig = rig
        if rig.device(name).driver is not None:
            rig.give_vfio(name)
        self.device: Device = rig.open(name, iommu=V2)
        self.device.write(MEMORY, regs.PCI_COMMAND)
        self.phb = rig.phb(int(name[:4], 16))
        self.address = rig.eeh_pe(name).address

    def op(self, operation: int, *, argsz: int | None = None, flags: int = 0, size: int = 0) -> int:
        request = spapr.EehPeOp.sized(op=operation, flags=flags)
        if argsz is not None:
            request.argsz = argsz
        argument = bytearray(bytes(request)[:size]) if size else request
        return self.rig.host.ioctl(self.device.container, spapr.VFIO_EEH_PE_OP, argument)

    def inject(self, type_: int, function: int, address: int = 0, mask: int = 0) -> int:
        request = spapr.EehPeOp.sized(op=spapr.VFIO_EEH_PE_INJECT_ERR)
        request.err.type, request.err.func, request.err.addr, request.err.mask = type_, function, address, mask
        return self.rig.host.ioctl(self.device.container, spapr.VFIO_EEH_PE_OP, request)

    @property
    def state(self) -> EehState:
        return EehState(self.op(spapr.VFIO_EEH_PE_GET_STATE))

    def freeze(self) -> None:
        with self.rig.machine.lock:
            self.phb.parity(self.address)

    def load(self) -> int:
        return int.from_bytes(self.device.read(4, 0, region=0), "little")
