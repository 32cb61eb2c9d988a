"""What a program can do to each capability through vfio-pci (``drivers/vfio/pci/vfio_pci_config.c``, 6.12)."""

from __future__ import annotations

import errno

import pytest
from config_card import Card, conventional, extended

from pyvfio.abi import pci_bridge_regs as bridge
from pyvfio.abi import pci_capability_regs as capability_regs
from pyvfio.abi import pci_extended_regs as extended_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pci.register import Capability
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.capabilities import (
    Msi,
    Msix,
    PowerManagement,
    SubsystemId,
    VendorSpecific,
)
from pyvfio_backends.software.hardware.pcie.dpc import Dpc
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.extended import (
    Acs,
    Ats,
    DesignatedVendor,
    Ltr,
    Pasid,
    SerialNumber,
    Vc,
    VendorSpecificExtended,
)
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.sriov import Sriov
from pyvfio_backends.software.hardware.pcie.vpd import ProductData, product_data
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag
from pyvfio_backends.software.linux.vfio_pci_config import VirtualConfig

IDENTITY = Identity(0x1234, 0x5678, 0x1111, 0x2222, 0x020000)
EXPRESS = Express(ExpressType.ENDPOINT, flr=True)
FLR = regs.PCI_EXP_DEVCTL_BCR_FLR


def card(*capabilities: Capability, writable: bool = False) -> Card:
    """A function with these capabilities, the last one first in the chain; with all bits `writable` if wanted."""
    config = ConfigSpace(IDENTITY, interrupt_pin=1)
    for capability in capabilities:
        config.add(capability)
    if any(isinstance(one, Express) for one in capabilities):
        config.extend()
    if writable:
        config.writable[:] = b"\xff" * len(config.data)
        config.clearable[:] = bytes(len(config.clearable))
    return Card(config)


def word(data: bytes) -> int:
    return int.from_bytes(data, "little")


# PCI Express


@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_reset_bit_resets_and_reads_zero(width: int) -> None:
    device = card(EXPRESS)
    view, control = device.open(), device.find_capability(regs.PCI_CAP_ID_EXP) + regs.PCI_EXP_DEVCTL
    at = control + 1 if width == 1 else control
    view.write((FLR >> 8 * (at - control)).to_bytes(width, "little"), at)
    assert device.resets == 1
    assert not word(view.read(2, control)) & FLR
    assert all(not value & FLR for _, _, value in device.stores)


def test_a_function_without_function_level_reset_is_not_reset() -> None:
    device = card(Express(ExpressType.ENDPOINT))
    view, control = device.open(), device.find_capability(regs.PCI_CAP_ID_EXP) + regs.PCI_EXP_DEVCTL
    view.write(FLR.to_bytes(2, "little"), control)
    assert (device.resets, word(view.read(2, control)) & FLR) == (0, 0)


def test_a_reset_that_fails_is_not_told() -> None:
    device = card(EXPRESS)
    view, control = device.open(), device.find_capability(regs.PCI_CAP_ID_EXP) + regs.PCI_EXP_DEVCTL

    def refuse() -> None:
        raise OSError(errno.EAGAIN, "held")

    device.try_reset = refuse  # type: ignore[method-assign]
    assert view.write(FLR.to_bytes(2, "little"), control) == 2


@pytest.mark.parametrize(
    ("payload", "asked", "real"),
    [(0x00, 0x5000, 0x5000), (0x40, 0x0000, 0x2000), (0x40, 0x4000, 0x4000), (0x00, 0x6000, 0x1000)],
)
def test_the_read_request_size_is_not_below_the_payload_size(payload: int, asked: int, real: int) -> None:
    device = card(EXPRESS, writable=True)
    control = device.find_capability(regs.PCI_CAP_ID_EXP) + regs.PCI_EXP_DEVCTL
    device.config.put(control, 2, payload | 0x1000)
    view = device.open()
    view.write(asked.to_bytes(2, "little"), control)
    assert word(view.read(2, control)) & regs.PCI_EXP_DEVCTL_READRQ == asked
    assert device.config.read(control, 2) & (regs.PCI_EXP_DEVCTL_READRQ | regs.PCI_EXP_DEVCTL_PAYLOAD) == real | payload


