"""Ports and bridges with the identity and the registers of known ones, as QEMU 10.0 has them.

==================  =========  ==============================  ================================================
`ioh3420`           8086:3420  root port                       MSI for two vectors, AER, no ACS
`root_port`         1b36:000c  root port                       MSI-X, AER, ACS, up to 16 GT/s x32
`x3130_upstream`    104c:8232  upstream port of a switch       MSI, AER
`xio3130_downstream` 104c:8233 downstream port of a switch     MSI, AER, no ACS
`pcie_pci_bridge`   1b36:000e  bridge to conventional PCI      MSI with a mask, power management, SHPC, AER
`q35_host`          8086:29c0  host bridge of q35              --
`pxb_host`          1b36:000b  function that stands for a further root bus on bus 0
`event_collector`   1af4:10f3  root complex event collector    MSI for two vectors, PM, AER; no make: the machine's own
==================  =========  ==============================  ================================================

Slots are hot-pluggable unless given otherwise.  A switch made of parts is `x3130_upstream` with downstream ports on its
secondary bus.  Where these devices differ from the architecture in what a program can set (device control without
payload size and relaxed ordering, root control without the interrupt for power management events), so do these.  Not
modelled: the chipset's registers of the host bridge.  A model can get further capabilities before it is plugged; then
`DownstreamPort.finish` is to be called again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_ids as ids
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.block import Block
from pyvfio_backends.software.hardware.pcie.bridge import PciBridge
from pyvfio_backends.software.hardware.pcie.capabilities import Msi, Msix, PowerManagement, SubsystemId
from pyvfio_backends.software.hardware.pcie.event_collector import EventCollector
from pyvfio_backends.software.hardware.pcie.express import REPORTING, Express, Slot
from pyvfio_backends.software.hardware.pcie.extended import Acs, CollectorAssociation
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.hotplug_controller import HotPlugController
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort, RootPort, UpstreamPort

__all__ = [
    "PORTS",
    "event_collector",
    "ioh3420",
    "pcie_pci_bridge",
    "pxb_host",
    "q35_host",
    "root_port",
    "x3130_upstream",
    "xio3130_downstream",
]

_INTEL, _TI, _QEMU, _QEMU_SUBSYSTEM, _QEMU_SUBSYSTEM_ID = 0x8086, 0x104C, 0x1B36, 0x1AF4, 0x1100
_BRIDGE, _HOST, _COLLECTOR = 0x060400, 0x060000, ids.PCI_CLASS_SYSTEM_RCEC << 8
_COLLECTOR_ID = 0x10F3
_PREFIXES = 0x300000  # of device capabilities 2: extended format, end-end prefixes
_SPEED_16GT, _LANES = 4, 32


def _plain(declared: Express) -> Express:
    """With the device control of QEMU's devices, where only error reporting can be set, and their root control."""
    return replace(declared, control=REPORTING, control_reset=0, device2=_PREFIXES, power_events=False)


def ioh3420(slot: Slot | None = None, *, name: str = "") -> RootPort:
    """Intel's 3420 root port."""
    port = RootPort(
        ConfigSpace(Identity(_INTEL, 0x3420, class_code=_BRIDGE, revision=2), interrupt_pin=1, bridge=True), name=name
    )
    port.add(SubsystemId(_INTEL), 0x40)
    port.add_msi(Msi(2, wide=False, maskable=True), 0x60)
    port.add(_plain(Express(ExpressType.ROOT_PORT, ari=True, slot=slot)), 0x90)
    port.add(Aer(root=True, irq=1, multiple=True), 0x100)
    port.finish()
    return port


def root_port(slot: Slot | None = None, *, name: str = "") -> RootPort:
    """QEMU's generic root port."""
    table = Block(0x1000)
    memory32 = regs.PCI_BASE_ADDRESS_SPACE_MEMORY
    config = ConfigSpace(Identity(_QEMU, 0x000C, class_code=_BRIDGE), interrupt_pin=1, bridge=True)
    port = RootPort(config, [Bar(0, table.size, memory32, table)], name=name)
    port.add(SubsystemId(_QEMU), 0x40)
    table.place(0, port.add_msix(Msix(1, 0), 0x48))
    port.add(
        _plain(
            Express(
                ExpressType.ROOT_PORT,
                speed=_SPEED_16GT,
                width=_LANES,
                trained=(1, 1),
                ari=True,
                link_active_reporting=True,
                link=express_regs.PCI_EXP_LNKCAP_ASPM_L0S | express_regs.PCI_EXP_LNKCAP_LBNC,
                slot=slot,
            )
        ),
        0x54,
    )
    port.add(Aer(root=True, multiple=True), 0x100)
    port.add(Acs(), 0x148)
    port.finish()
    return port


