"""Replay of ``zpci-vfio``: interrupts, reset, features, removal while open, and the cdev with iommufd."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any

from pyvfio.abi import iommufd, pci_regs, vfio
from pyvfio.abi.request import VFIO_BASE, VFIO_TYPE, request

from . import infos
from .facts import Question
from .iommufd import Iommufd
from .pci_facts import DEVICES
from .script import entering, leaving, on
from .seam import INFO_SIZE, Blocked, unmapped_address
from .zpci_binding import DRIVERS, FIRST
from .zpci_device import ZpciDevice

__all__ = ["ZpciReplay"]

_IRQ = "interrupts"
_RESET = "reset and features"
_UNBIND = "unbind while open"
_CDEV = "cdev and iommufd"
_FIXED = 0x100100000
_RESET_HEAD = 24  # bytes of the buffer that the recording shows
_NONE, _BOOL, _EVENTFD = vfio.VFIO_IRQ_SET_DATA_NONE, vfio.VFIO_IRQ_SET_DATA_BOOL, vfio.VFIO_IRQ_SET_DATA_EVENTFD
_TRIGGER, _MASK = vfio.VFIO_IRQ_SET_ACTION_TRIGGER, vfio.VFIO_IRQ_SET_ACTION_MASK
_GET, _SET, _PROBE = vfio.VFIO_DEVICE_FEATURE_GET, vfio.VFIO_DEVICE_FEATURE_SET, vfio.VFIO_DEVICE_FEATURE_PROBE
_INTX, _MSI, _MSIX, _ERR, _REQ = range(vfio.VFIO_PCI_NUM_IRQS)

# what -> (index, flags, start, count, descriptors): letters are eventfds, "-" is -1, "x" a closed number
_CALLS: dict[str, tuple[int, int, int, int, str]] = {
    "INTx eventfd": (_INTX, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "MSI eventfd": (_MSI, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "MSI-X eventfd start 1 while disabled": (_MSIX, _EVENTFD | _TRIGGER, 1, 1, "b"),
    "MSI-X disable while disabled (none, count 0)": (_MSIX, _NONE | _TRIGGER, 0, 0, ""),
    "MSI-X eventfds 0..1": (_MSIX, _EVENTFD | _TRIGGER, 0, 2, "ab"),
    "loopback vector 0 (none)": (_MSIX, _NONE | _TRIGGER, 0, 1, ""),
    "loopback vector 1 (bool)": (_MSIX, _BOOL | _TRIGGER, 1, 1, "1"),
    "loopback vector 2 (not set up)": (_MSIX, _NONE | _TRIGGER, 2, 1, ""),
    "mask MSI-X": (_MSIX, _NONE | _MASK, 0, 1, ""),
    "grow to vector 2": (_MSIX, _EVENTFD | _TRIGGER, 2, 1, "c"),
    "count past the table": (_MSIX, _EVENTFD | _TRIGGER, 0, 5, "abcab"),
    "INTx while MSI-X is on": (_INTX, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "MSI while MSI-X is on": (_MSI, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "eventfd -1 for vector 0": (_MSIX, _EVENTFD | _TRIGGER, 0, 1, "-"),
    "bad fd": (_MSIX, _EVENTFD | _TRIGGER, 0, 1, "x"),
    "request index eventfd": (_REQ, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "request loopback": (_REQ, _NONE | _TRIGGER, 0, 1, ""),
    "err index eventfd": (_ERR, _EVENTFD | _TRIGGER, 0, 1, "a"),
    "two actions": (_MSIX, _NONE | _MASK | _TRIGGER, 0, 1, ""),
    "two data types": (_MSIX, _NONE | _BOOL | _TRIGGER, 0, 1, "1"),
    "MSI-X disable": (_MSIX, _NONE | _TRIGGER, 0, 0, ""),
}
_FEATURES = {
    "get 0 (vf token)": _GET,
    "set vf token probe": _PROBE | _SET,
    "migration get": _GET | 1,
    "low power entry probe": _PROBE | _SET | 3,
    "unknown probe": _PROBE | _GET | 999,
}


class ZpciReplay(ZpciDevice):
    """See the module."""

    file = "zpci-vfio"
    finish_step = "end"

    # interrupts

    @entering(_IRQ)
    def make_eventfds(self) -> None:
        self.signals = [self.seam.eventfd() for _ in "abc"]

    @on(_IRQ, "eventfds")
    def counts(self, question: Question) -> Any:
        return {"values": [signal.read() for signal in self.signals]}

    @on(_IRQ, "sysfs")
    def irq_directory(self, question: Question) -> Any:
        return {"msi_irqs": self.seam.pair(lambda: sorted(self.seam.host.listdir(f"{DEVICES}/{FIRST}/msi_irqs")))}

    def otherwise(self, question: Question) -> Any:
        """Most facts of the section are one call of the table."""
        if question.section != _IRQ or question.what not in _CALLS:
            return super().otherwise(question)
        index, flags, start, count, given = _CALLS[question.what]
        closed = os.dup(0)
        os.close(closed)
        numbers = {"-": -1, "x": closed, **dict(zip("abc", (one.fileno() for one in self.signals), strict=True))}
        data = bytes([1]) if given == "1" else b"".join(struct.pack("=i", numbers[letter]) for letter in given)
        return self.seam.attempt(lambda: self.seam.set_irqs(self.device, index, flags, start, count, data))

    # reset and features

    @on(_RESET, "VFIO_DEVICE_RESET")
    def reset(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.device, vfio.VFIO_DEVICE_RESET))

    @on(_RESET, "command after reset")
    def command(self, question: Question) -> Any:
        return {"hex": self.config(pci_regs.PCI_COMMAND, 2).hex()}

    @on(f"{_RESET}|{_CDEV}", r"hot reset info(?: argsz (\d+)| by cdev)")
    def hot_reset_info(self, question: Question, argsz: str | None) -> Any:
        self.buffer = bytearray(512)
        struct.pack_into("=I", self.buffer, 0, int(argsz or 268))
        code = vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO
        self.show = infos.hot_reset_info
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.device, code, self.buffer))

    @on(f"{_RESET}|{_CDEV}", "its buffer")
    def its_buffer(self, question: Question) -> Any:
        return {"hex": self.show(bytes(self.buffer[: ctypes.sizeof(iommufd.HwInfo) if self.hw else _RESET_HEAD]))}

    hw = False

    @on(f"{_RESET}|{_CDEV}", "(?:pci )?hot reset(?: by cdev)?, count 0")
    def hot_reset(self, question: Question) -> Any:
        code = vfio.VFIO_DEVICE_PCI_HOT_RESET
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.device, code, vfio.PciHotReset.sized()))

    @on(_RESET, "feature (.*)")
    def feature(self, question: Question, what: str) -> Any:
        argument = bytearray(struct.pack("=II", 64, _FEATURES[what]) + bytes(56))
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.device, vfio.VFIO_DEVICE_FEATURE, argument))

    @on(_RESET, "unknown ioctl")
    def unknown(self, question: Question) -> Any:
        code = request(VFIO_TYPE, VFIO_BASE + 80)
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.device, code, bytearray(64)))

    @on(_RESET, "ioctl on EFAULT address")
    def fault(self, question: Question) -> Any:
        address = unmapped_address()
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.device, vfio.VFIO_DEVICE_GET_INFO, address))

    # removal while open

    @on(_UNBIND, "request eventfd")
    def unbind_open(self, question: Question) -> Any:
        for signal in self.signals:
            signal.read()
        self.remover = Blocked(self.seam.machine.clock, lambda: self.seam.write(f"{DRIVERS}/vfio-pci/unbind", FIRST))
        return {"value": self.signals[0].read(), "blocked": self.remover.blocked}

    @on(_UNBIND, "config read while the remover waits")
    def config_meanwhile(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.config(0, 4).hex())

    @on(_UNBIND, "after closing the device descriptors")
    def devices_closed(self, question: Question) -> Any:
        self.seam.close_all([self.device, self.device_again])
        return {
            "unbind": self.remover.outcome(),
            "driver": self.seam.link(f"{DEVICES}/{FIRST}/driver"),
            "dev_vfio": self.seam.listing("/dev/vfio"),
        }

    # cdev and iommufd

    @entering(_CDEV)
    def prepare_cdev(self) -> None:
        self.seam.close_all([self.group])
        self.seam.write(f"{DEVICES}/{FIRST}/driver_override", "vfio-pci")
        self.ioas = Iommufd(self.seam, self.seam.host.open("/dev/iommu", self.RW))

    @on(_CDEV, "vfio-dev")
    def vfio_dev(self, question: Question) -> Any:
        name = self.seam.listing(f"{DEVICES}/{FIRST}/vfio-dev")[0]
        path = f"{DEVICES}/{FIRST}/vfio-dev/{name}"
        self.device = self.seam.host.open(f"/dev/vfio/devices/{name}", self.RW)
        return {
            "name": name,
            "files": self.seam.listing(path),
            "dev": self.seam.text(f"{path}/dev"),
            "nodes": self.seam.listing("/dev/vfio/devices"),
        }

    @on(_CDEV, "get_info before bind")
    def info_unbound(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.raw_info(self.device).hex())

    @on(_CDEV, r"bind(?: flags/argsz (15)| (bad fd)| again)?")
    def bind_cdev(self, question: Question, argsz: str | None, bad: str | None) -> Any:
        closed = os.dup(0)
        os.close(closed)
        argument = vfio.DeviceBindIommufd(argsz=int(argsz or 16), iommufd=closed if bad else self.ioas.fd)

        def work() -> int:
            self.seam.call(self.device, vfio.VFIO_DEVICE_BIND_IOMMUFD, argument)
            self.dev_id = argument.out_devid
            self.ioas.alloc()
            return argument.out_devid

        return self.seam.attempt(work)

    @on(_CDEV, "open the group meanwhile")
    def group_meanwhile(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.open(f"/dev/vfio/{self.group_of(FIRST)}", self.RW))

    @on(_CDEV, "ranges (?:before|after) attach")
    def ioas_ranges(self, question: Question) -> Any:
        return self.ioas.ranges()

    @on(_CDEV, "detach(?: before attach)?")
    def detach(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.ioas.detach(self.device))

    @on(_CDEV, "attach (?:to the ioas|again|to a (bad) id)")
    def attach(self, question: Question, bad: str | None) -> Any:
        return self.seam.attempt(lambda: self.ioas.attach(self.device, 99 if bad else self.ioas.ioas))

    @on(_CDEV, "map (.*)")
    def map_ioas(self, question: Question, what: str) -> Any:
        page, readable = self.page, iommufd.IOMMU_IOAS_MAP_READABLE
        iova, length, vaddr, access = _FIXED, 4 * page, self.pool.address, readable | iommufd.IOMMU_IOAS_MAP_WRITEABLE
        match what:
            case "any iova":
                given = self.seam.attempt(lambda: self.ioas.map(None, page, vaddr))
                return {"value": "given"} if given.get("value") else given
            case "length 0":
                length = 0
            case "unaligned":
                iova += page // 2
            case "outside":
                iova = page
            case "unmapped vaddr":
                iova, length, vaddr = _FIXED + 16 * page, page, unmapped_address()
            case "no permission flags":
                iova, access = _FIXED + 16 * page, 0
        return self.seam.attempt(lambda: self.ioas.map(iova, length, vaddr, access))

    @on(_CDEV, r"unmap (part|unknown|whole|all \(.*\))")
    def unmap_ioas(self, question: Question, what: str) -> Any:
        page = self.page
        iova, length = {
            "part": (_FIXED, page),
            "unknown": (_FIXED + 64 * page, page),
            "whole": (_FIXED, 4 * page),
        }.get(what, (0, (1 << 64) - 1))
        return self.seam.attempt(lambda: self.ioas.unmap(iova, length))

    @on(_CDEV, "get_hw_info .*")
    def hw_info(self, question: Question) -> Any:
        self.buffer = bytearray(bytes(iommufd.HwInfo.sized(dev_id=self.dev_id)))
        self.show = infos.hw_info
        answer = self.seam.attempt(lambda: self.seam.host.ioctl(self.ioas.fd, iommufd.IOMMU_GET_HW_INFO, self.buffer))
        self.hw = True
        return answer

    @on(_CDEV, "destroy ioas(?: in use)?")
    def destroy(self, question: Question) -> Any:
        self.hw = False
        return self.seam.attempt(self.ioas.destroy)

    @on(_CDEV, "device info by cdev")
    def info_cdev(self, question: Question) -> Any:
        return infos.device_info(self.raw_info(self.device, INFO_SIZE))

    @leaving(_CDEV)
    def close_everything(self) -> None:
        fds = [self.device, self.second_device, self.second, self.container, self.other, self.ioas.fd]
        self.seam.close_all(fds)
