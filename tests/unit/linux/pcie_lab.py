"""The machine of the x86 lab, as the tables of a machine file would have it."""

from __future__ import annotations

from pyvfio_backends.software.description import PcieBusSpec, PcieFunctionSpec

BUSES = [PcieBusSpec(), PcieBusSpec(0x40)]


def _f(model: str, at: str = "00.0", behind: str = "0000:00", *, id: str = "", slot: int = -1) -> PcieFunctionSpec:
    return PcieFunctionSpec(model, behind, at, id, slot)


FUNCTIONS = [
    _f("q35-host"),
    _f("virtio-9p-pci", "02.0"),
    _f("virtio-9p-pci", "03.0"),
    _f("edu", "06.0"),
    _f("pci-testdev", "07.0"),
    _f("pci-testdev", "07.1"),
    _f("ioh3420", "08.0", id="ioh0", slot=1),
    _f("ioh3420", "08.1", id="ioh1", slot=2),
    _f("e1000e", behind="ioh0"),
    _f("edu", behind="ioh1"),
    _f("pcie-root-port", "09.0", id="rpa", slot=3),
    _f("pcie-root-port", "09.1", id="rpb", slot=4),
    _f("igb", behind="rpa"),
    _f("nvme", behind="rpb"),
    _f("pcie-root-port", "0a.0", id="rpc", slot=5),
    _f("x3130-upstream", behind="rpc", id="up0"),
    _f("xio3130-downstream", "00.0", "up0", id="dn0", slot=6),
    _f("xio3130-downstream", "01.0", "up0", id="dn1", slot=7),
    _f("e1000e", behind="dn0"),
    _f("virtio-net-pci", behind="dn1"),
    _f("pcie-root-port", "0b.0", id="rpd", slot=8),
    _f("pcie-pci-bridge", behind="rpd", id="ppb0"),
    _f("edu", "01.0", "ppb0"),
    _f("pci-testdev", "02.0", "ppb0"),
    _f("pcie-root-port", "0c.0", id="rpe", slot=9),
    _f("pcie-root-port", "0d.0", id="rpf", slot=10),
    _f("e1000e", "00.0", "rpf"),
    _f("e1000e", "00.1", "rpf"),
    _f("pxb-pcie", "0e.0"),
    _f("pcie-root-port", "0f.0", id="rpg", slot=12),
    _f("virtio-net-pci", behind="rpg"),
    _f("ich9-lpc", "1f.0"),
    _f("ich9-ahci", "1f.2"),
    _f("ich9-smbus", "1f.3"),
    _f("pcie-root-port", "00.0", "0000:40", id="rpx", slot=11),
    _f("e1000e", behind="rpx"),
]
