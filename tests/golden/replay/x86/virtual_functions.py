"""Replay of ``sriov``: the virtual functions of igb under its own driver and under vfio-pci."""

from __future__ import annotations

import struct
import uuid
from functools import partial
from typing import Any

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio, vfio_feature
from pyvfio.process import EventFd
from replay.seam import Blocked

from .facts import Keys
from .lab import CONTAINER, DEVICES, Answers, Lab, attempt
from .opened import Opened

__all__ = ["sriov"]

_PF, _VF = "0000:03:00.0", "0000:03:10.0"
_PARAMETER = "/sys/module/vfio_pci/parameters/enable_sriov"
_BIG = 256
_HEADER, _HEAD = 256, 64
_TOKEN, _OTHER = (str(uuid.UUID(int=number)) for number in (0xA1, 0xB2))
_REQ = vfio.VFIO_PCI_REQ_IRQ_INDEX
_EVENTFD = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
_ON = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER
_SET_TOKEN = vfio.VFIO_DEVICE_FEATURE_SET | vfio_feature.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
_ATTRIBUTES = (
    *("sriov_totalvfs", "sriov_numvfs", "sriov_offset", "sriov_stride", "sriov_vf_device"),
    *("sriov_drivers_autoprobe", "sriov_vf_total_msix"),
)


def _numvfs(lab: Lab, value: str) -> int:
    return int(lab.seam.write(f"{DEVICES}/{_PF}/sriov_numvfs", value) > 0)


def sriov(lab: Lab, questions: Keys) -> Answers:
    """The script in the recorder's order."""
    answers, path = Answers(), f"{DEVICES}/{_PF}"
    holder = lab.driver(_PF)
    if holder is not None:
        attempt(partial(lab.unbind, holder, _PF))
    answers.ask("probe", partial(lab.probe, _PF))
    answers["driver"] = lab.driver(_PF)
    answers["attrs"] = {name: attempt(partial(lab.text, f"{path}/{name}")) for name in _ATTRIBUTES}
    answers.ask("numvfs_too_many", partial(_numvfs, lab, "8"))
    answers.ask("numvfs_garbage", partial(_numvfs, lab, "xx"))
    answers.ask("numvfs_negative", partial(_numvfs, lab, "-1"))
    lab.events()
    answers.ask("numvfs_2", partial(_numvfs, lab, "2"))
    events = lab.events()
    answers.ask("numvfs_read", partial(lab.text, f"{path}/sriov_numvfs"))
    answers.ask("numvfs_3_while_2", partial(_numvfs, lab, "3"))
    answers.ask("numvfs_2_while_2", partial(_numvfs, lab, "2"))
    names = [name for name in lab.seam.listing(path) if name.startswith("virtfn")]
    answers["vfs"] = [lab.seam.link(f"{path}/{name}") for name in names]
    answers["uevents"] = [event[0] for event in events]
    for name in answers["vfs"]:
        answers[str(name)] = _function(lab, str(name))
    _opened(lab, answers)
    _under_vfio(lab, answers)
    return answers


def _function(lab: Lab, address: str) -> Answers:
    answers, path = Answers(), f"{DEVICES}/{address}"
    for name in ("vendor", "device", "class"):
        answers.ask(name, partial(lab.text, f"{path}/{name}"))
    answers["group"] = lab.group(address)
    answers["members"] = lab.members(lab.group(address))
    answers["physfn"] = lab.seam.link(f"{path}/physfn")
    answers["driver"] = lab.driver(address)
    answers.ask("resource", lambda: lab.text(f"{path}/resource").split("\n"))
    answers.ask("raw_config", lambda: lab.seam.read(f"{path}/config", _HEAD).hex())
    answers["entries"] = lab.seam.listing(path)
    return answers


