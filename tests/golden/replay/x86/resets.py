"""Replay of ``resets``: what resets a function, and what is left of its registers."""

from __future__ import annotations

import ctypes
import struct
from functools import partial
from typing import Any

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio
from pyvfio.abi.layout import native_struct

from .facts import Keys
from .lab import DEVICES, Answers, Lab, attempt
from .opened import Opened

__all__ = ["resets"]

_HEAD = native_struct(vfio.PciHotReset)
_DEVICE = ctypes.sizeof(vfio.PciDependentDevice)
_SMALL = 8
_ROOM = 8
_LINE = 0x77
_COMMAND = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_INTX_DISABLE
_IDLE = 3.0


def resets(lab: Lab, questions: Keys) -> Answers:
    """Each function in turn."""
    answers = Answers()
    for address in questions:
        answers[address] = _function(lab, address)
    return answers


def _function(lab: Lab, address: str) -> Answers:
    answers, path = Answers(), f"{DEVICES}/{address}"
    answers.ask("id", partial(lab.text, f"{path}/device"))
    answers["group_members"] = lab.members(lab.group(address))
    answers.ask("reset_method", partial(lab.text, f"{path}/reset_method"))
    try:
        lab.take(address)
        opened = Opened(lab, address)
    except OSError as error:
        answers["setup"] = repr(error)
        return answers
    answers.ask("flags", lambda: opened.info()["flags"])
    answers.ask("hot_reset_info", lambda: _info(opened))
    answers.ask("hot_reset_info_no_room", lambda: _info(opened, _HEAD.size))
    answers["hot_reset_info_argsz12"] = _info_buffer(opened)
    opened.set_config(regs.PCI_COMMAND, _COMMAND.to_bytes(2, "little"))
    opened.set_config(regs.PCI_INTERRUPT_LINE, bytes([_LINE]))
    answers.ask("hot_reset_no_fds", lambda: _hot_reset(opened))
    answers.ask("hot_reset_bad_fd", lambda: _hot_reset(opened, opened.container))
    answers.ask("hot_reset_small_argsz", lambda: _hot_reset(opened, opened.group, argsz=_SMALL))
    before = lab.seam.machine.clock.now
    answers.ask("hot_reset", lambda: _hot_reset(opened, opened.group))
    answers["hot_reset_s"] = lab.seam.machine.clock.now - before
    answers.ask("hot_reset_dup_fd", lambda: _hot_reset(opened, opened.group, opened.group))
    before = lab.seam.machine.clock.now
    answers.ask("device_reset", opened.reset)
    answers["device_reset_s"] = lab.seam.machine.clock.now - before
    command = regs.PCI_COMMAND
    answers.ask(
        "command_after_reset_virt_phys",
        lambda: [opened.config(command, 2).hex(), opened.physical(command, 2).hex()],
    )
    answers.ask("irq_line_after_reset", lambda: opened.config(regs.PCI_INTERRUPT_LINE, 1).hex())
    answers.ask("sysfs_reset_while_open", lambda: lab.seam.write(f"{path}/reset", "1"))
    opened.close()
    answers.ask("command_after_close", lambda: opened.physical(command, 2).hex())
    lab.wait(_IDLE)
    answers.ask("power_state_idle", partial(lab.text, f"{path}/power_state"))
    return answers


def _info(opened: Opened, argsz: int = 0) -> dict[str, Any]:
    """``VFIO_DEVICE_GET_PCI_HOT_RESET_INFO``."""
    room = bytearray(_HEAD.size + _ROOM * _DEVICE)
    struct.pack_into("=I", room, 0, argsz or len(room))
    opened.lab.host.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, room)
    _, flags, count = _HEAD.unpack_from(room)
    found = (vfio.PciDependentDevice * count).from_buffer_copy(room, _HEAD.size)
    return {
        "flags": flags,
        "devices": [
            {"group_or_devid": one.group_id, "segment": one.segment, "bus": one.bus, "devfn": one.devfn}
            for one in found
        ],
    }


def _info_buffer(opened: Opened) -> list[Any]:
    """The same without room for a device: what it comes to and what is in the buffer."""
    room = bytearray(_HEAD.pack(_HEAD.size, 0, 0))
    code = vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO
    result = attempt(lambda: opened.lab.host.ioctl(opened.fd, code, room))
    return [result, list(_HEAD.unpack(room))]


def _hot_reset(opened: Opened, *fds: int, argsz: int = 0) -> int:
    """``VFIO_DEVICE_PCI_HOT_RESET``."""
    data = struct.pack(f"={len(fds)}i", *fds)
    room = bytearray(_HEAD.pack(argsz or _HEAD.size + len(data), 0, len(fds)) + data)
    return opened.lab.host.ioctl(opened.fd, vfio.VFIO_DEVICE_PCI_HOT_RESET, room)
