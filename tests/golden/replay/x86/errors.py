"""Replay of ``aer``: errors that functions report, and what becomes of the program that has them."""

from __future__ import annotations

import struct
from functools import partial

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio
from pyvfio.address import PciAddress
from pyvfio.process import EventFd
from pyvfio_backends.software.linux.kernel_log import kernel_log

from .facts import Keys
from .lab import DEVICES, Answers, Lab, attempt
from .opened import Opened

__all__ = ["aer"]

_TARGETS = {
    "acs_port": ("0000:0d:00.0", "0000:00:0f.0", "0000:00:0f.0"),
    "behind_switch": ("0000:08:00.0", "0000:06:01.0", "0000:00:0a.0"),
    "no_aer_cap_nvme": ("0000:04:00.0", "0000:00:09.1", "0000:00:09.1"),
    "no_devctl_bits_e1000e": ("0000:41:00.0", "0000:40:00.0", "0000:40:00.0"),
}
# QEMU's names (pcie_aer_inject_error) with the bits of the status registers
_CORRECTABLE = {"RCVR": 0x1, "BAD_TLP": 0x40}
_UNCORRECTABLE = {
    "DLP": 0x10,
    "POISON_TLP": 0x1000,
    "COMP_TIME": 0x4000,
    "UNX_COMP": 0x10000,
    "MALF_TLP": 0x40000,
    "ECRC": 0x80000,
    "UNSUP": 0x100000,
}
_FATAL = "MALF_TLP"  # what the recorder sent before it had switched reporting on
_ERR, _REQ = vfio.VFIO_PCI_ERR_IRQ_INDEX, vfio.VFIO_PCI_REQ_IRQ_INDEX
_TRIGGER, _EVENTFD, _NONE = (
    vfio.VFIO_IRQ_SET_ACTION_TRIGGER,
    vfio.VFIO_IRQ_SET_DATA_EVENTFD,
    vfio.VFIO_IRQ_SET_DATA_NONE,
)
_COMMAND = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_SERR | regs.PCI_COMMAND_INTX_DISABLE
_REPORT = regs.PCI_EXP_DEVCTL_CERE | regs.PCI_EXP_DEVCTL_NFERE | regs.PCI_EXP_DEVCTL_FERE | regs.PCI_EXP_DEVCTL_URRE
_FILES = ("aer_dev_correctable", "aer_dev_fatal", "aer_dev_nonfatal")
_ROOT_FILES = tuple(f"aer_rootport_total_err_{kind}" for kind in ("cor", "fatal", "nonfatal"))
_RECOVERY = 3.0
_ERROR_KEYS = (*_CORRECTABLE, *_UNCORRECTABLE)


def aer(lab: Lab, questions: Keys) -> Answers:
    """Each function of the recording."""
    answers = Answers()
    for name, inner in questions.items():
        found = answers[name] = Answers()
        failed = attempt(partial(_target, lab, name, list(inner or {}), found))
        if failed is not None:
            found["stopped"] = failed
    return answers


def _target(lab: Lab, name: str, keys: list[str], answers: Answers) -> None:
    device, port, root = _TARGETS[name]
    answers.update(device=device, port=port, root_port=root)
    # these two were without driver when the recorder came to them
    holder = lab.driver(device)
    if name.startswith("no_") and holder is not None:
        lab.unbind(holder, device)
    answers["driver_before"] = lab.driver(device)
    lab.take(device)
    opened = Opened(lab, device)
    try:
        _script(_Watched(lab, opened), root, keys, answers)
    finally:
        opened.close()
        attempt(partial(lab.release, device))


