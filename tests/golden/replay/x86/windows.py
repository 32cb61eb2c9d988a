"""Replays of a function's regions and of its configuration space: ``regions``, ``config_virtualisation``."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from functools import partial
from typing import Any

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio

from .facts import Keys
from .lab import DEVICES, Answers, Lab, attempt
from .opened import REGION_SHIFT, Opened

__all__ = ["config_virtualisation", "regions"]

_BIG, _SMALL = 256, 8
_HEADER = 256
_COMMAND_ON = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER
_ROM, _VGA = vfio.VFIO_PCI_ROM_REGION_INDEX, vfio.VFIO_PCI_VGA_REGION_INDEX
_CONFIG = vfio.VFIO_PCI_CONFIG_REGION_INDEX
_BARS = (*range(regs.PCI_BASE_ADDRESS_0, regs.PCI_BASE_ADDRESS_5 + 4, 4), regs.PCI_ROM_ADDRESS)
#: The bytes of a capability that the recorder wrote, by its number.
_PROBED = {
    regs.PCI_CAP_ID_PM: range(2, 8),
    regs.PCI_CAP_ID_MSI: range(2, 14),
    regs.PCI_CAP_ID_EXP: range(2, 0x34),
    regs.PCI_CAP_ID_MSIX: range(2, 12),
}
_PROBED_EXTENDED = range(4, 0x20)
_COMMAND_BITS = 11
_D3HOT = 3


def regions(lab: Lab, questions: Keys) -> Answers:
    """Each function's regions and interrupts, and what reads, writes and mappings come to."""
    answers = Answers()
    for address, inner in questions.items():
        answers[address] = _regions(lab, address, inner or {})
    return answers


def _regions(lab: Lab, address: str, questions: Keys) -> Answers:
    answers = Answers()
    answers.ask("ids", partial(lab.text, f"{DEVICES}/{address}/device"))
    answers.ask("resource", lambda: lab.text(f"{DEVICES}/{address}/resource").split("\n"))
    try:
        lab.take(address)
        opened = Opened(lab, address)
    except OSError:
        return answers
    answers.ask("info", opened.info)
    for key, argsz in (("regions", None), ("regions_big_argsz", _BIG)):
        answers[key] = {index: attempt(partial(opened.region, int(index), argsz)) for index in questions.get(key) or {}}
    answers.ask("region_small_argsz", lambda: opened.region(0, _SMALL))
    answers["irqs"] = {index: attempt(partial(opened.irq, int(index))) for index in questions.get("irqs") or {}}
    answers.ask("irq_small_argsz", lambda: opened.irq(0, _SMALL))
    _accesses(opened, answers)
    opened.close()
    attempt(partial(lab.release, address))
    return answers


def _accesses(opened: Opened, answers: Answers) -> None:
    size = int(attempt(lambda: opened.region(0)["size"]))
    attempt(lambda: opened.set_config(regs.PCI_COMMAND, bytes(2)))
    answers.ask("bar0_read_memory_disabled", lambda: opened.read(0, 0, 4).hex())
    attempt(lambda: opened.set_config(regs.PCI_COMMAND, _COMMAND_ON.to_bytes(2, "little")))
    answers.ask("bar0_read_memory_enabled", lambda: opened.read(0, 0, 4).hex())
    answers.ask("bar0_read_past_end", lambda: opened.read(0, size, 4).hex())
    answers.ask("bar0_read_across_end", lambda: opened.read(0, size - 4, 8).hex())
    answers.ask("bar0_unaligned", lambda: opened.read(0, 1, 4).hex())
    answers.ask("bar0_write_ret", lambda: opened.write(0, 0, opened.read(0, 0, 4)))
    answers.ask("mmap_bar0", lambda: _map(opened, 0, mmap.PAGESIZE))
    answers.ask("mmap_bar0_private", lambda: _map(opened, 0, mmap.PAGESIZE, mmap.MAP_PRIVATE))
    answers.ask("mmap_bar0_too_big", lambda: _map(opened, 0, 2 * size))
    for index in (1, 3):
        answers.ask(f"mmap_bar{index}", lambda index=index: _map(opened, index, mmap.PAGESIZE))
    answers.ask("rom_read", lambda: opened.read(_ROM, 0, 4).hex())
    answers.ask("rom_write", lambda: opened.write(_ROM, 0, bytes(4)))
    answers.ask("vga_read", lambda: opened.read(_VGA, 0, 4).hex())


def _map(opened: Opened, region: int, length: int, flags: int = mmap.MAP_SHARED) -> str:
    opened.lab.host.mmap(opened.fd, length, flags, offset=region << REGION_SHIFT).close()
    return "ok"


def config_virtualisation(lab: Lab, questions: Keys) -> Answers:
    """Each function's configuration space, byte by byte, through vfio-pci and through sysfs."""
    answers = Answers()
    for address, inner in questions.items():
        answers[address] = _config(lab, address, inner or {})
    return answers