def test_payload_phantom_functions_and_ari_are_the_kernels() -> None:
    device = card(EXPRESS, writable=True)
    at = device.find_capability(regs.PCI_CAP_ID_EXP)
    device.config.put(at + regs.PCI_EXP_DEVCTL, 2, 0)
    device.config.put(at + regs.PCI_EXP_DEVCTL2, 2, 0)
    view = device.open()
    view.write(b"\xff\x0f", at + regs.PCI_EXP_DEVCTL)
    view.write(b"\xff\xff", at + regs.PCI_EXP_DEVCTL2)
    kept = regs.PCI_EXP_DEVCTL_PAYLOAD | regs.PCI_EXP_DEVCTL_PHANTOM
    assert device.config.read(at + regs.PCI_EXP_DEVCTL, 2) == 0x0FFF & ~kept
    assert word(view.read(2, at + regs.PCI_EXP_DEVCTL)) == 0x0FFF & ~regs.PCI_EXP_DEVCTL_PHANTOM
    assert device.config.read(at + regs.PCI_EXP_DEVCTL2, 2) == 0xFFFF & ~regs.PCI_EXP_DEVCTL2_ARI


@pytest.mark.parametrize(
    ("kind", "version", "length"),
    [(ExpressType.ENDPOINT, 1, 20), (ExpressType.ENDPOINT, 2, 52), (ExpressType.RC_END, 1, 12),
     (ExpressType.RC_END, 2, 44)],
)  # fmt: skip
def test_what_follows_the_capability_is_raw(kind: ExpressType, version: int, length: int) -> None:
    device = card(Express(kind, version=version), writable=True)
    at = device.find_capability(regs.PCI_CAP_ID_EXP)
    view = device.open()
    before = view.read(1, at + length - 1)
    view.write(b"\x5a\xa5", at + length - 1)
    assert view.read(2, at + length - 1) == before + b"\xa5"


# advanced features, vital product data, power, MSI


@pytest.mark.parametrize(("able", "resets"), [(0, 0), (1, 0), (2, 0), (3, 1)])
def test_advanced_features(able: int, resets: int) -> None:
    config = ConfigSpace(IDENTITY)
    config.add_capability(0x40, regs.PCI_CAP_ID_AF, bytes([6, able, 0, 0]))
    device = Card(config)
    view, control = device.open(), 0x40 + capability_regs.PCI_AF_CTRL
    view.write(b"\xff\xff", control)
    assert (device.resets, view.read(2, control), device.stores) == (resets, b"\0\0", [])


def product(*, read_only: bool = True, data: bytes | None = None) -> tuple[Card, ProductData]:
    function = Function(ConfigSpace(IDENTITY))
    behind = product_data("card", {"PN": "abc"}) if data is None else data
    found = ProductData(function, behind, read_only=read_only)
    return Card(function.config), found


def vpd_read(view: VirtualConfig, at: int, address: int) -> tuple[int, bytes]:
    view.write(address.to_bytes(2, "little"), at + bridge.PCI_VPD_ADDR)
    flag = word(view.read(2, at + bridge.PCI_VPD_ADDR)) & bridge.PCI_VPD_ADDR_F
    return flag, view.read(4, at + bridge.PCI_VPD_DATA)


def test_vital_product_data_is_read_through_the_kernel() -> None:
    device, behind = product()
    view = device.open()
    length = len(behind.data)
    got = b"".join(vpd_read(view, behind.offset, address)[1] for address in range(0, length, 4))
    assert got[:length] == bytes(behind.data)
    assert vpd_read(view, behind.offset, 0)[0]
    assert vpd_read(view, behind.offset, 0x400) == (bridge.PCI_VPD_ADDR_F, bytes(4))  # past the end tag


def test_vital_product_data_is_written_through_the_kernel() -> None:
    device, behind = product(read_only=False)
    view, at = device.open(), behind.offset
    device.vpd.read(0, 1)
    view.write(b"CARD", at + bridge.PCI_VPD_DATA)
    assert bytes(behind.data[4:8]) != b"CARD"
    view.write((4 | bridge.PCI_VPD_ADDR_F).to_bytes(2, "little"), at + bridge.PCI_VPD_ADDR)
    assert (bytes(behind.data[4:8]), word(view.read(2, at + bridge.PCI_VPD_ADDR))) == (b"CARD", 4)


