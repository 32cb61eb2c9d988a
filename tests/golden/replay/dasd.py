"""Replay of ``dasd-3390``: channel programs that a real vfio_ccw gave to an emulated 3390, through the software one.

The recording is one JSON object a line.  `load_dasd_facts` gives each line that asked something an id; `DasdReplay`
asks the same of the machine ``hercules-lab``.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

from pyvfio.abi import vfio, vfio_ccw, vfio_type1
from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390
from pyvfio_backends.software.loader import find_machine, load_machine
from pyvfio_fixtures import golden

from .ccw_programs import ChannelDevice
from .seam import INFO_SIZE, Seam

__all__ = ["FILE", "DasdReplay", "load_dasd_facts"]

FILE = "dasd-3390"
_SCHID, _DEVNO = "0.0.0001", "0.0.0a00"
_ONLINE = f"/sys/bus/ccw/devices/{_DEVNO}/online"
_UUID = "11111111-2222-3333-4444-555555555555"
_BASE, _ROOM = 0x100000, 0x100000
_PROGRAM = 0x100000
_IDAWS = (0x102FE0, 0x103000)
_IDA = 0x04
_COMMANDS = {"HSCH": vfio_ccw.VFIO_CCW_ASYNC_CMD_HSCH, "CSCH": vfio_ccw.VFIO_CCW_ASYNC_CMD_CSCH}
_ASKED = ("subchannel", "ccw_device", "write", "vfio_open", "region", "schib", "ccw", "async", "reset", "put", "wait")
#: What the recorder did with these names: it gave their programs without recording them.
_LOOP = ("0360000100101000", "0800000000100000")
_SUSPENDED = ("0360000100101000", "0362000100101000", "6400004000101000")
_RC_OF_ERROR = {"EACCES": -13, "EINVAL": -22, "EBUSY": -16}


def load_dasd_facts() -> dict[str, dict[str, Any]]:
    """The recorded lines that asked something of the machine, by id."""
    facts: dict[str, dict[str, Any]] = {}
    seen: Counter[str] = Counter()
    for line in golden(f"s390x/{FILE}.jsonl").read_text(encoding="utf-8").splitlines():
        fact = json.loads(line)
        if fact["what"] not in _ASKED:
            continue
        words = fact.get("name") or fact.get("when") or fact.get("path") or fact.get("id") or fact.get("index", "")
        name = f"{FILE}::{fact['what']}::{words}"
        seen[name] += 1
        facts[name if seen[name] == 1 else f"{name} ({seen[name]})"] = fact
    return facts


class _Device(ChannelDevice):
    def put(self, iova: int, data: bytes) -> None:
        at = iova - _BASE
        if 0 <= at <= _ROOM - len(data):
            self.memory.view[at : at + len(data)] = data

    def get(self, iova: int, count: int) -> str:
        at = iova - _BASE
        return bytes(self.memory.view[at : at + count]).hex()


def _data_address(ccw: str, format_1: bool) -> int:
    return int(ccw[8:], 16) if format_1 else int(ccw[2:8], 16)


class DasdReplay:
    """One run of the recording on a machine of its own; `answers` has the lines as the machine gives them."""

    def __init__(self) -> None:
        self.seam = Seam(load_machine(find_machine("hercules-lab")))
        self.device: _Device
        self.answers: dict[str, Any] = {}
        try:
            for name, fact in load_dasd_facts().items():
                work: Callable[[dict[str, Any]], Any] = getattr(self, f"_{fact['what']}")
                self.answers[name] = work(fact)
        finally:
            self.seam.close()

    # sysfs and VFIO

    def _subchannel(self, fact: dict[str, Any]) -> Any:
        folder = f"/sys/bus/css/devices/{fact['id']}"
        if not self.seam.exists(folder):
            return None
        names = ("type", "chpids", "pimpampom", "vpm", "modalias", "driver_override")
        there = {name: self._line(f"{folder}/{name}") for name in names if self.seam.exists(f"{folder}/{name}")}
        return {"id": fact["id"], **there, "driver": self.seam.link(f"{folder}/driver")}

    def _line(self, path: str) -> str:
        """The text; empty where it cannot be read, as the recorder had it."""
        return (self.seam.quiet(lambda: self.seam.read(path)) or b"").decode().rstrip("\n")

    def _ccw_device(self, fact: dict[str, Any]) -> Any:
        folder = f"/sys/bus/ccw/devices/{fact['id']}"
        if not self.seam.exists(folder):
            return None
        names = [name for name in fact if self.seam.exists(f"{folder}/{name}") and name != "driver"]
        there = {name: self._line(f"{folder}/{name}") for name in names}
        return {"id": fact["id"], **there, "driver": self.seam.link(f"{folder}/driver")}

    def _write(self, fact: dict[str, Any]) -> Any:
        try:
            self.seam.write(fact["path"], fact["value"])
            if (fact["path"], fact["value"]) == (_ONLINE, "1"):
                self._read_vtoc()
        except OSError as error:
            return {"errno": error.errno}
        return {"errno": 0}

    def _read_vtoc(self) -> None:
        """The kernel's own driver reads the VTOC last when it sets the volume online: the mechanism stays there."""
        css = self.seam.machine.css
        disk = css.config(next(css.schids())).device
        assert isinstance(disk, Dasd3390)
        disk.chain.position.seek(0, 1)

    def _vfio_open(self, fact: dict[str, Any]) -> Any:
        seam = self.seam
        number = seam.link(f"/sys/bus/mdev/devices/{_UUID}/iommu_group")
        container = seam.host.open("/dev/vfio/vfio", os.O_RDWR)
        group = seam.host.open(f"/dev/vfio/{number}", os.O_RDWR)
        status = bytearray(struct.pack("=II", 8, 0))
        seam.host.ioctl(group, vfio.VFIO_GROUP_GET_STATUS, status)
        answer = {
            "group": f"/dev/vfio/{number}",
            "api": seam.host.ioctl(container, vfio.VFIO_GET_API_VERSION),
            "group_flags": struct.unpack("=II", status)[1],
            "set_container": seam.descriptor(group, vfio.VFIO_GROUP_SET_CONTAINER, container),
            "set_iommu": seam.host.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU),
        }
        memory = seam.memory(_ROOM)
        answer["map"] = self._map(container, memory)
        fd = seam.device_fd(group, _UUID)
        info = seam.info(fd, vfio.VFIO_DEVICE_GET_INFO, INFO_SIZE, INFO_SIZE)
        _, flags, regions, irqs = struct.unpack_from("=IIII", info)
        self.device = _Device(seam, fd, memory)
        self.device.connect()
        return answer | {"info_flags": flags, "regions": regions, "irqs": irqs}

    def _map(self, container: int, memory: AnonymousMemory) -> int:
        argument = vfio_type1.IommuType1DmaMap(
            argsz=ctypes.sizeof(vfio_type1.IommuType1DmaMap), flags=3, vaddr=memory.address, iova=_BASE, size=_ROOM
        )
        return self.seam.host.ioctl(container, vfio_type1.VFIO_IOMMU_MAP_DMA, argument)

    def _region(self, fact: dict[str, Any]) -> Any:
        fd = self.device.fd
        raw = self.seam.info(fd, vfio.VFIO_DEVICE_GET_REGION_INFO, INFO_SIZE, INFO_SIZE, 0, fact["index"])
        _, flags, index, at, size = struct.unpack_from("=IIIIQ", raw)
        answer = {"index": index, "flags": flags, "size": size}
        if at:
            answer["type"], answer["subtype"] = struct.unpack_from("=II", raw, at + 8)
        return answer

    def _reset(self, fact: dict[str, Any]) -> Any:
        return {"rc": self.seam.host.ioctl(self.device.fd, vfio.VFIO_DEVICE_RESET)}

    def _schib(self, fact: dict[str, Any]) -> Any:
        raw = self.seam.host.pread(self.device.fd, fact["rc"], self.device.regions[2])
        return {"rc": len(raw), "schib": raw.hex()}

    # programs

    def _submit(self, orb: str) -> int:
        result = self.device.submit(orb, vfio_ccw.VFIO_CCW_ASYNC_CMD_HSCH << 2)
        return result if isinstance(result, int) else _RC_OF_ERROR[result]

    def _irb(self) -> str:
        region = self.seam.host.pread(self.device.fd, 124, self.device.regions[0])
        return region[24:120].hex()

    def _lay(self, fact: dict[str, Any]) -> list[int]:
        """Put a program and its data into memory; the data address of each CCW."""
        ccws, format_1 = fact["ccws"], int(fact["orb"][10:12], 16) & 0x80
        places = [_data_address(ccw, bool(format_1)) for ccw in ccws]
        self.device.put(_PROGRAM, bytes.fromhex("".join(ccws)))
        for number, ccw in enumerate(ccws):
            if format_1 and int(ccw[2:4], 16) & _IDA:
                self.device.put(places[number], b"".join(word.to_bytes(8, "big") for word in _IDAWS))
                places[number] = _IDAWS[0]
        for number, content in fact["data"].items():
            self.device.put(places[int(number)], b"\xee" * (len(content) // 2))
        for number, content in fact["write_data"].items():
            self.device.put(places[int(number)], bytes.fromhex(content))
        return places

    def _ccw(self, fact: dict[str, Any]) -> Any:
        fact = {"data": {}, "write_data": {}, **fact}
        places = self._lay(fact)
        self.device.io.read()
        answer: dict[str, Any] = {"rc": self._submit(fact["orb"]), "ret_code": self.device.return_code()}
        if answer["rc"] > 0:
            answer["irq"] = bool(self.device.io.read())
            answer["irb"] = self._irb()
            answer["data"] = {
                number: self.device.get(places[int(number)], len(text) // 2) for number, text in fact["data"].items()
            }
        return answer

    def _async(self, fact: dict[str, Any]) -> Any:
        self.device.io.read()
        result = self.device.command(_COMMANDS[fact["name"].split()[0]])
        return {
            "rc": result,
            "ret_code": self.device.return_code(1, 4),
            "irq": self.device.io.read(),
            "irb": self._irb(),
        }

    def _put(self, fact: dict[str, Any]) -> Any:
        suspends = "suspend" in fact["name"]
        if fact["rc"] > 0:
            self.device.put(_PROGRAM, bytes.fromhex("".join(_SUSPENDED if suspends else _LOOP)))
        result = self._submit("0000000008c2ff0000100000" if suspends else "0000000000c2ff0000100000")
        return {"rc": result, "ret_code": self.device.return_code()}

    def _wait(self, fact: dict[str, Any]) -> Any:
        self.seam.advance(0.05)
        interrupts = self.device.io.read()
        return {"irq": interrupts, "irb": self._irb()} if interrupts else {"irq": interrupts}