class _Watched:
    """An open function whose errors and requests are counted."""

    def __init__(self, lab: Lab, opened: Opened) -> None:
        self.lab, self.opened = lab, opened
        self.error, self.request = lab.seam.eventfd(), lab.seam.eventfd()
        space = opened.physical(0, 256)
        at = space[regs.PCI_CAPABILITY_LIST]
        while at and space[at] != regs.PCI_CAP_ID_EXP:
            at = space[at + 1]
        self.express = at
        address = PciAddress.parse(opened.address)
        function = lab.seam.machine.pcie.function(
            address.domain, address.bus << 8 | address.device << 3 | address.function
        )
        assert function is not None
        self.function = function

    def connect(self, index: int, signal: EventFd) -> int:
        number = struct.pack("=i", signal.fileno())
        return self.lab.seam.set_irqs(self.opened.fd, index, _EVENTFD | _TRIGGER, 0, 1, number)

    def inject(self, name: str) -> None:
        """Have the function find an error."""
        with self.lab.seam.machine.lock:
            if name in _CORRECTABLE:
                self.function.errors.correctable(_CORRECTABLE[name])
            else:
                self.function.errors.uncorrectable(_UNCORRECTABLE[name], None)
        self.lab.wait(_RECOVERY)

    def both(self, offset: int) -> list[str]:
        return [self.opened.config(offset, 2).hex(), self.opened.physical(offset, 2).hex()]

    def outcome(self, name: str) -> Answers:
        found = Answers()
        said = len(kernel_log(self.lab.seam.machine.kernel).lines)
        found.ask("injected", partial(self.inject, name))
        if found.pop("injected") is not None:
            found["injected"] = "no"
        found["err_eventfd"] = self.error.read()
        found["req_eventfd"] = self.request.read()
        found["dmesg"] = kernel_log(self.lab.seam.machine.kernel).lines[said:]
        found.ask("devsta", lambda: self.opened.config(self.express + regs.PCI_EXP_DEVSTA, 2).hex())
        found.ask("cfg", lambda: self.opened.config(0, 4).hex())
        found.ask("virt_command", lambda: self.opened.config(regs.PCI_COMMAND, 2).hex())
        path = f"{DEVICES}/{self.opened.address}"
        there = set(self.lab.seam.listing(path))
        found["counters"] = {name: _counts(self.lab.text(f"{path}/{name}")) for name in _FILES if name in there}
        return found


def _counts(text: str) -> dict[str, int]:
    """The lines of a file of counters that are not 0."""
    pairs = (line.rsplit(" ", 1) for line in text.split("\n") if line)
    return {name: int(count) for name, count in pairs if int(count)}


def _script(watched: _Watched, root: str, keys: list[str], answers: Answers) -> None:
    lab, opened = watched.lab, watched.opened
    control = watched.express + regs.PCI_EXP_DEVCTL
    answers.ask("set_err", partial(watched.connect, _ERR, watched.error))
    watched.connect(_REQ, watched.request)
    path = f"{DEVICES}/{opened.address}"
    answers["aer_files"] = [name for name in lab.seam.listing(path) if name.startswith("aer_")]
    answers["root_aer_files"] = [name for name in lab.seam.listing(f"{DEVICES}/{root}") if name.startswith("aer_")]
    answers["devctl_initial_virt"], answers["devctl_initial_phys"] = watched.both(control)
    answers["reporting_off"] = watched.outcome(_FATAL)

    def set_up() -> None:
        opened.set_config(control, _REPORT.to_bytes(2, "little"))
        opened.set_config(regs.PCI_COMMAND, _COMMAND.to_bytes(2, "little"))

    set_up()
    answers["devctl_set_virt_phys"] = watched.both(control)
    for name in (key for key in keys if key in _ERROR_KEYS):
        set_up()  # again each time: after a fatal one nothing would be reported
        found = answers[name] = watched.outcome(name)
        found.ask("devctl_after", lambda: opened.config(control, 2).hex())
    answers.ask("err_loopback", lambda: [_loopback(watched), watched.error.read()])
    answers["root_counters"] = {name: attempt(partial(lab.text, f"{DEVICES}/{root}/{name}")) for name in _ROOT_FILES}
    answers.ask("err_disable", lambda: lab.seam.set_irqs(opened.fd, _ERR, _NONE | _TRIGGER, 0, 0))


def _loopback(watched: _Watched) -> int:
    return watched.lab.seam.set_irqs(watched.opened.fd, _ERR, _NONE | _TRIGGER, 0, 1)