def test_a_write_past_the_end_never_completes() -> None:
    device, behind = product(read_only=False)
    view, at = device.open(), behind.offset + bridge.PCI_VPD_ADDR
    before = bytes(behind.data)
    address = 0x400 | bridge.PCI_VPD_ADDR_F
    view.write(address.to_bytes(2, "little"), at)
    assert (word(view.read(2, at)), bytes(behind.data)) == (address, before)


def test_only_the_byte_with_the_flag_starts_anything() -> None:
    device, behind = product()
    view, at = device.open(), behind.offset + bridge.PCI_VPD_ADDR
    view.write(b"\0", at)
    assert (device.stores, view.read(2, at)) == ([], b"\0\0")
    view.write(b"\0", at + 1)
    assert view.read(2, at) == b"\0\x80"


def test_an_empty_memory_is_no_vital_product_data() -> None:
    device, behind = product(data=b"\xff" * 64)
    view = device.open()
    assert vpd_read(view, behind.offset, 0) == (0, bytes(4))
    assert not device.vpd.exists


def test_a_program_sees_no_power_management_events() -> None:
    device = card(PowerManagement(pme=regs.PCI_PM_CAP_PME_MASK, data_select=True))
    at = device.find_capability(regs.PCI_CAP_ID_PM)
    device.config.put(at + regs.PCI_PM_CTRL, 2, regs.PCI_PM_CTRL_PME_ENABLE | regs.PCI_PM_CTRL_NO_SOFT_RESET)
    view = device.open()
    assert not word(view.read(2, at + regs.PCI_PM_PMC)) & regs.PCI_PM_CAP_PME_MASK
    view.write(b"\0\xff", at + regs.PCI_PM_CTRL)
    assert word(view.read(2, at + regs.PCI_PM_CTRL)) == 0x1E00 | regs.PCI_PM_CTRL_NO_SOFT_RESET
    assert device.config.read(at + regs.PCI_PM_CTRL, 2) & regs.PCI_PM_CTRL_PME_ENABLE


def test_from_low_power_the_way_is_down_or_to_d0() -> None:
    device = card(PowerManagement(d1=True, d2=False))
    device.no_command_memory = True
    view, control = device.open(), device.find_capability(regs.PCI_CAP_ID_PM) + regs.PCI_PM_CTRL
    seen = []
    for state in (2, 1, 3, 1, 0):
        view.write(bytes([state]), control)
        seen.append((device.power_state, view.memory_enabled))
    assert seen == [("D0", True), ("D1", True), ("D3hot", False), ("D3hot", False), ("D0", True)]


def test_a_physical_function_in_use_stays_in_d0() -> None:
    device = card(PowerManagement())
    view, control = device.open(), device.find_capability(regs.PCI_CAP_ID_PM) + regs.PCI_PM_CTRL
    device.has_virtual_functions = True
    view.write(b"\3", control)
    assert device.power_state == "D0"


@pytest.mark.parametrize("wide", [False, True])
def test_message_signalled_interrupts(wide: bool) -> None:
    declared = Msi(8, wide=wide, maskable=True)
    device = card(declared)
    view, at = device.open(), device.find_capability(regs.PCI_CAP_ID_MSI)
    flags = at + regs.PCI_MSI_FLAGS
    most = word(view.read(2, flags)) & regs.PCI_MSI_FLAGS_QMASK
    view.write((most | regs.PCI_MSI_FLAGS_ENABLE | 0x30).to_bytes(2, "little"), flags)
    assert word(view.read(1, flags)) == most  # neither on nor more than one message
    assert not device.config.read(flags, 2) & (regs.PCI_MSI_FLAGS_ENABLE | regs.PCI_MSI_FLAGS_QSIZE)
    view.msi_on, view.msi_exponent = True, 2
    view.write((most | regs.PCI_MSI_FLAGS_ENABLE | 0x30).to_bytes(2, "little"), flags)
    assert word(view.read(1, flags)) == most | regs.PCI_MSI_FLAGS_ENABLE | 0x20
    assert device.config.read(flags, 1) & ~0x80 == most | regs.PCI_MSI_FLAGS_ENABLE | 0x20
    view.write(b"\xff" * 4, at + regs.PCI_MSI_ADDRESS_LO)
    assert device.config.read(at + regs.PCI_MSI_ADDRESS_LO, 4) == 0
    view.write(b"\xff" * 4, at + declared.mask_offset)
    assert view.read(4, at + declared.mask_offset) == b"\xff\0\0\0"
    assert device.config.read(at + declared.mask_offset, 4) == 0xFF


