"""The terminals of a subject.

Serial ports have theirs below the device.  Two kinds have none there: the terminal ``hvcN`` of a virtio console and
``tty32700`` of a 3270 (``drivers/char/virtio_console.c``, ``drivers/s390/char/con3270.c``).  Sysfs does not say which
device is behind those, so they are only taken for the device's when no other device has the same driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyvfio.binding.probes.subject import Subject

__all__ = ["Terminal", "terminals"]

_ELSEWHERE = (("virtio", "virtio_console", "hvc"), ("ccw", "3270", "tty3270"))
"""Bus, driver and the beginning of the terminal's name."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal's `name` (``ttyS0``), `number` (``4:64``, may be empty), and the name of the `device` it is on."""

    name: str
    number: str
    device: str


def terminals(subject: Subject) -> Iterator[Terminal]:
    """The terminals of `subject`; those without a device in sysfs as far as they are consoles."""
    sysfs = subject.sysfs
    for one in subject.of("tty"):
        yield Terminal(one.name, one.number, subject.device.name)
    for bus, driver, prefix in _ELSEWHERE:
        consoles = [one for one in subject.surroundings.consoles if one.name.startswith(prefix)]
        for one in subject.of(bus) if consoles else ():
            if sysfs.link_name(f"{one.path}/driver") != driver:
                continue
            listed = sysfs.names(f"/sys/bus/{bus}/drivers/{driver}")
            others = [name for name in listed if name != one.name and sysfs.link(f"/sys/bus/{bus}/devices/{name}")]
            if others:
                subject.blind(f"whether {consoles[0].name} is on {one.name} or on {', '.join(others)} cannot be told")
            else:
                yield Terminal(consoles[0].name, consoles[0].number, one.name)
