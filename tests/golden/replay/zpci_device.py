"""Replay of vfio-pci's device file on a zPCI function: infos, configuration space and BARs."""

from __future__ import annotations

import ctypes
from typing import Any

from pyvfio.abi import pci_regs, vfio, vfio_zdev
from pyvfio.abi.layout import parse_capability_chain

from . import infos
from .facts import Question
from .pci_facts import DEVICES
from .script import entering, on
from .seam import INFO_SIZE
from .zpci_binding import FIRST
from .zpci_dma import ZpciDma

__all__ = ["ZpciDevice"]

_REGION_SHIFT = 40  # VFIO_PCI_OFFSET_SHIFT
_CONFIG = vfio.VFIO_PCI_CONFIG_REGION_INDEX
_CONFIG_SIZE = 256
_CAP_BYTES = 16
_REGION_ARGSZ = 512
_COMMAND_ON = pci_regs.PCI_COMMAND_MEMORY | pci_regs.PCI_COMMAND_MASTER


class ZpciDevice(ZpciDma):
    """See the module; `device` is the first function's descriptor."""

    @on("device of the first group", "get_device_fd again")
    def device_twice(self, question: Question) -> Any:
        def work() -> str:
            self.device = self.seam.device_fd(self.group, FIRST)
            self.device_again = self.seam.device_fd(self.group, FIRST)
            return "a second descriptor" if self.device_again != self.device else "the same"

        return self.seam.attempt(work)

    # infos

    @entering("device info")
    def snapshot(self) -> None:
        self.step("devices open")

    def raw_info(self, fd: int, argsz: int = INFO_SIZE) -> bytes:
        """``VFIO_DEVICE_GET_INFO`` with this argsz, in a buffer that is larger."""
        return self.seam.info(fd, vfio.VFIO_DEVICE_GET_INFO, 128, argsz)

    @on("device info", r"get_info argsz (\d+)")
    def device_info(self, question: Question, argsz: str) -> Any:
        return self.seam.attempt(lambda: infos.device_info(self.raw_info(self.device, int(argsz))))

    @on("second device", "info")
    def second_info(self, question: Question) -> Any:
        return infos.device_info(self.raw_info(self.second_device))

    @on("device info", "cap zpci (base|group|pfip)")
    def zpci_cap(self, question: Question, name: str) -> Any:
        raw = self.raw_info(self.device)
        head = vfio.DeviceInfo.from_buffer_copy(raw)
        caps = {cap.id: cap for cap in parse_capability_chain(raw, head.cap_offset, "golden")}
        if name == "base":
            cap = caps[vfio.VFIO_DEVICE_INFO_CAP_ZPCI_BASE]
            base = cap.read(vfio_zdev.DeviceInfoCapZpciBase)
            numbers = {key: getattr(base, key) for key in ("pchid", "vfn", "fmb_length", "pft", "gid")}
            words = {key: hex(getattr(base, key)) for key in ("start_dma", "end_dma", "fh")}
            return {"version": cap.version, **numbers, **words}
        if name == "group":
            cap = caps[vfio.VFIO_DEVICE_INFO_CAP_ZPCI_GROUP]
            group = cap.read(vfio_zdev.DeviceInfoCapZpciGroup)
            keys = ("flags", "mui", "noi", "maxstbl", "reserved", "imaxstbl")
            numbers = {key: getattr(group, key) for key in keys}
            words = {"dasm": hex(group.dasm), "msi_addr": hex(group.msi_addr)}
            return {"version": cap.version, "version_": group.version, **numbers, **words}
        cap = caps[vfio.VFIO_DEVICE_INFO_CAP_ZPCI_PFIP]
        pfip = cap.read(vfio_zdev.DeviceInfoCapZpciPfip)
        content = cap.trailing_bytes(vfio_zdev.DeviceInfoCapZpciPfip, pfip.size)
        return {"version": cap.version, "size": pfip.size, "hex": content.hex()}

    @on("regions", r"region (\d)(?: argsz (\d+))?")
    def region(self, question: Question, index: str, argsz: str | None) -> Any:
        size = int(argsz or _REGION_ARGSZ)
        code = vfio.VFIO_DEVICE_GET_REGION_INFO
        return self.seam.attempt(lambda: infos.region_info(self.seam.info(self.device, code, 128, size, 0, int(index))))

    @on("irqs", r"irq (\d)")
    def irq(self, question: Question, index: str) -> Any:
        code, size = vfio.VFIO_DEVICE_GET_IRQ_INFO, ctypes.sizeof(vfio.IrqInfo)
        return self.seam.attempt(lambda: infos.irq_info(self.seam.info(self.device, code, size, size, 0, int(index))))

    # configuration space

    def config(self, offset: int, count: int) -> bytes:
        """Read configuration space through the device."""
        return self.seam.host.pread(self.device, count, (_CONFIG << _REGION_SHIFT) + offset)

    def sysfs_config(self) -> bytes:
        """Read it through sysfs, which shows the hardware's."""
        return self.seam.read(f"{DEVICES}/{FIRST}/config")

    @on("config space", "whole, through vfio")
    def whole(self, question: Question) -> Any:
        size = int(
            infos.region_info(self.seam.info(self.device, vfio.VFIO_DEVICE_GET_REGION_INFO, 32, 32, 0, 7))["size"]
        )
        data = self.config(0, size)
        return {
            "length": len(data),
            "hex": data[:_CONFIG_SIZE].hex(),
            "tail_nonzero": any(data[_CONFIG_SIZE:]),
        }

    @on("config space", "whole, through sysfs")
    def whole_sysfs(self, question: Question) -> Any:
        data = self.sysfs_config()
        return {"length": len(data), "hex": data.hex()}

    @on("config space", "where they differ")
    def differences(self, question: Question) -> Any:
        pairs = zip(self.config(0, _CONFIG_SIZE), self.sysfs_config(), strict=False)
        return {"offsets": [hex(at) for at, (mine, theirs) in enumerate(pairs) if mine != theirs]}

    @on("config space", r"read (\d) bytes?( unaligned)?")
    def read_some(self, question: Question, count: str, unaligned: str | None) -> Any:
        return self.seam.attempt(lambda: self.config(1 if unaligned else 0, int(count)).hex())

    @on("config space", "read (at|across|past) the end")
    def read_end(self, question: Question, where: str) -> Any:
        offset, count = {"at": (_CONFIG_SIZE - 4, 4), "across": (_CONFIG_SIZE - 4, 8), "past": (_CONFIG_SIZE, 4)}[where]
        return self.seam.attempt(lambda: self.config(offset, count).hex())

    @on("config space", "write .*")
    def write_config(self, question: Question) -> Any:
        offset, data = int(question.request["offset"], 16), bytes.fromhex(question.request["data"])
        before = self.config(offset, len(data)).hex()
        written, error = self.seam.pair(
            lambda: self.seam.host.pwrite(self.device, data, (_CONFIG << _REGION_SHIFT) + offset)
        )
        return {
            "written": written,
            "error": error,
            "before": before,
            "after": self.config(offset, len(data)).hex(),
            "sysfs": self.sysfs_config()[offset : offset + len(data)].hex(),
        }

    @on("config space", "capabilities")
    def capabilities(self, question: Question) -> Any:
        space = self.config(0, _CONFIG_SIZE)
        found: list[dict[str, str]] = []
        at = space[pci_regs.PCI_CAPABILITY_LIST]
        while at and len(found) < _CONFIG_SIZE:
            content = space[at : at + _CAP_BYTES].hex()
            found.append({"offset": hex(at), "id": hex(space[at]), "bytes": content})
            at = space[at + 1]
        return {"caps": found}

    @on("config space", "extended capabilities")
    def extended(self, question: Question) -> Any:
        head = self.seam.quiet(lambda: self.config(_CONFIG_SIZE, 4)) or bytes(4)
        return {"caps": [head.hex()] if any(head) else []}

    # BARs

    def bar(self, index: int, offset: int, count: int) -> dict[str, Any]:
        """Read a region."""
        where = (index << _REGION_SHIFT) + offset
        return self.seam.attempt(lambda: self.seam.host.pread(self.device, count, where).hex())

    def size_of(self, index: int) -> int:
        """The size of a region."""
        raw = self.seam.info(self.device, vfio.VFIO_DEVICE_GET_REGION_INFO, 32, 32, 0, index)
        return vfio.RegionInfo.from_buffer_copy(raw).size

    @on("BARs", r"BAR(\d) \(size 0\) read")
    @on("BARs", r"BAR(\d) read (\d+) at (\d)(?: \(unaligned\))?")
    def read_bar(self, question: Question, index: str, count: str = "4", offset: str = "0") -> Any:
        return self.bar(int(index), int(offset), int(count))

    @on("BARs", r"BAR(\d) read (across|at) the end")
    def read_bar_end(self, question: Question, index: str, where: str) -> Any:
        size = self.size_of(int(index))
        return self.bar(int(index), size - 4 if where == "across" else size, 8)

    @on("BARs", r"BAR(\d) mmap")
    def mmap_bar(self, question: Question, index: str) -> Any:
        offset = int(index) << _REGION_SHIFT
        return self.seam.attempt(lambda: self.seam.host.mmap(self.device, self.page, offset=offset))

    @on("BARs", r"BAR(\d) read with memory decode off")
    def read_bar_off(self, question: Question, index: str) -> Any:
        command = (_CONFIG << _REGION_SHIFT) + pci_regs.PCI_COMMAND
        # Off is command 0, on again memory and bus master: what the recording's next look at it shows.
        self.seam.host.pwrite(self.device, bytes(2), command)
        answer = self.bar(int(index), 0, 4)
        self.seam.host.pwrite(self.device, _COMMAND_ON.to_bytes(2, "little"), command)
        return answer

    @on("BARs", "VGA region")
    def vga(self, question: Question) -> Any:
        return self.bar(vfio.VFIO_PCI_VGA_REGION_INDEX, 0, 4)

    @on("reset and features", "bad region read")
    def bad_region(self, question: Question) -> Any:
        return self.bar(vfio.VFIO_PCI_NUM_REGIONS, 0, 4)