def test_msix_is_read_only() -> None:
    device = card(Msix(4, 0), writable=True)
    view, at = device.open(), device.find_capability(regs.PCI_CAP_ID_MSIX)
    before = view.read(12, at)
    view.write(b"\xff" * 12, at)
    assert (view.read(12, at), device.stores) == (before, [])


def test_vendor_specific_is_the_programs_own() -> None:
    device = card(VendorSpecific(b"\x01abcd"), writable=True)
    view, at = device.open(), device.find_capability(regs.PCI_CAP_ID_VNDR)
    view.write(b"\x5a" * 4, at + 4)
    assert (view.read(4, at + 4), device.config.read(at + 4, 4)) == (b"\x5a" * 4, 0x5A5A5A5A)


# what is hidden


def test_a_hidden_capability_is_left_out_of_the_chain() -> None:
    device = card(Msi(), SubsystemId(1, 2), PowerManagement())
    assert [number for _, number in conventional(device.open())] == [regs.PCI_CAP_ID_PM, regs.PCI_CAP_ID_MSI]


def test_a_function_with_nothing_to_show_has_no_chain() -> None:
    device = card(SubsystemId(1, 2))
    view = device.open()
    assert not word(view.read(2, regs.PCI_STATUS)) & regs.PCI_STATUS_CAP_LIST
    assert view.read(1, regs.PCI_CAPABILITY_LIST) == b"\0"


def numbers(device: Card) -> list[int]:
    return [number for _, number in extended(device.open())]


def test_extended_capabilities_that_a_program_sees() -> None:
    device = card(
        EXPRESS, Aer(), Acs(), Vc(), SerialNumber(5), Ats(), Pasid(), Ltr(), Sriov(2, 0x1111, 8, 1), Dpc(),
        DesignatedVendor(0x1E98, 0, b"\0" * 8),
    )  # fmt: skip
    assert numbers(device) == [
        extended_regs.PCI_EXT_CAP_ID_ERR,
        regs.PCI_EXT_CAP_ID_ACS,
        extended_regs.PCI_EXT_CAP_ID_VC,
        extended_regs.PCI_EXT_CAP_ID_DSN,
        extended_regs.PCI_EXT_CAP_ID_ATS,
        extended_regs.PCI_EXT_CAP_ID_LTR,
        regs.PCI_EXT_CAP_ID_SRIOV,
        extended_regs.PCI_EXT_CAP_ID_DVSEC,
    ]


def test_the_first_extended_capability_keeps_its_place_without_its_id() -> None:
    device = card(EXPRESS, Pasid(), SerialNumber(5))
    view = device.open()
    (at, number), *_ = extended(view)
    assert number == extended_regs.PCI_EXT_CAP_ID_DSN
    assert word(view.read(4, regs.PCI_CFG_SPACE_SIZE)) == at << 20
    before = bytes(device.config.data)
    view.write(b"\xff" * 4, regs.PCI_CFG_SPACE_SIZE)
    assert bytes(device.config.data) == before


def test_nothing_but_hidden_ones_reads_as_an_empty_list() -> None:
    device = card(EXPRESS, Pasid(), Dpc())
    assert device.open().read(4, regs.PCI_CFG_SPACE_SIZE) == bytes(4)


def test_without_extended_capabilities_the_space_is_raw() -> None:
    device = card(EXPRESS, writable=True)
    view = device.open()
    view.write(b"\x5a" * 8, 0x100)
    assert device.config.read(0x104, 4) == 0x5A5A5A5A


@pytest.mark.parametrize("declared", [Acs(), Ats(), SerialNumber(5), Ltr(), Vc(), Sriov(2, 0x1111, 8, 1)])
def test_read_only_extended_capabilities(declared: Capability) -> None:
    device = card(EXPRESS, declared, writable=True)
    view = device.open()
    before = view.read(declared.size, 0x100)
    assert view.write(b"\xff" * declared.size, 0x100) == declared.size
    assert (view.read(declared.size, 0x100), device.stores) == (before, [])


