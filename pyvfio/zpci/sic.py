"""SET INTERRUPTION CONTROLS (SIC): the operations and their information blocks.

Sources: ``arch/s390/include/asm/pci_insn.h`` (``SIC_*``, struct zpci_diib, zpci_cdiib, zpci_aipb);
``hw/s390x/css.c`` of QEMU (``css_do_sic``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from pyvfio.zpci.block import BigBlock, at

__all__ = ["DirectedBlock", "ForwardingBlock", "ProcessorBlock", "SicOperation"]


class SicOperation(IntEnum):
    """What SIC does.

    ``ALL``: every adapter event of the subclass interrupts.  ``SINGLE``: the next one does, and then none until SIC
    says so again.  ``DIRECTED_ALL`` and ``DIRECTED_SINGLE`` are the same for the directed interruptions of the
    processor that executes SIC; ``DIRECT`` (a `DirectedBlock`) makes directed interruptions possible and
    ``SET_PROCESSOR`` (a `ProcessorBlock`) says where the executing processor's vector is.  ``SET_FORWARDING`` (a
    `ForwardingBlock`) names the tables by which interruptions are forwarded to guests.
    """

    ALL = 0
    SINGLE = 1
    SET_FORWARDING = 2
    DIRECT = 4
    DIRECTED_ALL = 16
    DIRECTED_SINGLE = 17
    SET_PROCESSOR = 18


@dataclass(frozen=True, slots=True)
class DirectedBlock(BigBlock, size=32):
    """For ``DIRECT``: subclass (3 bits), number of processors, and where their summary bits are.

    ::

        byte  0        1        4        6        8                10                 20
             +--------+-----------------+--------+----------------+------------------+
             | isc    |      zeros      | cpus   |      disb      |      zeros       |
             +--------+-----------------+--------+----------------+------------------+

    (Offsets in hexadecimal; `isc` has bits 1 to 3.)
    """

    isc: int = at(0, 3, bit=1)
    processors: int = at(6, 16)
    disb: int = at(8, 64)


@dataclass(frozen=True, slots=True)
class ProcessorBlock(BigBlock, size=40):
    """For ``SET_PROCESSOR``: the vector of a processor's directed interruptions, after 8 bytes of zeros."""

    dibv: int = at(8, 64)


@dataclass(frozen=True, slots=True)
class ForwardingBlock(BigBlock, size=24):
    """For ``SET_FORWARDING``: the summary bits `faisb`, the table `gait` of guests' interruptions, the subclass `afi`
    of the interruptions that remain the host's (3 bits), and how many entries there are (`faal`).

    ::

        byte  0                8                10     11       12           16
             +----------------+----------------+------+--------+------------+------+
             |     faisb      |      gait      |      |  afi   |   zeros    | faal |
             +----------------+----------------+------+--------+------------+------+

    (Offsets in hexadecimal; `afi` has the last three bits of its byte.)
    """

    faisb: int = at(0, 64)
    gait: int = at(8, 64)
    afi: int = at(17, 3, bit=5)
    faal: int = at(22, 16)
