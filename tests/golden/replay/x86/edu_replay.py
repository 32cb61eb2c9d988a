"""Replays of ``edu_end_to_end`` and ``mmap_holds_device``: a device that interrupts and copies."""

from __future__ import annotations

import mmap
import os
import re
import struct
from functools import partial
from typing import Any

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio
from pyvfio.process import EventFd
from pyvfio_backends.software.linux.kernel_log import kernel_log
from replay.seam import Blocked

from .edu import DMA, Edu
from .facts import Keys
from .lab import Answers, Lab, attempt
from .opened import Opened

__all__ = ["edu_end_to_end", "mmap_holds_device"]

_EDU = "0000:00:06.0"
_NONE, _BOOL, _EVENTFD = vfio.VFIO_IRQ_SET_DATA_NONE, vfio.VFIO_IRQ_SET_DATA_BOOL, vfio.VFIO_IRQ_SET_DATA_EVENTFD
_TRIGGER, _MASK, _UNMASK = (
    vfio.VFIO_IRQ_SET_ACTION_TRIGGER,
    vfio.VFIO_IRQ_SET_ACTION_MASK,
    vfio.VFIO_IRQ_SET_ACTION_UNMASK,
)
_INTX, _MSI, _MSIX, _ERR, _REQ = range(vfio.VFIO_PCI_NUM_IRQS)
_ID, _LIVE, _FACTOR, _RAISE, _ACK = 0x00, 0x04, 0x08, 0x60, 0x64
_IRQ_STATUS = 0x24
_ON = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER
_IOVA, _READ_ONLY, _UNMAPPED = 0x100000, 0x200000, 0x900000
_PAGE = mmap.PAGESIZE
_MSI_CAP = 0x40
_SHOWN = 16
_TINY, _SHORT = 8, 20  # argsz: less than the head, and less than head and data