@pytest.mark.parametrize("declared", [VendorSpecificExtended(7, b"\0" * 8), DesignatedVendor(0x1E98, 0, b"\0" * 8)])
def test_raw_extended_capabilities(declared: Capability) -> None:
    device = card(EXPRESS, declared, writable=True)
    view = device.open()
    last = 0x100 + declared.size - 4
    view.write(b"\x5a" * 4, last)
    assert (view.read(4, last), device.config.read(last, 4)) == (b"\x5a" * 4, 0x5A5A5A5A)
    link = view.read(4, 0x100)
    view.write(b"\0" * 4, 0x100)
    assert view.read(4, 0x100) == link  # the device lost it, the program does not see that


def test_error_reporting_has_the_bits_of_the_kernel() -> None:
    device = card(EXPRESS, Aer(), writable=True)
    device.config.data[0x104:0x12C] = bytes(0x28)
    view = device.open()
    view.write(b"\xff" * 0x2C, 0x100)
    assert device.config.data[0x104:0x11C].hex() == "31f0ff03" * 3 + "c1f10000" * 2 + "40010000"
    assert not any(device.config.data[0x11C:0x12C])


def test_power_budgeting_opens_the_data_register() -> None:
    config = ConfigSpace(IDENTITY)
    config.add(EXPRESS)
    config.extend()
    config.data[0x100:0x104] = (extended_regs.PCI_EXT_CAP_ID_PWR | 1 << 16).to_bytes(4, "little")
    config.writable[:] = b"\xff" * len(config.data)
    device = Card(config)
    view = device.open()
    view.write(b"\xff" * 16, 0x100)
    assert bytes(device.config.data[0x104:0x110]) == b"\0\0\0\0\xff" + bytes(7)


# the header


def test_a_virtual_function_gets_its_ids_and_no_pin() -> None:
    device = card(EXPRESS)
    device.is_virtual = device.no_command_memory = True
    device.config.put(0, 4, 0xFFFFFFFF)
    view = device.open()
    assert view.read(4, 0).hex() == "34127856"
    assert (view.interrupt_pin, view.memory_enabled) == (0, True)
    assert view.read(2, regs.PCI_COMMAND) == b"\2\0"
    assert view.read(1, regs.PCI_COMMAND) == b"\2"
    view.write(b"\0\0", regs.PCI_COMMAND)
    assert (view.read(3, 3), view.memory_enabled) == (b"\x56\0\0", True)


def test_an_io_address_and_a_shadowed_rom() -> None:
    config = ConfigSpace(IDENTITY)
    config.set_bar(0, 0x20, regs.PCI_BASE_ADDRESS_SPACE_IO)
    config.put(regs.PCI_BASE_ADDRESS_0, 4, 0x1001)
    resources = [Resource() for _ in range(7)]
    resources[0] = Resource(0x1000, 0x101F, ResourceFlag.IO)
    resources[6] = Resource(0, 0, ResourceFlag.ROM_SHADOW)
    view = Card(config, resources).open()
    for offset in (0x10, 0x14, 0x30):
        view.write(b"\xff" * 4, offset)
    assert [view.read(4, offset).hex() for offset in (0x10, 0x14, 0x30)] == ["e1ffffff", "00000000", "0100feff"]


def test_masking_the_pin_follows_the_program() -> None:
    device = card()
    view, calls = device.open(), []
    view._mask_intx, view._unmask_intx = lambda: calls.append("mask"), lambda: calls.append("unmask")
    for value in (b"\0\4", b"\0\4", b"\7\4", b"\7\0", b"\0\0"):
        view.write(value, regs.PCI_COMMAND)
    assert calls == ["mask", "unmask"]
    view.write(b"\4", regs.PCI_COMMAND + 1)
    assert (calls, device.config.command) == (["mask", "unmask", "mask"], 0)


def test_a_device_that_refuses() -> None:
    device = card(EXPRESS, Aer())
    view = device.open()
    device.refuses = True
    with pytest.raises(OSError, match="refused") as caught:
        view.read(4, regs.PCI_CLASS_REVISION)
    assert caught.value.errno == errno.EIO
    assert view.read(4, 0).hex() == "34127856"  # the copy knows
    with pytest.raises(OSError, match="refused"):
        view.write(b"\0\0", regs.PCI_COMMAND)
    with pytest.raises(OSError, match="refused"):
        view.write(bytes(4), 0x104)
