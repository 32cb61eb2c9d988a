"""Replay of two zPCI functions' way to vfio-pci, by new_id and by driver_override."""

from __future__ import annotations

from typing import Any

from pyvfio_backends.software import MachineSpec

from .base import Replay
from .facts import Question
from .pci_facts import DEVICES, function, slots
from .script import leaving, on

__all__ = ["DRIVERS", "FIRST", "SECOND", "ZpciBinding", "only_guest_subchannels"]

FIRST, SECOND = "0011:00:00.0", "0020:00:00.0"
DRIVERS = "/sys/bus/pci/drivers"
_NOBODY = "0099:00:00.0"
_GUEST_SUBCHANNELS = 4  # console, two shares, root disk
_BIND = r"bind .*"


def only_guest_subchannels(spec: MachineSpec) -> None:
    """The guests of the zPCI recordings had no channel devices of their own."""
    spec.subchannels = spec.subchannels[:_GUEST_SUBCHANNELS]
    used = {chpid for subchannel in spec.subchannels for chpid in subchannel.chpids}
    spec.paths = [path for path in spec.paths if path.chpid in used]
    spec.modules = ("vfio", "vfio_iommu_type1", "iommufd", "vfio_pci")


class ZpciBinding(Replay):
    """See the module."""

    def restrict(self, spec: MachineSpec) -> None:
        """See `only_guest_subchannels`."""
        only_guest_subchannels(spec)

    def bdf(self, question: Question) -> str:
        """The function that a "bind" section is about."""
        return question.section.split()[1]

    def group_of(self, bdf: str) -> str | None:
        """The number of a function's IOMMU group."""
        return self.seam.link(f"{DEVICES}/{bdf}/iommu_group")

    @on("functions", "list")
    def functions(self, question: Question) -> Any:
        found = self.seam.listing(DEVICES)
        return {
            "bdfs": found,
            "slots": slots(self.seam),
            "parents": ["/sys/" + self.seam.host.readlink(f"{DEVICES}/{bdf}").lstrip("./") for bdf in found],
        }

    @on("group of a device that another driver has", "dev_vfio")
    def dev_vfio(self, question: Question) -> Any:
        return {"names": self.seam.listing("/dev/vfio"), "group": self.group_of(FIRST)}

    @on("group of a device that another driver has", "open its group")
    def open_foreign(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.open(f"/dev/vfio/{self.group_of(FIRST)}", self.RW))

    @on(_BIND, "before")
    def before(self, question: Question) -> Any:
        return function(self.seam, self.bdf(question))

    @on(_BIND, "(new_id|remove_id)(?: while .*| again| nonsense)?")
    def new_id(self, question: Question, name: str) -> Any:
        text = "nonsense" if question.what.endswith("nonsense") else "1af4 1000"
        return self.seam.attempt(lambda: self.seam.write(f"{DRIVERS}/vfio-pci/{name}", text))

    @on(_BIND, "unbind(?: again)?")
    def unbind(self, question: Question) -> Any:
        name = "vfio-pci" if question.what.endswith("again") else "virtio-pci"
        return self.seam.attempt(lambda: self.seam.write(f"{DRIVERS}/{name}/unbind", self.bdf(question)))

    @on(_BIND, "driver after unbind")
    def driver(self, question: Question) -> Any:
        return {"driver": self.seam.link(f"{DEVICES}/{self.bdf(question)}/driver")}

    @on(_BIND, "(?:vfio-pci/)?bind(?: again| without an id)?")
    def bind(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.write(f"{DRIVERS}/vfio-pci/bind", self.bdf(question)))

    @on(_BIND, "bind unknown device")
    def bind_nobody(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.write(f"{DRIVERS}/vfio-pci/bind", _NOBODY))

    @on(_BIND, "driver_override")
    def override(self, question: Question) -> Any:
        path = f"{DEVICES}/{self.bdf(question)}/driver_override"
        return self.seam.attempt(lambda: self.seam.write(path, "vfio-pci"))

    @on(f"{_BIND}|cdev and iommufd", "drivers_probe(?: while bound)?")
    def probe(self, question: Question) -> Any:
        bdf = FIRST if question.section == "cdev and iommufd" else self.bdf(question)
        return self.seam.attempt(lambda: self.seam.write("/sys/bus/pci/drivers_probe", bdf))

    @on(_BIND, "after")
    def after(self, question: Question) -> Any:
        bdf = self.bdf(question)
        path, number = f"{DEVICES}/{bdf}", self.group_of(bdf)
        group = f"/sys/kernel/iommu_groups/{number}"
        answer = {
            "driver": self.seam.link(f"{path}/driver"),
            "group": number,
            "dev_vfio": self.seam.listing("/dev/vfio"),
            "group_type": self.seam.text(f"{group}/type"),
            "reserved_regions": self.seam.text(f"{group}/reserved_regions"),
            "group_devices": self.seam.listing(f"{group}/devices"),
            "group_files": self.seam.listing(group),
            "vfio_dev": self.seam.pair(lambda: sorted(self.seam.host.listdir(f"{path}/vfio-dev"))),
            "handle": self.seam.text(f"{path}/function_handle"),
        }
        way = "new_id" if bdf == FIRST else "driver_override"
        self.step(f"{bdf} to vfio-pci by {way}")
        return answer

    @leaving("group of a device that another driver has")
    def loaded(self) -> None:
        self.step("modules loaded")