def _config(lab: Lab, address: str, questions: Keys) -> Answers:
    answers = Answers()
    answers.ask("ids", lambda: [lab.text(f"{DEVICES}/{address}/{name}") for name in ("vendor", "device")])
    try:
        lab.take(address)
        opened = Opened(lab, address)
    except OSError:
        return answers
    size = answers.ask("config_size", lambda: opened.region(_CONFIG)["size"])
    answers.ask("sysfs_config_size", lambda: lab.host.stat(f"{DEVICES}/{address}/config").st_size)
    virtual = b"".join(opened.config(at, 4) for at in range(0, size, 4))
    physical = opened.physical(0, size)
    for name, data in (("virt", virtual), ("phys", physical)):
        answers[f"{name}_hex"] = data[:_HEADER].hex()
        answers[f"{name}_ext_hex"] = data[_HEADER:].hex().rstrip("0")
        answers[f"caps_{name}"] = [[hex(at), hex(number)] for at, number in _conventional(data)]
        answers[f"extcaps_{name}"] = [[hex(at), hex(number), version] for at, number, version in _extended(data)]
    pairs = enumerate(zip(virtual, physical, strict=False))
    answers["differs_at"] = {hex(at): [f"{one:02x}", f"{other:02x}"] for at, (one, other) in pairs if one != other}
    answers.ask("bar_sizing", lambda: {hex(offset): _sized(opened, offset) for offset in _BARS})
    answers.ask("writable", lambda: _writable(opened, virtual))
    answers["read_len"] = {key: attempt(partial(_length, opened, key)) for key in questions.get("read_len") or {}}
    answers.ask("command_bits_virt_phys", lambda: _command(opened))
    answers.ask("status_write_ff", lambda: _status(opened))
    line = regs.PCI_INTERRUPT_LINE
    answers.ask("interrupt_pin_line", lambda: [opened.config(line, 2).hex(), opened.physical(line, 2).hex()])
    _power(opened, virtual, answers)
    answers.ask("mmap_config", lambda: _map(opened, _CONFIG, mmap.PAGESIZE))
    opened.close()
    attempt(partial(lab.release, address))
    return answers


def _conventional(data: bytes) -> Iterator[tuple[int, int]]:
    at = data[regs.PCI_CAPABILITY_LIST]
    for _ in range(_HEADER):
        if not at:
            return
        yield at, data[at]
        at = data[at + 1]


def _extended(data: bytes) -> Iterator[tuple[int, int, int]]:
    at = _HEADER
    while at and at + 4 <= len(data):
        head = int.from_bytes(data[at : at + 4], "little")
        if not head:
            return
        yield at, head & 0xFFFF, head >> 16 & 0xF
        at = head >> 20


def _sized(opened: Opened, offset: int) -> dict[str, str]:
    found = {"initial": opened.config(offset, 4).hex()}
    for name, value in (("ones", b"\xff" * 4), ("zeros", bytes(4)), ("restored", bytes.fromhex(found["initial"]))):
        opened.set_config(offset, value)
        found[name] = opened.config(offset, 4).hex()
    return found | {"phys_now": opened.physical(offset, 4).hex()}


def _writable(opened: Opened, space: bytes) -> dict[str, dict[str, str]]:
    """Which bits take what is written, of every byte that the recorder wrote."""
    probed = set(range(regs.PCI_STD_HEADER_SIZEOF)) - {regs.PCI_COMMAND, regs.PCI_COMMAND + 1}
    for at, number in _conventional(space):
        probed |= {at + offset for offset in _PROBED[number] if at + offset < _HEADER}
        if number == regs.PCI_CAP_ID_PM:
            probed -= {at + regs.PCI_PM_CTRL}
        if number == regs.PCI_CAP_ID_EXP:
            probed -= {at + regs.PCI_EXP_DEVCTL, at + regs.PCI_EXP_DEVCTL + 1}
    for at, _, _ in _extended(space):
        probed |= {at + offset for offset in _PROBED_EXTENDED}
    found: dict[str, dict[str, str]] = {}
    for offset in sorted(probed):
        initial = opened.config(offset, 1)
        seen = []
        for value in (b"\xff", b"\0"):
            opened.set_config(offset, value)
            seen.append((opened.config(offset, 1)[0], opened.physical(offset, 1)[0]))
        opened.set_config(offset, initial)
        virtual, physical = (one ^ other for one, other in zip(*seen, strict=True))
        if virtual or physical:
            found[hex(offset)] = {"virt_rw": hex(virtual), "phys_rw": hex(physical), "initial": initial.hex()}
    return found


def _command(opened: Opened) -> dict[str, list[str]]:
    found = {}
    for bit in range(_COMMAND_BITS):
        opened.set_config(regs.PCI_COMMAND, (1 << bit).to_bytes(2, "little"))
        found[str(bit)] = [opened.config(regs.PCI_COMMAND, 2).hex(), opened.physical(regs.PCI_COMMAND, 2).hex()]
    return found


def _status(opened: Opened) -> list[Any]:
    return [opened.set_config(regs.PCI_STATUS, b"\xff\xff"), opened.config(regs.PCI_STATUS, 2).hex()]


def _power(opened: Opened, space: bytes, answers: Answers) -> None:
    """D3hot and back, of a function with power management."""
    at = next((at for at, number in _conventional(space) if number == regs.PCI_CAP_ID_PM), None)
    if at is None:
        return
    control, state = at + regs.PCI_PM_CTRL, f"{DEVICES}/{opened.address}/power_state"

    def down() -> list[Any]:
        opened.set_config(control, _D3HOT.to_bytes(2, "little"))
        return [
            opened.config(control, 2).hex(),
            opened.lab.text(state),
            opened.config(0, 4).hex(),
            attempt(lambda: opened.read(0, 0, 4).hex()),
        ]

    def up() -> str:
        opened.set_config(control, bytes(2))
        return opened.config(control, 2).hex()

    answers.ask("pm_d3hot", down)
    answers.ask("pm_d0", up)


def _length(opened: Opened, key: str) -> str:
    position, count = map(int, key.strip("()").split(","))
    return opened.config(position, count).hex()
