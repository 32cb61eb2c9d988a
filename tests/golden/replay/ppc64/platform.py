"""Replay of ``platform``: what the machine is, and what sysfs, debugfs and procfs show of its host bridges."""

from __future__ import annotations

from functools import partial
from typing import Any

from replay.x86.facts import Keys
from replay.x86.lab import DEVICES, GROUPS, Answers, attempt
from replay.x86.trees import slots

from .lab import PowerLab

__all__ = ["platform"]

_DEBUG = "/sys/kernel/debug/powerpc"
_RESOURCES = 7
_EEH = ("eeh_mode", "eeh_pe_config_addr", "eeh_pe_state")


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


def _function(lab: PowerLab, address: str) -> Answers:
    path = f"{DEVICES}/{address}"
    answers = Answers()
    answers.ask("path", lambda: lab.host.readlink(path).split("/devices/")[1])
    answers.ask("class", partial(lab.text, f"{path}/class"))
    answers.ask("id", lambda: lab.text(f"{path}/vendor") + lab.text(f"{path}/device"))
    answers["group"] = lab.group(address)
    answers["driver"] = lab.driver(address)
    answers["eeh"] = {name: attempt(partial(lab.text, f"{path}/{name}")) for name in _EEH}
    answers.ask("devspec", partial(lab.text, f"{path}/devspec"))
    answers.ask("resource", lambda: lab.text(f"{path}/resource").split("\n")[:_RESOURCES])
    answers["entries"] = lab.seam.listing(path)
    return answers


def _group(lab: PowerLab, number: str) -> Answers:
    path = f"{GROUPS}/{number}"
    answers = Answers(devices=lab.members(number))
    for name in ("name", "type", "reserved_regions"):
        answers.ask(name, partial(lab.text, f"{path}/{name}"))
    return answers


def platform(lab: PowerLab, questions: Keys) -> Answers:
    """All of it, as after boot."""
    answers = Answers()
    answers.ask("machine", lambda: lab.seam.read("/proc/device-tree/model").decode())
    answers.ask("cpuinfo", lambda: _lines(lab.text("/proc/cpuinfo")))
    answers["debugfs"] = lab.seam.listing(_DEBUG)
    answers["eeh_files"] = {
        name: attempt(partial(lab.text, f"{_DEBUG}/{name}")) for name in questions.get("eeh_files") or {}
    }
    answers.ask("proc_eeh", partial(lab.text, "/proc/powerpc/eeh"))
    bridges = [name for name in lab.seam.listing(_DEBUG) if name.startswith("PCI")]
    answers["phb_debugfs"] = {name: lab.seam.listing(f"{_DEBUG}/{name}") for name in bridges}
    answers["dmesg"] = _said(lab)
    answers["groups"] = {number: _group(lab, number) for number in lab.seam.listing(GROUPS)}
    answers["slots"] = slots(lab)
    for address in lab.seam.listing(DEVICES):
        answers[address] = _function(lab, address)
    return answers


def _said(lab: PowerLab) -> Any:
    """The kernel's log since boot."""
    from pyvfio_backends.software.linux.kernel_log import kernel_log

    return list(kernel_log(lab.seam.machine.kernel).lines)
