"""Replay of ``zpci-hotplug``: slot power, recover, remove and rescan, functions that come and go while open."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pyvfio.abi import vfio
from pyvfio_backends.software.description import FunctionSpec

from . import infos
from .base import Replay
from .facts import Question
from .pci_facts import DEVICES, function, handles, slots
from .script import on
from .seam import INFO_SIZE
from .zpci_binding import only_guest_subchannels

__all__ = ["HotplugReplay"]

_NET, _RNG = "0011:00:00.0", "0030:00:00.0"
_NET_SLOT = "/sys/bus/pci/slots/00000010"
_PLUG = "device_add and device_del over QMP"
_CONFIG_AT = vfio.VFIO_PCI_CONFIG_REGION_INDEX << 40
_ROOT_DISK_SIZE = 258048 * 512  # bytes
_HOT_UID, _HOT_FID = 0x77, 0x88
_REPORT = struct.pack(">BBHI56x", 1, 0, 0, 0)  # version 1, action 0


class HotplugReplay(Replay):
    """See the module."""

    file = "zpci-hotplug"

    def restrict(self, spec: Any) -> None:
        """See `only_guest_subchannels`; this guest's root disk was smaller."""
        only_guest_subchannels(spec)
        spec.subchannels[-1].options["size"] = _ROOT_DISK_SIZE

    def after(self, question: Question, work: Callable[[], Any]) -> dict[str, Any]:
        """Do it, and look around as the recorder did."""
        value, error = self.seam.pair(work)
        self.seam.settle()
        self.step(question.what)
        found = handles(self.seam)
        return {
            "value": value,
            "error": error,
            "functions": sorted(found),
            "handles": found,
            "slots": {slot: attributes["power"] for slot, attributes in slots(self.seam).items()},
            "uevents": [lines[0] for lines in self.recorder.steps[-1].uevents],
        }

    @on("at boot", "functions")
    def functions(self, question: Question) -> Any:
        return {bdf: function(self.seam, bdf) for bdf in self.seam.listing(DEVICES)}

    @on("at boot", "slots")
    def slot_table(self, question: Question) -> Any:
        return slots(self.seam)

    @on("slot power", r"power <- (\w)(?: again| after x)?")
    def power(self, question: Question, text: str) -> Any:
        return self.after(question, lambda: self.seam.write(f"{_NET_SLOT}/power", text))

    @on("recover.*", r"(recover|reset|remove) <- (1)")
    def attribute(self, question: Question, name: str, text: str) -> Any:
        return self.after(question, lambda: self.seam.write(f"{DEVICES}/{_NET}/{name}", text))

    @on("recover.*", "reset_method")
    def reset_method(self, question: Question) -> Any:
        return {"value": self.seam.pair(lambda: self.seam.text(f"{DEVICES}/{_NET}/reset_method"))}

    @on("recover.*", "report_error <- (short|64 bytes, version 1, action 0)")
    def report(self, question: Question, what: str) -> Any:
        data = _REPORT[:2] if what == "short" else _REPORT
        return self.after(question, lambda: self.seam.write(f"{DEVICES}/{_NET}/report_error", data))

    @on("recover.*", "bus rescan <- 1")
    def rescan(self, question: Question) -> Any:
        return self.after(question, lambda: self.seam.write("/sys/bus/pci/rescan", "1"))

    # functions that come and go

    @on(_PLUG, r"device_add zpci \+ virtio-rng-pci \(uid 0x77 fid 0x88\)")
    def add(self, question: Question) -> Any:
        spec = FunctionSpec(
            uid=_HOT_UID, fid=_HOT_FID, model="virtio-rng", driver="virtio-pci", options={"legacy": True}
        )
        return self.after(question, lambda: self.seam.plug_function(spec))

    @on(_PLUG, "device_add without a zpci device")
    def add_plain(self, question: Question) -> Any:
        """QEMU makes up the identity: the lowest free uid and fid."""
        spec = FunctionSpec(uid=1, fid=0, model="virtio-rng", driver="virtio-pci", options={"legacy": True})
        return self.after(question, lambda: self.seam.plug_function(spec))

    @on(_PLUG, "the new function")
    def new_function(self, question: Question) -> Any:
        name = "0001:00:00.0" if question.id.endswith("(2)") else "0077:00:00.0"
        return function(self.seam, name)

    @on(_PLUG, "err irq index")
    def open_and_err(self, question: Question) -> Any:
        path = f"{DEVICES}/0077:00:00.0"
        self.seam.write(f"{path}/driver_override", "vfio-pci")
        self.seam.write(f"{path}/driver/unbind", "0077:00:00.0")
        self.seam.write("/sys/bus/pci/drivers_probe", "0077:00:00.0")
        self.group_number = self.seam.link(f"{path}/iommu_group")
        self.container = self.seam.host.open("/dev/vfio/vfio", self.RW)
        self.group = self.seam.host.open(f"/dev/vfio/{self.group_number}", self.RW)
        self.seam.descriptor(self.group, vfio.VFIO_GROUP_SET_CONTAINER, self.container)
        self.seam.host.ioctl(self.container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU)
        self.device = self.seam.device_fd(self.group, "0077:00:00.0")
        self.request = self.seam.eventfd()
        self._eventfd(vfio.VFIO_PCI_REQ_IRQ_INDEX)
        self.seam.new_events()
        return self.seam.attempt(lambda: self._eventfd(vfio.VFIO_PCI_ERR_IRQ_INDEX))

    def _eventfd(self, index: int) -> int:
        flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
        return self.seam.set_irqs(self.device, index, flags, 0, 1, struct.pack("=i", self.request.fileno()))

    @on(_PLUG, "device_del while vfio-pci has it open")
    def unplug_open(self, question: Question) -> Any:
        return self.after(question, lambda: self.seam.unplug_function(_HOT_FID))

    @on(_PLUG, "after device_del")
    def unplugged(self, question: Question) -> Any:
        return {
            "request_eventfd": self.request.read(),
            "config": self.seam.pair(lambda: self.seam.host.pread(self.device, 4, _CONFIG_AT).hex()),
            "reset": self.seam.pair(lambda: self.seam.host.ioctl(self.device, vfio.VFIO_DEVICE_RESET)),
            "sysfs": self.seam.exists(f"{DEVICES}/0077:00:00.0"),
            "info": infos.device_info(self.seam.info(self.device, vfio.VFIO_DEVICE_GET_INFO, INFO_SIZE, INFO_SIZE)),
        }

    @on(_PLUG, "close everything")
    def close_everything(self, question: Question) -> Any:
        return self.after(question, lambda: self.seam.close_all([self.device, self.group, self.container]))

    @on(_PLUG, "after close")
    def closed(self, question: Question) -> Any:
        return {
            "sysfs": self.seam.exists(f"{DEVICES}/0077:00:00.0"),
            "group": self.seam.exists(f"/dev/vfio/{self.group_number}"),
        }

    @on(_PLUG, r"device_del of a boot-time function \(rng\)")
    def unplug_boot(self, question: Question) -> Any:
        fid = int(self.seam.text(f"{DEVICES}/{_RNG}/function_id"), 16)
        return self.after(question, lambda: self.seam.unplug_function(fid))

    @on(_PLUG, "wait")
    def wait(self, question: Question) -> Any:
        return self.after(question, lambda: self.seam.advance(1.0))