def x3130_upstream(*, name: str = "") -> UpstreamPort:
    """The upstream port of TI's XIO3130 switch."""
    port = UpstreamPort(ConfigSpace(Identity(_TI, 0x8232, class_code=_BRIDGE, revision=2), bridge=True), name=name)
    port.add_msi(Msi(1), 0x70)
    port.add(SubsystemId(0), 0x80)
    port.add(_plain(Express(ExpressType.UPSTREAM, flr=True)), 0x90)
    port.add(Aer(multiple=True), 0x100)
    return port


def xio3130_downstream(slot: Slot | None = None, *, name: str = "") -> DownstreamPort:
    """A downstream port of TI's XIO3130 switch."""
    port = DownstreamPort(ConfigSpace(Identity(_TI, 0x8233, class_code=_BRIDGE, revision=1), bridge=True), name=name)
    port.add_msi(Msi(1), 0x70)
    port.add(SubsystemId(0), 0x80)
    kind = ExpressType.DOWNSTREAM
    port.add(_plain(Express(kind, speed=0, width=0, trained=(1, 1), ari=True, flr=True, slot=slot)), 0x90)
    port.add(Aer(multiple=True), 0x100)
    port.finish()
    return port


def pcie_pci_bridge(*, name: str = "") -> PciBridge:
    """QEMU's bridge from PCI Express to conventional PCI."""
    registers = Block(0x100)
    config = ConfigSpace(Identity(_QEMU, 0x000E, class_code=_BRIDGE), interrupt_pin=1, bridge=True)
    bridge = PciBridge(config, [Bar(0, registers.size, regs.PCI_BASE_ADDRESS_MEM_TYPE_64, registers)], name=name)
    fast = regs.PCI_STATUS_66MHZ | regs.PCI_STATUS_FAST_BACK
    config.put(bridge_regs.PCI_SEC_STATUS, 2, fast)
    registers.place(0, HotPlugController(bridge, 0x40))
    config.put(regs.PCI_STATUS, 2, config.read(regs.PCI_STATUS, 2) | fast)
    kind = _plain(Express(ExpressType.PCI_BRIDGE))
    bridge.add(replace(kind, device2=_PREFIXES | express_regs.PCI_EXP_DEVCAP2_ARI), 0x48)
    bridge.add(PowerManagement(no_soft_reset=False), 0x84)
    bridge.add_msi(Msi(1, maskable=True), 0x8C)
    bridge.add(Aer(), 0x100)
    return bridge


def q35_host(*, name: str = "") -> Function:
    """The host bridge of q35."""
    identity = Identity(_INTEL, 0x29C0, _QEMU_SUBSYSTEM, _QEMU_SUBSYSTEM_ID, _HOST)
    return Function(ConfigSpace(identity), name=name)


def pxb_host(*, name: str = "") -> Function:
    """The function on bus 0 that stands for a further root bus (pxb-pcie)."""
    identity = Identity(_QEMU, 0x000B, _QEMU_SUBSYSTEM, _QEMU_SUBSYSTEM_ID, _HOST)
    return Function(ConfigSpace(identity), name=name)


def event_collector(association: CollectorAssociation | None = None, *, name: str = "") -> EventCollector:
    """A root complex event collector; without an `association` it is for all integrated endpoints on its bus.

    QEMU has none.  Message 0 is for power management events, message 1 for errors.
    """
    identity = Identity(_QEMU_SUBSYSTEM, _COLLECTOR_ID, _QEMU_SUBSYSTEM, 1, _COLLECTOR, revision=1)
    collector = EventCollector(ConfigSpace(identity, interrupt_pin=1), name=name)
    collector.add(Express(ExpressType.RC_EC, flr=True), 0x40)
    collector.add_msi(Msi(2, maskable=True), 0x80)
    collector.add(PowerManagement(), 0xA0)
    collector.add(Aer(root=True, irq=1), 0x100)
    collector.add(association or CollectorAssociation(), 0x160)
    return collector


PORTS: dict[str, Callable[..., Function]] = {
    "ioh3420": ioh3420,
    "pcie-root-port": root_port,
    "x3130-upstream": x3130_upstream,
    "xio3130-downstream": xio3130_downstream,
    "pcie-pci-bridge": pcie_pci_bridge,
    "pxb-pcie": pxb_host,
    "q35-host": q35_host,
    "event-collector": event_collector,
}
"""By the names that QEMU has for them (its host bridges have none, and it has no event collector)."""
