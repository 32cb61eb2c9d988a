"""The subsystem-identification word (SID): how an instruction names its subchannel in general register 1.

::

      0               8     12 13 14 15 16                             31
     +---------------+--------+-+-----+-+-------------------------------+
     |     cssid     |  0000  |m|ssid |1|      subchannel number        |
     +---------------+--------+-+-----+-+-------------------------------+

With `m` off there is one image only, and `cssid` is zero; with `m` on (after CHSC has enabled several images) `cssid`
names one.  A machine has up to four images of its own, each with four sets of 65,536 subchannels.  A hypervisor gives
its virtual devices images with the highest numbers (fe, fd), which no machine has.

Source: z/Architecture Principles of Operation, "Subchannel Addressing"; ``arch/s390/include/uapi/asm/schid.h``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from pyvfio.address import SubchannelId
from pyvfio.css.layout import BytesLike, check_range, exactly

__all__ = ["IMAGES", "SETS", "SID_SIZE", "SUBCHANNELS_PER_SET", "VIRTUAL_IMAGES", "Sid"]

SID_SIZE: Final = 4
#: Images that a machine can have of its own: css ids 0 to 3.
IMAGES: Final = 4
#: Subchannel sets of an image.
SETS: Final = 4
SUBCHANNELS_PER_SET: Final = 65536
#: The css ids of a hypervisor's virtual images.
VIRTUAL_IMAGES: Final = (0xFE, 0xFD)


@dataclass(frozen=True, slots=True)
class Sid:
    """A SID; `zeros` (4 bits) and `one` are kept so that any word survives a round trip.

    >>> print(Sid.of(SubchannelId(0xFE, 1, 5)))
    SID fe0b0005: subchannel fe.1.0005
    """

    cssid: int = 0
    m: bool = False
    ssid: int = 0
    sch_no: int = 0
    one: bool = True
    zeros: int = 0

    @classmethod
    def of(cls, schid: SubchannelId) -> Self:
        """The word for a subchannel; `m` is on for every image but 0."""
        return cls(schid.cssid, schid.cssid != 0, schid.ssid, schid.sch_no)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 4 big-endian bytes.  Raise `Misuse` on another length."""
        word = int.from_bytes(exactly(data, SID_SIZE, "SID"), "big")
        return cls(
            cssid=word >> 24,
            m=bool(word & 0x00080000),
            ssid=word >> 17 & 3,
            sch_no=word & 0xFFFF,
            one=bool(word & 0x00010000),
            zeros=word >> 20 & 0xF,
        )

    def to_bytes(self) -> bytes:
        """The 4 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range("SID", cssid=(self.cssid, 8), ssid=(self.ssid, 2), sch_no=(self.sch_no, 16), zeros=(self.zeros, 4))
        word = self.cssid << 24 | self.zeros << 20 | self.m << 19 | self.ssid << 17 | self.one << 16 | self.sch_no
        return word.to_bytes(SID_SIZE, "big")

    @property
    def problem(self) -> str:
        """Why an instruction recognises an operand exception for this word; empty when it does not."""
        if not self.one:
            return "bit 15 must be one"
        if self.zeros:
            return "bits 8 to 11 must be zero"
        if self.cssid and not self.m:
            return f"it names image {self.cssid:x} with the m bit off"
        return ""

    @property
    def schid(self) -> SubchannelId:
        """The subchannel that it names."""
        return SubchannelId(self.cssid, self.ssid, self.sch_no)

    @property
    def is_virtual(self) -> bool:
        """Whether the image is one of a hypervisor's."""
        return self.cssid in VIRTUAL_IMAGES

    def __str__(self) -> str:
        wrong = f" (not valid: {self.problem})" if self.problem else ""
        return f"SID {self.to_bytes().hex()}: subchannel {self.schid}{wrong}"
