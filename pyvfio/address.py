"""Addresses of devices: value types that parse, print and sort.

Linux names a device by its place on a bus.  Each bus has its own form, and each form is a type here, so that a
subchannel cannot be passed where a PCI function is wanted:

==================  =====================  ==========================================================
type                text                   rule
==================  =====================  ==========================================================
PciAddress          ``dddd:bb:dd.f``       domain up to 32 bits, printed with at least four digits
SubchannelId        ``c.s.nnnn``           css image (0-fe, fe/ff virtual), subchannel set 0-3, number
DeviceNumber        ``c.s.nnnn``           css image, subchannel set, device number
MdevUuid            RFC 4122 text          lower case, as ``/sys/bus/mdev/devices`` prints it
ParentName          a file name            a parent of mediated devices on another bus (``matrix``, ``mtty``)
==================  =====================  ==========================================================

Sources: ``Documentation/ABI/testing/sysfs-bus-pci`` and ``-css``, ``drivers/s390/cio/css.c`` (bus id format),
``drivers/vfio/mdev/mdev_sysfs.c`` (``guid_parse``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from pyvfio.errors import BadAddress

__all__ = ["Address", "DeviceNumber", "MdevUuid", "ParentName", "PciAddress", "SubchannelId", "parse_address"]

_PCI = re.compile(r"(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])\Z")
_CSS = re.compile(r"(?:0x)?([0-9a-fA-F]{1,2})\.([0-9a-fA-F])\.([0-9a-fA-F]{1,4})\Z")
_SHORT = re.compile(r"(?:0x)?([0-9a-fA-F]{1,4})\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


@dataclass(frozen=True, order=True, slots=True)
class PciAddress:
    """A PCI function: ``domain`` (32 bits), ``bus`` (8), ``device`` (5) and ``function`` (3).

    >>> PciAddress.parse("0011:00:00.0")
    PciAddress(domain=17, bus=0, device=0, function=0)
    >>> str(PciAddress(0x10000, 0x3B, 0, 1))
    '10000:3b:00.1'
    """

    domain: int
    bus: int
    device: int
    function: int
    subsystem: ClassVar[str] = "pci"

    def __post_init__(self) -> None:
        if not (
            0 <= self.domain < 1 << 32 and 0 <= self.bus < 256 and 0 <= self.device < 32 and 0 <= self.function < 8
        ):
            raise BadAddress(
                str(self),
                "a part is out of range (domain 32 bits, bus 8, device 5, function 3)",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``dddd:bb:dd.f``; a missing domain is domain 0.  Raise `BadAddress`."""
        match = _PCI.match(text.strip())
        if match is None:
            raise BadAddress(text, "a PCI function is written domain:bus:device.function, as in 0011:00:00.0")
        domain, bus, device, function = (int(part or "0", 16) for part in match.groups())
        if device > 31:
            raise BadAddress(text, "a PCI device number has five bits (00 to 1f)")
        return cls(domain, bus, device, function)

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function:x}"

    @property
    def slot(self) -> str:
        """The address without its function, as ``/sys/bus/pci/slots/*/address`` prints it."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}"


@dataclass(frozen=True, order=True, slots=True)
class _ChannelAddress:
    cssid: int
    ssid: int
    number: int

    def __post_init__(self) -> None:
        if not (0 <= self.cssid < 256 and 0 <= self.ssid < 4 and 0 <= self.number < 65536):
            raise BadAddress(str(self), "a part is out of range (css 00-ff, set 0-3, number 0000-ffff)")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``c.s.nnnn`` or a bare ``nnnn`` (css 0, set 0), as s390-tools do.  Raise `BadAddress`."""
        cleaned = text.strip()
        match = _CSS.match(cleaned)
        if match is not None:
            cssid, ssid, number = (int(part, 16) for part in match.groups())
            if ssid > 3:
                raise BadAddress(text, "the subchannel set is 0, 1, 2 or 3")
            return cls(cssid, ssid, number)
        short = _SHORT.match(cleaned)
        if short is not None:
            return cls(0, 0, int(short.group(1), 16))
        raise BadAddress(text, "it is written css.set.number in hexadecimal, as in 0.0.013f")

    def __str__(self) -> str:
        return f"{self.cssid:x}.{self.ssid:x}.{self.number:04x}"


class SubchannelId(_ChannelAddress):
    """A subchannel: css image, subchannel set and subchannel number (``0.0.0005``)."""

    __slots__ = ()
    subsystem: ClassVar[str] = "css"

    @property
    def sch_no(self) -> int:
        """The subchannel number (16 bits)."""
        return self.number


class DeviceNumber(_ChannelAddress):
    """A channel-attached device: css image, subchannel set and device number (``0.0.013f``)."""

    __slots__ = ()
    subsystem: ClassVar[str] = "ccw"

    @property
    def devno(self) -> int:
        """The device number (16 bits)."""
        return self.number


@dataclass(frozen=True, order=True, slots=True)
class MdevUuid:
    """The name of a mediated device: a UUID in the kernel's lower-case spelling."""

    text: str
    subsystem: ClassVar[str] = "mdev"

    def __post_init__(self) -> None:
        if _UUID.match(self.text) is None:
            raise BadAddress(
                self.text, "a mediated device is named by a UUID of 36 characters (8-4-4-4-12 hexadecimal digits)"
            )
        object.__setattr__(self, "text", self.text.lower())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a UUID with its dashes (the kernel takes no other form).  Raise `BadAddress`."""
        return cls(text.strip())

    @classmethod
    def random(cls) -> Self:
        """Choose a new random UUID (version 4)."""
        import uuid  # slow to import, and only needed here

        return cls(str(uuid.uuid4()))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, order=True, slots=True)
class ParentName:
    """A device by its name alone: a parent of mediated devices on a bus that has no form of its own here."""

    text: str
    subsystem: ClassVar[str] = "mdev_bus"

    def __post_init__(self) -> None:
        if not self.text or "/" in self.text or self.text in (".", ".."):
            raise BadAddress(self.text, "it is not the name of a device, as in /sys/class/mdev_bus")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a name as ``/sys/class/mdev_bus`` lists it.  Raise `BadAddress`."""
        return cls(text)

    def __str__(self) -> str:
        return self.text


Address = PciAddress | SubchannelId | DeviceNumber | MdevUuid | ParentName


def parse_address(text: str) -> PciAddress | DeviceNumber | MdevUuid:
    """Read an address whose form alone tells its bus.  Raise `BadAddress`.

    ``c.s.nnnn`` is taken for a device number, which is how people name channel devices; whoever wants a
    subchannel asks for `SubchannelId.parse`.

    >>> parse_address("0.0.013f")
    DeviceNumber(cssid=0, ssid=0, number=319)
    """
    cleaned = text.strip()
    if _UUID.match(cleaned):
        return MdevUuid.parse(cleaned)
    if ":" in cleaned:
        return PciAddress.parse(cleaned)
    if _CSS.match(cleaned) or _SHORT.match(cleaned):
        return DeviceNumber.parse(cleaned)
    raise BadAddress(
        text,
        "it is none of: a PCI function (0011:00:00.0), a channel device (0.0.013f), a mediated device (a UUID)",
    )
