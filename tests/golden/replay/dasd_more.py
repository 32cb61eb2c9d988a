"""Replay of ``dasd-3390-more``: several hundred ECKD channel programs, each after the ones before it on one volume.

A line of the recording is ``{"what", "memory", "orb", "looks", "irb", "data"}``: what lies where before the start,
where is looked afterwards (filled with EE before), the IRB without the zeros at its end, and the data there; more than
64 bytes are given by their SHA-256.  `record_dasd.py` makes the recording with the same functions on a kernel.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from typing import Any

from pyvfio.abi import vfio
from pyvfio_backends.software.loader import find_machine, load_machine
from pyvfio_fixtures import golden

from .ccw_programs import PROGRAM_BASE, PROGRAM_ROOM, ChannelDevice
from .facts import Question
from .seam import Seam

__all__ = ["DEVNO", "FILE", "Line", "load_lines", "perform", "replay", "take"]

FILE = "dasd-3390-more"
DEVNO = "0.0.0a00"
Line = dict[str, Any]
_UUID = "11111111-2222-3333-4444-555555555555"
_SHOWN = 64


def load_lines() -> dict[str, Line]:
    """The recorded lines by name; what has the same words gets a number."""
    lines: dict[str, Line] = {}
    seen: Counter[str] = Counter()
    for text in golden(f"s390x/{FILE}.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        seen[line["what"]] += 1
        number = seen[line["what"]]
        lines[line["what"] if number == 1 else f"{line['what']} ({number})"] = line
    return lines


def take(seam: Seam, device_class: type[ChannelDevice] = ChannelDevice) -> ChannelDevice:
    """Give the disk to vfio_ccw, and open it."""
    schid = os.path.basename(os.path.dirname(seam.host.readlink(f"/sys/bus/ccw/devices/{DEVNO}")))
    subchannel = f"/sys/bus/css/devices/{schid}"
    seam.write(f"{subchannel}/driver_override", "vfio_ccw\n")
    seam.write("/sys/bus/css/drivers/io_subchannel/unbind", schid)
    seam.write("/sys/bus/css/drivers/vfio_ccw/bind", schid)
    seam.write(f"{subchannel}/mdev_supported_types/vfio_ccw-io/create", _UUID + "\n")
    number = seam.link(f"/sys/bus/mdev/devices/{_UUID}/iommu_group")
    container = seam.host.open("/dev/vfio/vfio", os.O_RDWR)
    group = seam.host.open(f"/dev/vfio/{number}", os.O_RDWR)
    seam.descriptor(group, vfio.VFIO_GROUP_SET_CONTAINER, container)
    seam.host.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU)
    memory = seam.memory(PROGRAM_ROOM)
    seam.map_dma(container, PROGRAM_BASE, PROGRAM_ROOM, memory.address)
    device = device_class(seam, seam.device_fd(group, _UUID), memory)
    device.connect()
    return device


def _shown(content: str) -> str:
    if len(content) <= 2 * _SHOWN:
        return content
    return content[: 2 * 8] + " sha256 " + hashlib.sha256(bytes.fromhex(content)).hexdigest()[:32]


def perform(device: ChannelDevice, line: Line) -> Line:
    """Run one program: ``{"irb", "data"}``, or ``{"error"}`` when the kernel refuses it."""
    looks = tuple((int(address, 16), count) for address, count in line["looks"].items())
    request = {"orb": line["orb"], "fctl": 4, "memory": line["memory"]}
    answer = device.start(Question(line["what"], FILE, "programs", line["what"], request, looks))
    if isinstance(answer["pwrite"], str):
        return {"error": answer["pwrite"]}
    data = {address: _shown(content) for address, content in answer.get("data", {}).items()}
    return {"irb": re.sub("(00)+$", "", answer.get("irb", "none")), "data": data}


def replay(lines: dict[str, Line]) -> dict[str, Line]:
    """What the machine answers, each program after the ones before it."""
    seam = Seam(load_machine(find_machine("hercules-lab")))
    try:
        device = take(seam)
        return {name: perform(device, line) for name, line in lines.items()}
    finally:
        seam.close()
