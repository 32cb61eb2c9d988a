"""The system was started from it, or its root or boot file system is on it.

Looks at the mounts on ``/``, ``/usr``, ``/boot`` and the EFI partition with everything below them, at the devices that
the kernel's command line names (``root=``, ``resume=``, ``boot=``; ``rd.dasd=``, ``rd.zfcp=`` and ``rd.znet=`` of
dracut), and on s390 at the device that the system was loaded (IPL) from, ``/sys/firmware/ipl``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject

__all__ = ["SUMMARY", "look"]

SUMMARY = "the system starts from it, or its root or boot file system is on it"

_POINTS = ("/", "/usr", "/boot", "/boot/efi", "/efi")
_OPTIONS = ("root", "resume", "boot")
_CHANNEL_OPTIONS = ("rd.dasd", "rd.zfcp", "rd.znet", "condev")
_COMMAND_LINE = "/proc/cmdline"
_IPL = "/sys/firmware/ipl"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    if subject.of("block"):
        for mount, block in subject.blocks.mounts():
            if mount.point in _POINTS:
                yield Evidence(f"{block.where} holds {mount.point}", block.node)
        yield from _named(subject)
    yield from _channel_options(subject)
    yield from _loaded(subject)


def _named(subject: Subject) -> Iterator[Evidence]:
    around = subject.surroundings
    for option in _OPTIONS:
        for spec in around.option(option):
            number = _number(spec)
            node = around.named(spec)
            block = subject.blocks.find(node) if node else None
            if number:
                block = next((one for one in subject.blocks.all if one.number == number), None)
            if block is not None:
                yield Evidence(f"{block.where} is named by {option}={spec}", _COMMAND_LINE)
            elif not node and not _is_known(subject, option, spec):
                subject.blind(f"{option}={spec}: /dev/disk does not say which device that is")


def _is_known(subject: Subject, option: str, spec: str) -> bool:
    """Whether it is known that what `spec` names is not on the subject, although no node has this name.

    Where udev names disks in this way, one that it does not name is not there; and a root that is mounted from a device
    is found by its mount.
    """
    around = subject.surroundings
    if not around.by(spec) or subject.sysfs.exists(around.by(spec)):
        return True
    return option == "root" and any(one.point == "/" and not one.number.startswith("0:") for one in around.mounts)


def _number(spec: str) -> str:
    """``8:2`` and the kernel's hexadecimal ``0802`` (``block/early-lookup.c``); empty for anything else."""
    if re.fullmatch(r"\d+:\d+", spec):
        return spec
    if re.fullmatch(r"[0-9a-f]{3,8}", spec):
        # new_decode_dev(): the minor number's upper bits are above the major number
        value = int(spec, 16)
        return f"{value >> 8 & 0xFFF}:{value & 0xFF | value >> 12 & 0xFFF00}"
    return ""


def _channel_numbers(subject: Subject) -> set[str]:
    """The device numbers of the subject: its own or its subchannel's."""
    numbers = {one.name for one in subject.of("ccw")}
    if subject.device.bus == "css":
        numbers.add(subject.device.attribute("dev_busid") or "")
    if subject.device.bus == "ccw":
        numbers.add(subject.device.name)
    return numbers - {"", "none"}


def _channel_options(subject: Subject) -> Iterator[Evidence]:
    numbers = _channel_numbers(subject)
    for option in _CHANNEL_OPTIONS if numbers else ():
        for value in subject.surroundings.option(option):
            words = {_busid(word) for word in value.partition("(")[0].split(",")}
            for number in sorted(numbers & words):
                yield Evidence(f"{number} is named by {option}={value}", _COMMAND_LINE)


def _busid(word: str) -> str:
    """A device number as the command line may write it (``200``, ``0x0200``) in the form ``0.0.0200``."""
    short = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{1,4})", word)
    return f"0.0.{int(short[1], 16):04x}" if short else word.lower()


def _loaded(subject: Subject) -> Iterator[Evidence]:
    ipl = subject.surroundings.ipl
    kind = ipl.get("ipl_type", "")
    device = ipl.get("device", "")
    if device and device in _channel_numbers(subject):
        detail = f", WWPN {ipl['wwpn']}, LUN {ipl['lun']}" if "wwpn" in ipl and "lun" in ipl else ""
        yield Evidence(f"the system was loaded (IPL) from {device}, type {kind}{detail}", f"{_IPL}/device")
    fid = subject.device.attribute("function_id") if subject.device.bus == "pci" and "fid" in ipl else None
    if fid is not None and int(fid, 0) == int(ipl["fid"], 0):
        detail = f", namespace {int(ipl['nsid'], 0)}" if "nsid" in ipl else ""
        yield Evidence(f"the system was loaded (IPL) from function {fid}, type {kind}{detail}", f"{_IPL}/fid")