def _opened(lab: Lab, answers: Answers) -> None:
    """A virtual function in a program's hands, and what becomes of its end."""
    attempt(partial(lab.take, _VF))
    opened = attempt(partial(Opened, lab, _VF))
    if not isinstance(opened, Opened):
        return
    found = answers["vf_vfio"] = Answers()
    found.ask("virt_config", lambda: opened.config(0, _HEADER).hex())
    found["regions"] = {str(index): attempt(partial(opened.region, index, _BIG)) for index in range(9)}
    found["irqs"] = {str(index): attempt(partial(opened.irq, index)) for index in range(5)}
    found.ask("flags", lambda: opened.info()["flags"])
    found.ask("reset", opened.reset)
    for key, command in (("memory_enable_off", 0), ("memory_enable_on", _ON)):
        found.ask(key, partial(_memory, opened, command))
    signal = lab.seam.eventfd()
    attempt(partial(lab.seam.set_irqs, opened.fd, _REQ, _EVENTFD, 0, 1, struct.pack("=i", signal.fileno())))
    answers["numvfs_0_while_vf_in_use"] = _taken_away(lab, opened, signal)
    answers["vf_gone"] = not lab.seam.exists(f"{DEVICES}/{_VF}")


def _memory(opened: Opened, command: int) -> list[Any]:
    opened.set_config(regs.PCI_COMMAND, (command | regs.PCI_COMMAND_INTX_DISABLE).to_bytes(2, "little"))
    return [opened.config(regs.PCI_COMMAND, 2).hex(), attempt(lambda: opened.read(0, 0, 4).hex())]


def _taken_away(lab: Lab, opened: Opened, signal: EventFd) -> dict[str, Any]:
    writer = Blocked(lab.seam.machine.clock, partial(_numvfs, lab, "0"))
    found = {"req_fired": signal.read(), "done": [value for value, _ in writer.results]}
    opened.close()
    writer.settle()
    return {**found, "result": [value for value, _ in writer.results]}


def _under_vfio(lab: Lab, answers: Answers) -> None:
    """The physical function at vfio-pci, and the tokens of its virtual ones."""
    attempt(partial(lab.take, _PF))
    answers["pf_driver"] = lab.driver(_PF)
    answers.ask("pf_numvfs_without_enable_sriov", partial(_numvfs, lab, "1"))
    answers.ask("enable_sriov_param", partial(lab.text, _PARAMETER))
    answers.ask("set_param", lambda: lab.seam.write(_PARAMETER, "Y"))
    answers.ask("pf_numvfs_idle_with_enable_sriov", partial(_numvfs, lab, "1"))
    answers["vf_of_vfio_pf"] = {
        "name": lab.seam.link(f"{DEVICES}/{_PF}/virtfn0"),
        "driver": lab.driver(_VF),
        "override": attempt(partial(lab.text, f"{DEVICES}/{_VF}/driver_override")),
    }
    one = _Door(lab, _VF)
    answers.ask("vf_open_without_token", partial(one.open, None))
    answers.ask("vf_open_with_token_pf_closed", partial(one.open, _TOKEN))
    other = _Door(lab, _PF)
    fd = answers.ask("pf_open_without_token", partial(other.open, None))
    token = uuid.UUID(_TOKEN).bytes
    feature = bytearray(struct.pack("=II", 8 + len(token), _SET_TOKEN) + token)
    attempt(lambda: lab.host.ioctl(fd, vfio.VFIO_DEVICE_FEATURE, feature))
    answers.ask("pf_open_with_token", partial(other.open, _TOKEN))
    answers.ask("vf_open_wrong_token", partial(one.open, _OTHER))
    answers.ask("vf_open_right_token", partial(one.open, _TOKEN))
    one.close()
    other.close()
    answers.ask("numvfs_0", partial(_numvfs, lab, "0"))


class _Door:
    """The group of a function with a container, through which it can be opened again and again."""

    def __init__(self, lab: Lab, address: str) -> None:
        self.lab, self.address = lab, address
        self.fds: list[int] = []
        self.group = -1

        def prepare() -> None:
            self.group = lab.open_group(address)
            container = lab.open(CONTAINER)
            self.fds += [self.group, container]
            lab.set_container(self.group, container)
            lab.host.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU)

        attempt(prepare)

    def open(self, token: str | None) -> int:
        name = self.address if token is None else f"{self.address} vf_token={token}"
        fd = self.lab.seam.device_fd(self.group, name)
        self.fds.append(fd)
        return fd

    def close(self) -> None:
        self.lab.seam.close_all(reversed(self.fds))
