"""Extended capabilities, declared.  Each begins with next (12 bits), version (4) and id (16); what follows::

    ACS, id 000d                            ARI, id 000e                          ATS, id 000f
    04 | control      | egr. size | cap |   04 | control | next fn. | A M    |    04 | E . STU (5) | P, depth (5) |
    08 | egress control vector ...      |

    PASID, id 001b                          LTR, id 0018                          DSN, id 0003
    04 | P X E        | width, P X .    |   04 | no-snoop    | snoop         |    04 | low 32 bits                |
                                               (scale 10..12, value 0..9)         08 | high 32 bits               |

    VSEC, id 000b                           DVSEC, id 0023                        VC, id 0002, with one channel
    04 | length (12) rev. (4) id (16)   |   04 | length rev. vendor (16)     |    04 | port capabilities 1        |
    08 | what the vendor has there      |   08 | ..          | DVSEC id      |    08 | port capabilities 2        |
                                                                                  0c | port status  | port control|
                                                                                  10 | resource capabilities      |
                                                                                  14 | E, id 24..26, TC map 0..7  |
                                                                                  18 | negotiating 17 | reserved  |

    Association of an event collector, id 0007: whose messages end there
    04 | devices of its own bus, bit n: device n |
    08 | .. | last bus | next bus | ..           |   other buses; ff to 00: none

AER, SR-IOV and DPC have modules of their own.  Source: PCI Express Base Specification, 6.0, 7.7 to 7.9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import AcsBits
from pyvfio_backends.software.hardware.pci.register import ExtendedCapability, Register

__all__ = [
    "Acs",
    "Ari",
    "Ats",
    "CollectorAssociation",
    "DesignatedVendor",
    "Ltr",
    "Pasid",
    "SerialNumber",
    "Vc",
    "VendorSpecificExtended",
]

_ALL_DEVICES = 0xFFFFFFFF
_NO_BUSES = (0xFF, 0x00)


@dataclass(frozen=True)
class Acs(ExtendedCapability):
    """Access control services: those that the function has; the others cannot be switched on.

    `egress_ports` is the size of the egress control vector, for `AcsBits.EC`.
    """

    id: ClassVar[int] = regs.PCI_EXT_CAP_ID_ACS
    services: AcsBits = AcsBits.SV | AcsBits.TB | AcsBits.RR | AcsBits.CR | AcsBits.UF | AcsBits.DT
    egress_ports: int = 0

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        services = int(self.services)
        yield Register(regs.PCI_ACS_CAP, 2, services | (self.egress_ports & 0xFF) << 8)
        yield Register(regs.PCI_ACS_CTRL, 2, rw=services)
        if self.services & AcsBits.EC:
            width = -(-self.egress_ports // 32) * 4
            yield Register(regs.PCI_ACS_EGRESS_CTL_V, width, rw=(1 << self.egress_ports) - 1)


@dataclass(frozen=True)
class Ari(ExtendedCapability):
    """Alternative routing ids: the function after this one (its number in 8 bits, 0 for none)."""

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_ARI
    next_function: int = 0

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        yield Register(extended.PCI_ARI_CAP, 2, self.next_function << 8)
        yield Register(extended.PCI_ARI_CTRL, 2)


@dataclass(frozen=True)
class Ats(ExtendedCapability):
    """Address translation services: how many invalidations wait in the device (0: 32)."""

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_ATS
    queue_depth: int = 0
    page_aligned: bool = True

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        able = self.queue_depth & 0x1F | (extended.PCI_ATS_CAP_PAGE_ALIGNED if self.page_aligned else 0)
        yield Register(extended.PCI_ATS_CAP, 2, able)
        yield Register(extended.PCI_ATS_CTRL, 2, rw=extended.PCI_ATS_CTRL_ENABLE | 0x1F)


@dataclass(frozen=True)
class Pasid(ExtendedCapability):
    """Process address space ids of `width` bits (up to 20)."""

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_PASID
    width: int = 20
    execute: bool = False
    privileged: bool = False

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        able = extended.PCI_PASID_CAP_EXEC if self.execute else 0
        able |= extended.PCI_PASID_CAP_PRIV if self.privileged else 0
        yield Register(extended.PCI_PASID_CAP, 2, able | self.width << 8)
        yield Register(extended.PCI_PASID_CTRL, 2, rw=extended.PCI_PASID_CTRL_ENABLE | able)


@dataclass(frozen=True)
class SerialNumber(ExtendedCapability):
    """The device serial number: 64 bits, an EUI-64."""

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_DSN
    number: int = 0

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        yield Register(4, 8, self.number)


@dataclass(frozen=True)
class CollectorAssociation(ExtendedCapability):
    """Whose messages end at an event collector: bit n of `devices` is device n of its own bus.

    `buses` are the first and the last number of other ones.  `edition` 1 has no register for other buses.
    """

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_RCEC
    devices: int = _ALL_DEVICES
    buses: tuple[int, int] | None = None
    edition: int = extended.PCI_RCEC_BUSN_REG_VER

    @property
    def revision(self) -> int:
        """See `Capability.revision`."""
        return self.edition

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        yield Register(extended.PCI_RCEC_RCIEP_BITMAP, 4, self.devices)
        if self.edition >= extended.PCI_RCEC_BUSN_REG_VER:
            first, last = self.buses or _NO_BUSES
            yield Register(extended.PCI_RCEC_BUSN, 4, first << 8 | last << 16)


@dataclass(frozen=True)
class Vc(ExtendedCapability):
    """Virtual channels: only VC 0, which carries traffic class 0 always and others by its map."""

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_VC

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        yield Register(extended.PCI_VC_PORT_CAP1, 4)
        yield Register(extended.PCI_VC_PORT_CAP2, 4)
        yield Register(extended.PCI_VC_PORT_CTRL, 2)
        yield Register(extended.PCI_VC_PORT_STATUS, 2)
        yield Register(extended.PCI_VC_RES_CAP, 4)
        yield Register(extended.PCI_VC_RES_CTRL, 4, extended.PCI_VC_RES_CTRL_ENABLE | 0xFF, rw=0xFE)
        yield Register(extended.PCI_VC_RES_STATUS, 2)


@dataclass(frozen=True)
class Ltr(ExtendedCapability):
    """Latency tolerance reporting: the longest latencies that a platform may impose, set by software."""

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_LTR

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        mask = extended.PCI_LTR_VALUE_MASK | extended.PCI_LTR_SCALE_MASK
        yield Register(extended.PCI_LTR_MAX_SNOOP_LAT, 2, rw=mask)
        yield Register(extended.PCI_LTR_MAX_NOSNOOP_LAT, 2, rw=mask)


@dataclass(frozen=True)
class VendorSpecificExtended(ExtendedCapability):
    """A vendor-specific extended capability (VSEC): the vendor's `number` and `edition`, then `body`.

    `writable` has a 1 for each bit of the body that can be written.
    """

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_VNDR
    number: int
    body: bytes
    edition: int = 0
    writable: bytes = b""

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        at = extended.PCI_VSEC_HDR
        length = at + 4 + len(self.body)
        head = self.number | self.edition << 16 | length << extended.PCI_VSEC_HDR_LEN_SHIFT
        yield Register(at, 4, head)
        yield _body(at + 4, self.body, self.writable)


@dataclass(frozen=True)
class DesignatedVendor(ExtendedCapability):
    """A designated vendor-specific capability (DVSEC): defined by `vendor`, found in any vendor's devices."""

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_DVSEC
    vendor: int
    number: int
    body: bytes
    edition: int = 0
    writable: bytes = b""

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        at = extended.PCI_DVSEC_HEADER2 + 2
        head = self.vendor | self.edition << 16 | at + len(self.body) << extended.PCI_VSEC_HDR_LEN_SHIFT
        yield Register(extended.PCI_DVSEC_HEADER1, 4, head)
        yield Register(extended.PCI_DVSEC_HEADER2, 2, self.number)
        yield _body(at, self.body, self.writable)


def _body(at: int, body: bytes, writable: bytes) -> Register:
    mask = int.from_bytes(writable[: len(body)], "little")
    return Register(at, len(body), int.from_bytes(body, "little"), rw=mask)