#: What is wrong -> (index, flags, start, count, descriptors).
_MISUSE: dict[str, tuple[int, int, int, int, str]] = {
    "mask_msi": (_MSI, _NONE | _MASK, 0, 1, ""),
    "unmask_intx_when_off": (_INTX, _NONE | _UNMASK, 0, 1, ""),
    "msi_loopback_when_off": (_MSI, _NONE | _TRIGGER, 0, 1, ""),
    "msix_absent": (_MSIX, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "index_99": (99, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "two_vectors_of_one": (_MSI, _EVENTFD | _TRIGGER, 0, 2, "aa"),
    "start_1": (_MSI, _EVENTFD | _TRIGGER, 1, 1, "a"),
    "intx_count_2": (_INTX, _EVENTFD | _TRIGGER, 0, 2, "aa"),
    "no_action": (_MSI, _EVENTFD, 0, 1, "a"),
    "two_actions": (_MSI, _EVENTFD | _TRIGGER | _MASK, 0, 1, "a"),
    "no_data_flag": (_MSI, _TRIGGER, 0, 1, ""),
    "two_data_flags": (_MSI, _EVENTFD | _NONE | _TRIGGER, 0, 1, "a"),
    "bad_eventfd": (_MSI, _EVENTFD | _TRIGGER, 0, 1, "b"),
    "closed_fd": (_MSI, _EVENTFD | _TRIGGER, 0, 1, "x"),
    "short_argsz": (_MSI, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "tiny_argsz": (_MSI, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "eventfd_count_0": (_MSI, _EVENTFD | _TRIGGER, 0, 0, ""),
    "unknown_flag": (_MSI, _EVENTFD | _TRIGGER | 1 << 10, 0, 1, "a"),
    "err_on_conventional": (_ERR, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "req_mask": (_REQ, _NONE | _MASK, 0, 1, ""),
    "eventfd_minus_1_before_enable": (_MSI, _EVENTFD | _TRIGGER, 0, 1, "-"),
}


class _Run:
    """The recorder's script, part by part."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.answers = Answers()
        lab.take(_EDU)
        self.opened = Opened(lab, _EDU)
        self.edu = Edu(lab, self.opened.fd)
        self.signal = lab.seam.eventfd()
        self.memory = lab.seam.memory(_PAGE)

    def irq(self, index: int, flags: int, count: int = 1, data: bytes = b"", start: int = 0, argsz: Any = None) -> int:
        return self.lab.seam.set_irqs(self.opened.fd, index, flags, start, count, data, argsz)

    def connect(self, index: int) -> int:
        return self.irq(index, _EVENTFD | _TRIGGER, data=struct.pack("=i", self.signal.fileno()))

    def fired(self) -> int:
        """How often the eventfd was signalled since the last look."""
        self.lab.wait(0)
        return _count(self.signal)

    def raised(self) -> int:
        """Raise the interrupt; what the write returns."""
        return self.lab.host.pwrite(self.opened.fd, (1).to_bytes(4, "little"), _RAISE)

    def acknowledge(self) -> None:
        self.edu.store(_ACK, 0xFFFFFFFF)

    def both(self, offset: int) -> list[str]:
        return [self.opened.config(offset, 2).hex(), self.opened.physical(offset, 2).hex()]

    # parts

    def registers(self) -> None:
        ask, edu = self.answers.ask, self.edu
        self.answers["device"] = _EDU
        edu.enable()
        ask("id", lambda: hex(edu.load(_ID)))
        ask("liveness", lambda: (edu.store(_LIVE, 0x12345678), hex(edu.load(_LIVE)))[1])
        ask("factorial5", self._factorial)
        ask("liveness_mmap", self._mapped)
        ask("map", partial(self.lab.seam.map_dma, self.opened.container, _IOVA, _PAGE, self.memory.address))
        self.answers["irq_info"] = {str(index): attempt(partial(self.opened.irq, index)) for index in range(5)}

    def _factorial(self) -> int:
        self.edu.store(_FACTOR, 5)
        self.lab.wait(0.1)
        return self.edu.load(_FACTOR)

    def _mapped(self) -> str:
        area = self.lab.host.mmap(self.opened.fd, _PAGE)
        area[_LIVE : _LIVE + 4] = struct.pack("<I", 0xAAAA5555)
        value = struct.unpack("<I", area[_LIVE : _LIVE + 4])[0]
        area.close()
        return hex(value)

    def intx(self) -> None:
        ask = self.answers.ask
        ask("intx_enable", lambda: self.connect(_INTX))
        ask("intx_fired", lambda: (self.raised(), self.fired())[1])
        ask("intx_masked_after_fire_second", lambda: (self.raised(), self.fired())[1])
        ask("intx_disint_bit_while_masked_virt_phys", lambda: self.both(regs.PCI_COMMAND))
        ask("unmask", lambda: self.irq(_INTX, _NONE | _UNMASK))
        ask("intx_fired_after_unmask", self.fired)
        ask("unmask_while_pending_refires", lambda: [self.irq(_INTX, _NONE | _UNMASK), self.fired()])
        resample = self.lab.seam.eventfd()
        number = struct.pack("=i", resample.fileno())
        ask("unmask_eventfd_set", lambda: self.irq(_INTX, _EVENTFD | _UNMASK, data=number))
        ask("fired_after_unmask_eventfd", lambda: (resample.signal(), self.fired())[1])
        attempt(self._quiet)
        ask(
            "mask_then_raise",
            lambda: [
                self.irq(_INTX, _NONE | _MASK),
                self.fired(),
                self.raised(),
                self.fired(),
                self.irq(_INTX, _NONE | _UNMASK),
                self.fired(),
            ],
        )
        attempt(self._quiet)
        ask(
            "user_disintx_bit_blocks",
            lambda: [
                self._command(_ON | regs.PCI_COMMAND_INTX_DISABLE),
                self.raised(),
                self.fired(),
                self._command(_ON),
                self.fired(),
            ],
        )
        attempt(self._quiet)
        ask("loopback_trigger_bool", lambda: [self.irq(_INTX, _BOOL | _TRIGGER, data=b"\1"), self.fired()])
        ask("loopback_trigger_none", lambda: [self.irq(_INTX, _NONE | _TRIGGER), self.fired()])
        ask("msi_while_intx_enabled", lambda: self.connect(_MSI))
        ask("intx_disable", lambda: self.irq(_INTX, _NONE | _TRIGGER, 0))
        ask("intx_disable_again", lambda: self.irq(_INTX, _NONE | _TRIGGER, 0))

    def _command(self, value: int) -> int:
        return self.opened.set_config(regs.PCI_COMMAND, value.to_bytes(2, "little"))

    def _quiet(self) -> None:
        """Low line, unmasked, nothing counted."""
        self.acknowledge()
        self.irq(_INTX, _NONE | _UNMASK)
        self.fired()

    def misuse(self) -> None:
        with open(os.devnull, "rb") as null:
            closed = os.dup(0)
            os.close(closed)  # and nothing is opened after it, which could have its number
            numbers = {"a": self.signal.fileno(), "b": null.fileno(), "x": closed, "-": -1}
            found = {}
            for what, (index, flags, start, count, given) in _MISUSE.items():
                data = b"".join(struct.pack("=i", numbers[letter]) for letter in given)
                argsz = {"short_argsz": _SHORT, "tiny_argsz": _TINY}.get(what)
                found[what] = attempt(partial(self.irq, index, flags, count, data, start, argsz))
            self.answers["misuse"] = found

    def msi(self) -> None:
        ask = self.answers.ask
        ask("msi_enable", lambda: self.connect(_MSI))
        ask("interrupts_line", self._line)
        ask("msi_enable_bit_virt_phys", lambda: self.both(_MSI_CAP + regs.PCI_MSI_FLAGS))
        ask("msi_addr_data_virt", lambda: self.opened.config(_MSI_CAP + regs.PCI_MSI_ADDRESS_LO, 12).hex())
        attempt(self.fired)
        ask("msi_fired", lambda: (self.raised(), self.fired())[1])
        attempt(self.acknowledge)

    def _line(self) -> list[list[str]]:
        lines = [line.split() for line in self.lab.text("/proc/interrupts").split("\n")]
        return [words[-2:] for words in lines if words and re.match(r"vfio-.*\(" + re.escape(_EDU), words[-1])]

    def dma(self) -> None:
        ask, edu, view = self.answers.ask, self.edu, self.memory.view
        pattern = bytes(range(64))
        view[:64] = pattern
        ask("dma_to_device", lambda: edu.copy(_IOVA, DMA, 64, to_device=True))
        attempt(self.fired)
        ask("dma_from_device_irq", lambda: edu.copy(DMA, _IOVA + 0x800, 64, to_device=False, interrupt=True))
        ask("dma_irq_fired", self.fired)
        ask("irq_status", lambda: hex(edu.load(_IRQ_STATUS)))
        self.answers["dma_data_ok"] = bytes(view[0x800:0x840]) == pattern
        attempt(self.acknowledge)
        said = len(self._said())
        ask("dma_unmapped_iova", lambda: edu.copy(DMA, _UNMAPPED, 64, to_device=False))
        self.answers["iommu_fault_dmesg"] = self._said()[said:]
        fixed = self.lab.seam.memory(_PAGE)
        flags = 1  # the device may read
        attempt(partial(self.lab.seam.map_dma, self.opened.container, _READ_ONLY, _PAGE, fixed.address, flags))
        said = len(self._said())
        ask(
            "dma_write_to_readonly",
            lambda: [
                edu.copy(DMA, _READ_ONLY, 64, to_device=False),
                bytes(fixed.view[:_SHOWN]).hex(),
                self._said()[said:],
            ],
        )
        self._command(regs.PCI_COMMAND_MEMORY)
        view[:_PAGE] = bytes(_PAGE)
        ask(
            "dma_bus_master_off",
            lambda: [edu.copy(DMA, _IOVA, 64, to_device=False), bytes(view[:_SHOWN]).hex()],
        )

    def _said(self) -> list[str]:
        """What the kernel has said so far."""
        return kernel_log(self.lab.seam.machine.kernel).lines

    def end(self) -> None:
        self.answers.ask("reset_flag", lambda: bool(self.opened.info()["flags"] & vfio.VFIO_DEVICE_FLAGS_RESET))
        self.answers.ask("device_reset", self.opened.reset)
        self.opened.close()


def edu_end_to_end(lab: Lab, questions: Keys) -> Answers:
    """Registers, interrupts, copies."""
    run = _Run(lab)
    for part in (run.registers, run.intx, run.misuse, run.msi, run.dma, run.end):
        failed = attempt(part)
        if failed is not None:
            run.answers[f"stopped in {part.__name__}"] = failed
    return run.answers


def _count(signal: EventFd) -> int:
    return signal.read() or 0


def mmap_holds_device(lab: Lab, questions: Keys) -> Answers:
    """A mapping alone keeps a function from being given back."""
    answers = Answers()
    lab.take(_EDU)
    opened = Opened(lab, _EDU)
    signal = lab.seam.eventfd()
    number = struct.pack("=i", signal.fileno())
    answers.ask("set_req", partial(lab.seam.set_irqs, opened.fd, _REQ, _EVENTFD | _TRIGGER, 0, 1, number))
    area = attempt(partial(lab.host.mmap, opened.fd, _PAGE))
    opened.close()
    answers.ask("group_open_with_only_mmap_left", partial(lab.open_group, _EDU))
    remover = Blocked(lab.seam.machine.clock, partial(lab.unbind, "vfio-pci", _EDU))
    answers["req_fired"] = _count(signal)
    answers["unbind_done_while_mapped"] = [value for value, _ in remover.results]
    attempt(lambda: area.close())
    remover.settle()
    answers["unbind_result_after_munmap"] = [value for value, _ in remover.results]
    return answers
