"""Through vfio-pci: whatever a program, its device or the host does, nothing moves into or out of a frozen endpoint.

Loads, stores, DMA and messages, that is: configuration goes on (``eeh_powernv_init`` of Linux 6.12; `PhbModel`), but
in a reset, when Linux blocks it.  What is behind other ports of the same switch, and behind other bridges, works all
the time.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pci_fixture import EVENTFD, TRIGGER, Device
from pnv_fixture import Pnv

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi import vfio_type1 as t1
from pyvfio.abi.eeh_state import EehPeFlag
from pyvfio.abi.opal import OpalFreezeAction
from pyvfio.ioda.message import message_64
from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec, PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage, Severity
from pyvfio_backends.software.hardware.pcie.request import Request
from pyvfio_backends.software.linux.eeh import EEH
from pyvfio_backends.software.machine import Machine

A, B, C = "0000:03:00.0", "0000:04:00.0", "0001:01:00.0"
_FUNCTIONS = [
    ("x3130-upstream", "phb0", "00.0", "up"),
    ("xio3130-downstream", "up", "00.0", "left"),
    ("xio3130-downstream", "up", "01.0", "right"),
    ("edu", "left", "00.0", ""),
    ("edu", "right", "00.0", ""),
    ("edu", "phb1", "00.0", ""),
    ("pci-testdev", "phb2", "00.0", ""),
]
TESTDEV, MEMBAR, MEMBAR_SIZE = "0002:01:00.0", 2, 0x10000
LIVENESS, RAISE = 0x04, 0x60
IOVA, SIZE = 0x10000, 0x10000
BAR_SIZE = 0x100000
ONES = b"\xff" * 4
_MOST_INJECTED = 3


class Program:
    """A program with the function `name` open: its memory is at `IOVA`, its message comes to an eventfd."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.host, self.name = lab, lab.host, name
        self.memory = AnonymousMemory(SIZE)
        self.function: Function = lab.hardware(name)
        self.device = Device(lab, name, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU, get=False)
        ioctl = lab.host.ioctl
        register = spapr.IommuSpaprRegisterMemory.sized(vaddr=self.memory.address, size=SIZE)
        ioctl(self.device.container, spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY, register)
        flags = t1.VFIO_DMA_MAP_FLAG_READ | t1.VFIO_DMA_MAP_FLAG_WRITE
        request = t1.IommuType1DmaMap.sized(flags=flags, vaddr=self.memory.address, iova=IOVA, size=SIZE)
        ioctl(self.device.container, t1.VFIO_IOMMU_MAP_DMA, request)
        self.device.fd = self.device.get(name)
        self.number = lab.pe(name).number
        self.endpoints = lab.phb(int(name[:4], 16)).endpoints
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        self.device.set_irqs(
            EVENTFD | TRIGGER, abi.VFIO_PCI_MSI_IRQ_INDEX, 0, 1, self.event.to_bytes(4, "little", signed=True)
        )
        self.enable()
        self.mapped = lab.host.mmap(self.device.fd, BAR_SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, 0)
        self.value = 1

    def enable(self) -> None:
        """Have it decode memory and be bus master."""
        wanted = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER
        with contextlib.suppress(OSError):
            self.device.write(wanted.to_bytes(2, "little"), regs.PCI_COMMAND)

    def operate(self, operation: int, **fields: int) -> int:
        """``VFIO_EEH_PE_OP``; -1 when it is refused."""
        request = spapr.EehPeOp.sized(op=operation)
        for name, value in fields.items():
            setattr(request.err, name, value)
        try:
            return self.host.ioctl(self.device.container, spapr.VFIO_EEH_PE_OP, request)
        except OSError:
            return -1

    def events(self) -> int:
        """How often it was interrupted since the last look."""
        try:
            return os.eventfd_read(self.event)
        except BlockingIOError:
            return 0

    @property
    def registers(self) -> bytes:
        """What the device has, looked at behind everybody's back."""
        return self.function.bars[0].registers.read(LIVENESS, 4).to_bytes(4, "little")

    def raise_interrupt(self) -> None:
        """The device sends its message."""
        self.function.bars[0].registers.write(RAISE, 4, 1)
        self.lab.machine.clock.advance(0)

    def works(self) -> None:
        """Everything that it has does what it should."""
        self.value += 1
        data = self.value.to_bytes(4, "little")
        expected = bytes(byte ^ 0xFF for byte in data)
        assert self.device.write(data, LIVENESS, region=0) == 4
        assert self.device.read(4, LIVENESS, region=0) == expected
        assert self.mapped[LIVENESS : LIVENESS + 4] == expected
        with self.lab.machine.lock:
            self.function.dma_write(IOVA + 8, data * 4)
            assert self.function.dma_read(IOVA + 8, 16) == data * 4
        assert bytes(self.memory.view[8:24]) == data * 4
        self.events()
        with self.lab.machine.lock:
            self.raise_interrupt()
        assert self.events() == 1
        assert self.operate(spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.NORMAL

    def is_isolated(self) -> None:
        """What is frozen cannot be reached, what is stopped reaches nothing."""
        frozen, stopped = self.number in self.endpoints.frozen, self.number in self.endpoints.stopped
        before, memory = self.registers, bytes(self.memory.view)
        self.events()
        if frozen:
            with contextlib.suppress(OSError):  # memory may be switched off
                assert self.device.read(4, LIVENESS, region=0) == ONES
                assert self.mapped[LIVENESS : LIVENESS + 4] == ONES
                self.device.write(b"\x12\x34\x56\x78", LIVENESS, region=0)
                self.mapped[LIVENESS : LIVENESS + 4] = b"\x9a\xbc\xde\xf0"
            assert self.registers == before
        if stopped:
            with self.lab.machine.lock:
                _attempt(lambda: self.function.dma_write(IOVA, b"never"))  # posted: the device may not know
                with pytest.raises(DmaFault):
                    self.function.dma_read(IOVA, 4)
                self.raise_interrupt()
            assert bytes(self.memory.view) == memory
            assert self.events() == 0
        if self._flags() & EehPeFlag.CFG_BLOCKED:
            self._has_no_configuration()

    def _flags(self) -> EehPeFlag:
        """What Linux notes of the endpoint."""
        pe = self.lab.kernel.subsystems[EEH].by_device[self.lab.device(self.name)].pe
        assert pe is not None
        return pe.flags

    def _has_no_configuration(self) -> None:
        """While it is reset configuration is out of reach too, for the program and for the host."""
        before = bytes(self.function.config.data)
        for work in (
            lambda: self.device.read(1, regs.PCI_CACHE_LINE_SIZE),
            lambda: self.device.write(b"\x5a", regs.PCI_CACHE_LINE_SIZE),
        ):
            with pytest.raises(OSError, match="No such device"):
                work()
        path = f"/sys/bus/pci/devices/{self.name}/config"
        assert self.lab.bytes(path, 16) == b"\xff" * 16
        self.lab.write(path, b"\xa5" * 16)
        assert bytes(self.function.config.data) == before

    def recover(self) -> None:
        """What a program does to have it work again; an injected error that still waited strikes once more."""
        for _ in range(_MOST_INJECTED):
            self._reset()
            for work in (
                lambda: self.device.read(4, regs.PCI_CACHE_LINE_SIZE),
                lambda: self.device.write(b"\x10", regs.PCI_CACHE_LINE_SIZE),
                lambda: self.device.read(4, LIVENESS, region=0),
                lambda: self.function.dma_write(IOVA, b"touch"),
            ):
                _attempt(work)
            if self.operate(spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.NORMAL:
                return

    def _reset(self) -> None:
        self.operate(spapr.VFIO_EEH_PE_RESET_HOT)
        assert self.operate(spapr.VFIO_EEH_PE_RESET_DEACTIVATE) == 0
        assert self.operate(spapr.VFIO_EEH_PE_CONFIGURE) == 0
        self.device.set_irqs(abi.VFIO_IRQ_SET_DATA_NONE | TRIGGER, abi.VFIO_PCI_MSI_IRQ_INDEX, 0, 0)
        self.device.eventfds(abi.VFIO_PCI_MSI_IRQ_INDEX, 0, self.event)
        self.device.write(bytes(2), regs.PCI_COMMAND)
        self.enable()

    def close(self) -> None:
        os.close(self.event)
        self.mapped.close()
        self.device.close()
        self.memory.close()


class Lab(Pnv):
    """Three devices, each with a program: two behind a switch, one behind a bridge of its own."""

    def __init__(self, model: str) -> None:
        spec = MachineSpec(
            name="isolation",
            architecture="ppc64le",
            memory=1 << 31,
            modules=("vfio", "vfio_iommu_spapr_tce", "vfio_pci"),
            pcie_phbs=[PciePhbSpec(segment=number, model=model) for number in range(3)],
            pcie_functions=[
                PcieFunctionSpec(
                    kind, behind, at, name, options={"membar": MEMBAR_SIZE} if kind == "pci-testdev" else {}
                )
                for kind, behind, at, name in _FUNCTIONS
            ],
        )
        self.machine = Machine(spec)
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.complex = self.machine.pcie
        for name in (A, B, C):
            self.take(name)


def _attempt(work: Callable[[], object]) -> None:
    with contextlib.suppress(OSError, DmaFault):
        work()


def _hang(program: Program) -> None:
    program.function.hung = True
    _attempt(lambda: program.device.read(4, LIVENESS, region=0))
    program.function.hung = False


def _poison(program: Program) -> None:
    request = Request.store(IOVA, b"bad!")
    request.poisoned = True
    program.function.send(request)


def _raw(work: Callable[[Program], object]) -> Callable[[Program], object]:
    """What the hardware does by itself."""

    def done(program: Program) -> None:
        with program.lab.machine.lock:
            _attempt(lambda: work(program))
            program.lab.machine.clock.settle()

    return done


def _inject(function: int) -> Callable[[Program], object]:
    def done(program: Program) -> None:
        program.operate(spapr.VFIO_EEH_PE_INJECT_ERR, type=0, func=function)
        _attempt(lambda: program.device.read(4, regs.PCI_CACHE_LINE_SIZE))
        _attempt(lambda: program.device.read(4, LIVENESS, region=0))
        _attempt(lambda: program.device.write(b"\x10", regs.PCI_CACHE_LINE_SIZE))

    return done


STEPS: dict[str, Callable[[Program], object]] = {
    "DMA to a page that is not mapped": _raw(lambda p: p.function.dma_write(0x500000, b"bad")),
    "DMA from one": _raw(lambda p: p.function.dma_read(0x500000, 4)),
    "DMA to another's memory": _raw(lambda p: p.function.dma_write(1 << 59, b"bad")),
    "a message of nobody": _raw(lambda p: p.function.send_message(*message_64(77))),
    "poisoned DMA": _raw(_poison),
    "a fatal error": _raw(lambda p: p.function.report(ErrorMessage(Severity.FATAL, p.function.rid))),
    "an error that is not fatal": _raw(lambda p: p.function.report(ErrorMessage(Severity.NONFATAL, p.function.rid))),
    "parity": _raw(lambda p: p.lab.phb(0).parity(p.number)),
    "a device that hangs": _hang,
    "an injected configuration read": _inject(4),
    "an injected configuration write": _inject(10),
    "an injected load": _inject(0),
    "an injected DMA write": _inject(16),
    "the host looks": lambda p: p.lab.attr(A, "eeh_pe_state"),
    "the host reads configuration": lambda p: p.lab.bytes(f"/sys/bus/pci/devices/{A}/config", 64),
    "the host checks": lambda p: p.lab.write("/sys/kernel/debug/powerpc/eeh_dev_check", A),
    "the host asks the firmware": lambda p: p.lab.write("/sys/kernel/debug/powerpc/eeh_force_recover", "hwcheck"),
    "time": lambda p: p.lab.machine.clock.advance(100),
    "the program enables it": lambda p: p.enable(),
    "VFIO_DEVICE_RESET": lambda p: _attempt(lambda: p.host.ioctl(p.device.fd, abi.VFIO_DEVICE_RESET, 0)),
}
STEPS |= {
    f"operation {number}": (lambda p, number=number: p.operate(number))  # type: ignore[misc]
    for number in range(spapr.VFIO_EEH_PE_CONFIGURE + 1)
}


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["PHB4", "PHB3"]), st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=8))
def test_nothing_moves_into_or_out_of_a_frozen_endpoint(model: str, steps: list[str]) -> None:
    lab = Lab(model)
    with lab.host:
        one, *others = programs = [Program(lab, name) for name in (A, B, C)]
        for program in programs:
            program.works()
        for step in steps:
            STEPS[step](one)
            one.is_isolated()
            for other in others:
                other.works()
        one.recover()
        for program in programs:
            program.works()
            program.close()


def test_mapped_memory_of_a_frozen_endpoint() -> None:
    """Memory behind a base address that a program has mapped reads as ones too, and keeps what it has."""
    lab = Lab("PHB4")
    with lab.host:
        lab.take(TESTDEV)
        device = lab.open(TESTDEV, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
        device.write(regs.PCI_COMMAND_MEMORY.to_bytes(2, "little"), regs.PCI_COMMAND)
        mapped = lab.host.mmap(device.fd, MEMBAR_SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, MEMBAR << 40)
        mapped[0x100:0x104] = b"kept"
        with lab.machine.lock:
            lab.phb(2).parity(lab.pe(TESTDEV).number)
        assert mapped[0x100:0x104] == device.read(4, 0x100, region=MEMBAR) == ONES
        mapped[0x100:0x104] = b"lost"
        device.write(b"lost", 0x100, region=MEMBAR)
        with lab.machine.lock:
            lab.opal.pci_eeh_freeze_clear(2, lab.pe(TESTDEV).number, OpalFreezeAction.ALL)
        assert mapped[0x100:0x104] == device.read(4, 0x100, region=MEMBAR) == b"kept"
        mapped.close()
        device.close()
