"""Ports and bridges beside what QEMU's look like to a real kernel, byte for byte.

``fixtures/golden/x86/ports.json`` is their configuration space after Linux had set it up, so what software writes is
left out of the comparison: everything that can be written here, and what depends on the machine.
"""

from __future__ import annotations

import json

import pytest

from pyvfio.abi import pci_bridge_regs as bridge
from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.express import Slot
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import PORTS
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort
from pyvfio_fixtures import golden

GOLDEN = json.loads(golden("x86/ports.json").read_text(encoding="utf-8"))
SLOTS = {"ioh3420": 1, "pcie-root-port": 3, "xio3130-downstream": 6}
DIFFERENT = {
    "pcie-pci-bridge": {
        regs.PCI_STATUS: 0xA0,  # 66 MHz and fast back-to-back, which PCI Express wires to 0
        bridge.PCI_SEC_STATUS: 0xA0,
        0x49: 0xFF,  # the last of the chain here: QEMU's goes on with a hot-plug controller (SHPC), not modelled
        **dict.fromkeys(range(0x40, 0x48), 0xFF),
    },
    "q35-host": dict.fromkeys(range(0x40, 0x100), 0xFF),  # the chipset's own registers, not modelled
    "pxb-pcie": {regs.PCI_STATUS: 0xA0},
}
"""Bits that are left out, by offset, and why."""


def _golden(name: str) -> bytes:
    return bytes.fromhex(GOLDEN["config"][name]).ljust(GOLDEN["size"][name], b"\0")


def _made(name: str) -> Function:
    function = PORTS[name](Slot(SLOTS[name])) if name in SLOTS else PORTS[name]()
    if isinstance(function, DownstreamPort):
        function.plug(PORTS["x3130-upstream"]())
        at = function.offset(regs.PCI_CAP_ID_EXP)
        assert at is not None
        function.config.write(at + express.PCI_EXP_SLTSTA, 2, 0xFFFF)
    if name in ("ioh3420", "pcie-root-port"):
        function.config.mark_multifunction()
    return function


@pytest.mark.parametrize("name", GOLDEN["config"])
def test_it_looks_like_qemus(name: str) -> None:
    function, theirs = _made(name), _golden(name)
    ours, writable = function.config.data, function.config.writable
    assert len(ours) == len(theirs)
    differing: dict[int, tuple[int, int]] = {}
    for at in range(len(ours)):
        care = 0xFF & ~(writable[at] if at < len(writable) else 0) & ~DIFFERENT.get(name, {}).get(at, 0)
        if (ours[at] ^ theirs[at]) & care:
            differing[at] = (ours[at], theirs[at])
    assert {hex(at): (hex(one), hex(two)) for at, (one, two) in differing.items()} == {}


@pytest.mark.parametrize("name", ["ioh3420", "pcie-root-port", "xio3130-downstream", "x3130-upstream"])
def test_what_linux_wrote_can_be_written(name: str) -> None:
    """The bits that Linux set in QEMU's stick here too, except those that depend on what it chose."""
    function, theirs = _made(name), _golden(name)
    config = function.config
    config.write(regs.PCI_COMMAND, 2, int.from_bytes(theirs[4:6], "little"))
    at = function.offset(regs.PCI_CAP_ID_EXP)
    assert at is not None
    for offset in (regs.PCI_EXP_DEVCTL, regs.PCI_EXP_DEVCTL2, express.PCI_EXP_SLTCTL, express.PCI_EXP_RTCTL):
        value = int.from_bytes(theirs[at + offset : at + offset + 2], "little")
        config.write(at + offset, 2, value)
        assert config.read(at + offset, 2) == value, hex(offset)
    assert config.command == int.from_bytes(theirs[4:6], "little")
