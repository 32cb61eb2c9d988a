"""Replays of what sysfs shows of functions, groups and slots: ``sysfs_topology``, ``iommu_groups``."""

from __future__ import annotations

import stat
from functools import partial
from typing import Any

from pyvfio.abi import pci_regs as regs

from .facts import Keys
from .lab import DEVICES, GROUPS, SLOTS, Answers, Lab, attempt

__all__ = ["iommu_groups", "slots", "sysfs_topology"]

_HEADER = 256
_EXTENDED_SHOWN = "extcfg_hex"
_NEXT_SHIFT = 20
_LINKS = ("driver", "iommu_group", "iommu")
_TEXTS = 4096


def slots(lab: Lab) -> dict[str, dict[str, Any]]:
    """Every slot with the attributes it has."""
    found: dict[str, dict[str, Any]] = {}
    for slot in lab.seam.listing(SLOTS):
        names = [name for name in lab.seam.listing(f"{SLOTS}/{slot}") if name not in ("module", "driver", "reset")]
        found[slot] = {name: attempt(partial(lab.text, f"{SLOTS}/{slot}/{name}")) for name in names}
    return found


def extended_capability(config: bytes, capability: int) -> int:
    """Where an extended capability is, 0 if there is none."""
    at = _HEADER
    while at and at + 4 <= len(config):
        head = int.from_bytes(config[at : at + 4], "little")
        if head & 0xFFFF == capability:
            return at
        at = head >> _NEXT_SHIFT
    return 0


def _acs(lab: Lab, address: str) -> dict[str, str] | None:
    config = lab.seam.read(f"{DEVICES}/{address}/config", 1 << 12)
    at = extended_capability(config, regs.PCI_EXT_CAP_ID_ACS)
    if not at:
        return None
    word = {name: config[at + offset : at + offset + 2] for name, offset in (("cap", 4), ("ctl", 6))}
    return {name: hex(int.from_bytes(data, "little")) for name, data in word.items()}


def _acs_of(lab: Lab, members: list[str]) -> dict[str, Any]:
    return {name: acs for name in members if (acs := _acs(lab, name))}


def _lines(lab: Lab, path: str) -> list[str]:
    return lab.text(path).split("\n")


def iommu_groups(lab: Lab, questions: Keys) -> Answers:
    """Each group's files, each slot, each IOMMU's functions."""
    answers = Answers()
    for number in sorted(map(int, lab.seam.listing(GROUPS))):
        path = f"{GROUPS}/{number}"
        members = lab.members(str(number))
        one = Answers()
        one["devices"] = members
        one.ask("type", partial(lab.text, f"{path}/type"))
        one.ask("reserved_regions", partial(_lines, lab, f"{path}/reserved_regions"))
        one["entries"] = lab.seam.listing(path)
        one.ask("acs", partial(_acs_of, lab, members))
        answers[str(number)] = one
    answers["slots"] = slots(lab)
    answers["iommu_class"] = {
        name: lab.seam.listing(f"/sys/class/iommu/{name}/devices") for name in lab.seam.listing("/sys/class/iommu")
    }
    return answers


def _function(lab: Lab, address: str, questions: Keys) -> Answers:
    path = f"{DEVICES}/{address}"
    answers = Answers()
    for key in questions:
        if key in _LINKS:
            answers[key] = lab.seam.link(f"{path}/{key}")
        elif key == "path":
            answers.ask(key, lambda: lab.host.readlink(path).split("/devices/")[1])
        elif key == "entries":
            answers[key] = lab.seam.listing(path)
        elif key == "modes":
            answers[key] = {
                name: lab.mode(f"{path}/{name}")
                for name in lab.seam.listing(path)
                if stat.S_ISREG(lab.host.lstat(f"{path}/{name}").st_mode)
            }
        elif key in ("config_len", "config_hex", _EXTENDED_SHOWN):
            config = lab.seam.read(f"{path}/config", _TEXTS)
            answers[key] = {
                "config_len": len(config),
                "config_hex": config[:_HEADER].hex(),
                _EXTENDED_SHOWN: config[_HEADER:].hex().rstrip("0"),  # as the recorder cut it
            }[key]
        else:
            answers.ask(key, partial(lab.text, f"{path}/{key}"))
    return answers


def sysfs_topology(lab: Lab, questions: Keys) -> Answers:
    """Each function's directory, as after boot."""
    answers = Answers()
    for address in lab.seam.listing(DEVICES):
        answers[address] = _function(lab, address, questions.get(address) or {})
    return answers
