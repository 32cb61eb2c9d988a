"""Configuration space against a reference of masks: every register of every capability, written at random."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.abi import pci_bridge_regs as bridge
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import AcsBits, ExpressType
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pci.register import Capability, Register
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.capabilities import (
    Msi,
    Msix,
    PowerManagement,
    SubsystemId,
    VendorSpecific,
    VitalProductData,
)
from pyvfio_backends.software.hardware.pcie.dpc import Dpc
from pyvfio_backends.software.hardware.pcie.express import Express, Slot
from pyvfio_backends.software.hardware.pcie.extended import (
    Acs,
    Ari,
    Ats,
    DesignatedVendor,
    Ltr,
    Pasid,
    SerialNumber,
    Vc,
    VendorSpecificExtended,
)
from pyvfio_backends.software.hardware.pcie.sriov import Sriov, VfBar

IDENTITY = Identity(0x1234, 0x5678, 0x1111, 0x2222, 0x020000, 3)
PME = regs.PCI_PM_CAP_PME_D3cold | regs.PCI_PM_CAP_PME_D0
CAPABILITIES: list[Capability] = [
    PowerManagement(pme=PME, d1=True),
    Msi(32, maskable=True),
    Msi(1, wide=False),
    Msix(65, 0, 0x2000, pending_offset=0x3000),
    SubsystemId(0x8086, 1),
    VitalProductData(),
    VendorSpecific(b"\x01abcdef", b"\0\xff"),
    *(Express(kind, slot=Slot(5), ari=True, ltr=True, flr=True) for kind in ExpressType),
    Express(ExpressType.ENDPOINT, version=1),
    Aer(),
    Aer(root=True, irq=3, multiple=True),
    Acs(),
    Acs(AcsBits.EC | AcsBits.SV, egress_ports=40),
    Ari(3),
    Ats(),
    Pasid(execute=True, privileged=True),
    SerialNumber(0x0123456789ABCDEF),
    Vc(),
    VendorSpecificExtended(7, b"12345678", 1, b"\xf0\x0f"),
    DesignatedVendor(0x1E98, 3, b"123456", 2, b"\xff"),
    Ltr(),
    Dpc(),
    Sriov(8, 0x10CA, 128, 2, [VfBar(0, 0x4000, 0xC), VfBar(3, 0x4000, 0)]),
]


class Reference:
    """What the declaration says, bit by bit and slowly."""

    def __init__(self, config: ConfigSpace, base: int, registers: list[Register]) -> None:
        self.bits = {at: bytearray([value]) for at, value in enumerate(config.data)}
        self.rules: dict[tuple[int, int], str] = {}
        for register in registers:
            for number in range(register.width * 8):
                place = (base + register.offset + number // 8, number % 8)
                if register.rw >> number & 1:
                    self.rules[place] = "rw"
                elif register.w1c >> number & 1:
                    self.rules[place] = "w1c"

    def takes(self, offset: int, length: int) -> bool:
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        for number in range(length * 8):
            at, bit = offset + number // 8, number % 8
            rule = self.rules.get((at, bit))
            given = value >> number & 1
            cell = self.bits[at]
            if rule == "rw":
                cell[0] = cell[0] & ~(1 << bit) | given << bit
            elif rule == "w1c" and given:
                cell[0] &= ~(1 << bit)


ACCESSES = st.lists(
    st.tuples(st.integers(0, 0x4F), st.sampled_from([1, 2, 4]), st.integers(0, 0xFFFFFFFF), st.booleans()), max_size=40
)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda one: type(one).__name__)
@settings(max_examples=12, deadline=None)
@given(accesses=ACCESSES, dirt=st.binary(min_size=16, max_size=16))
def test_a_write_does_what_the_masks_say(
    capability: Capability, accesses: list[tuple[int, int, int, bool]], dirt: bytes
) -> None:
    config = ConfigSpace(IDENTITY)
    at = config.add(capability)
    registers = list(capability.registers())
    for register, byte in zip(registers, dirt, strict=False):  # as the hardware would set status bits
        if register.w1c:
            value = config.read(at + register.offset, register.width)
            config.put(at + register.offset, register.width, value | register.w1c & byte * 0x01010101)
    reference = Reference(config, at, registers)
    for offset, length, value, _ in accesses:
        offset = at + offset % capability.size // length * length
        if offset + length <= len(config.data):
            value &= (1 << 8 * length) - 1
            config.write(offset, length, value)
            reference.write(offset, length, value)
    assert bytes(config.data) == b"".join(bytes(reference.bits[at]) for at in range(len(config.data)))


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda one: type(one).__name__)
def test_a_declaration_is_sound(capability: Capability) -> None:
    """Registers do not overlap, masks fit their register, no bit is both RW and RW1C, a reset value is inside."""
    taken: set[int] = set()
    for register in capability.registers():
        places = set(range(register.offset, register.offset + register.width))
        assert register.offset >= capability.header_size
        assert not places & taken
        taken |= places
        every = (1 << 8 * register.width) - 1
        for mask in (register.rw, register.w1c, register.sticky, register.reset):
            assert 0 <= mask <= every
        assert not register.rw & register.w1c
    assert max(taken) < capability.size


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda one: type(one).__name__)
def test_a_reset_keeps_sticky_bits_and_loss_of_power_none(capability: Capability) -> None:
    config = ConfigSpace(IDENTITY)
    at = config.add(capability)
    config.seal()
    start = bytes(config.data)
    for register in capability.registers():
        config.put(at + register.offset, register.width, (1 << 8 * register.width) - 1)
    config.reset()
    for register in capability.registers():
        assert config.read(at + register.offset, register.width) == register.reset | register.sticky
    config.reset(cold=True)
    assert bytes(config.data) == start


def test_a_watcher_learns_what_was_there_and_which_ones_were_written() -> None:
    config = ConfigSpace(IDENTITY)
    at = config.add(PowerManagement())
    told: list[tuple[int, int]] = []
    config.watch(at + regs.PCI_PM_CTRL, 2, lambda before, ones: told.append((before, ones)))
    config.write(at + regs.PCI_PM_CTRL, 2, 3)
    config.write(at + regs.PCI_PM_CTRL + 1, 1, 0x81)
    config.write(at + regs.PCI_PM_PMC, 4, 0x12345678)
    config.write(at + 8, 4, 0xFFFFFFFF)
    assert told == [(8, 3), (0xB, 0x8100), (0xB, 0x1234)]


def test_conventional_capabilities_come_last_first_and_extended_ones_in_order() -> None:
    config = ConfigSpace(IDENTITY)
    first, second = config.add(PowerManagement()), config.add(Msi())
    assert config.data[regs.PCI_CAPABILITY_LIST] == second
    assert config.data[second + 1] == first
    assert config.data[first + 1] == 0
    one, two, three = config.add(Aer()), config.add(Acs()), config.add(SerialNumber(1), 0x200)
    assert (one, two, three) == (0x100, 0x148, 0x200)
    assert regs.pci_ext_cap_next(config.read(one, 4)) == two
    assert regs.pci_ext_cap_next(config.read(two, 4)) == three
    assert config.read(one, 4) & 0xFFFFF == extended.PCI_EXT_CAP_ID_ERR | 2 << 16
    assert len(config.data) == regs.PCI_CFG_SPACE_EXP_SIZE


@pytest.mark.parametrize(
    ("capability", "at"), [(Msi(), 0x3C), (Msi(), 0x42), (Msi(), 0xFC), (Msi(), 0x44), (Aer(), 0x104), (Aer(), 0xFC0)]
)
def test_no_room_is_said(capability: Capability, at: int) -> None:
    config = ConfigSpace(IDENTITY)
    config.add(PowerManagement())
    config.add(Acs())
    with pytest.raises(Misuse, match="no room"):
        config.add(capability, at)


def test_a_bridge_has_windows_that_can_be_written_and_no_subsystem() -> None:
    config = ConfigSpace(Identity(0x8086, 0x3420, class_code=0x060400), bridge=True)
    assert config.is_bridge
    for offset, length, reads in (
        (bridge.PCI_PRIMARY_BUS, 4, 0x00FFFFFF),
        (bridge.PCI_IO_BASE, 2, 0xF0F0),
        (bridge.PCI_MEMORY_BASE, 4, 0xFFF0FFF0),
        (bridge.PCI_PREF_MEMORY_BASE, 4, 0xFFF1FFF1),
        (bridge.PCI_PREF_BASE_UPPER32, 4, 0xFFFFFFFF),
        (bridge.PCI_PREF_LIMIT_UPPER32, 4, 0xFFFFFFFF),
        (bridge.PCI_IO_BASE_UPPER16, 4, 0),
        (bridge.PCI_BRIDGE_CONTROL, 2, 0x4F),
    ):
        config.write(offset, length, (1 << 8 * length) - 1)
        assert config.read(offset, length) == reads
