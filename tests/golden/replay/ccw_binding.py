"""Replay of a subchannel's way from its driver to vfio_ccw, and of the making of an mdev."""

from __future__ import annotations

from typing import Any

from .base import Replay
from .facts import Question
from .script import on

__all__ = ["CSS", "DEVNO", "MDEV", "OTHER_UUID", "SCHID", "SUBCHANNEL", "TYPES", "UUID", "CcwBinding"]

SCHID = "0.0.0005"
DEVNO = "0.0.1001"
UUID = "66826a94-72c4-557f-beca-d135a70628e9"
OTHER_UUID = "0b2b9f3a-35d5-5d51-9b6a-3f6b40a1f1c2"
CSS = "/sys/bus/css"
SUBCHANNEL = f"/sys/devices/css0/{SCHID}"
TYPES = f"{SUBCHANNEL}/mdev_supported_types"
MDEV = f"/sys/bus/mdev/devices/{UUID}"
_BIND = f"bind {DEVNO}.*|cdev and iommufd"


class CcwBinding(Replay):
    """See the module."""

    @on("start", "online <- 0")
    def offline(self, question: Question) -> Any:
        answer = self.seam.attempt(lambda: self.seam.write(f"/sys/bus/ccw/devices/{DEVNO}/online", "0"))
        self.step(f"{DEVNO} offline")
        return answer

    @on("bind.*", "before")
    def before(self, question: Question) -> Any:
        return {
            "ccw_driver": self.seam.link(f"/sys/bus/ccw/devices/{DEVNO}/driver"),
            "css_driver": self.seam.link(f"{SUBCHANNEL}/driver"),
            **{name: self.seam.text(f"{SUBCHANNEL}/{name}") for name in ("driver_override", "modalias", "type")},
        }

    @on("bind.*", "(bind) to (vfio_ccw) while io_subchannel has it")
    @on("bind.*", "(?:(vfio_ccw|io_subchannel)/(bind|unbind))")
    def bind(self, question: Question, first: str, second: str) -> Any:
        driver, verb = (second, first) if first == "bind" else (first, second)
        return self.seam.attempt(lambda: self.seam.write(f"{CSS}/drivers/{driver}/{verb}", SCHID))

    @on("bind.*", "driver_override <- (.*)")
    def override(self, question: Question, text: str) -> Any:
        return self.seam.attempt(lambda: self.seam.write(f"{SUBCHANNEL}/driver_override", text))

    @on("bind.*", "after unbind")
    def after_unbind(self, question: Question) -> Any:
        self.step(f"unbind {SCHID} from io_subchannel")
        return {
            "css_driver": self.seam.link(f"{SUBCHANNEL}/driver"),
            "ccw_device_exists": self.seam.exists(f"/sys/bus/ccw/devices/{DEVNO}"),
            "dev_busid": self.seam.pair(lambda: self.seam.text(f"{SUBCHANNEL}/dev_busid")),
            "driver_override": self.seam.text(f"{SUBCHANNEL}/driver_override"),
        }

    @on("bind.*", "after bind")
    def after_bind(self, question: Question) -> Any:
        self.step(f"bind {SCHID} to vfio_ccw")
        return {"css_driver": self.seam.link(f"{SUBCHANNEL}/driver"), "children": self.seam.listing(SUBCHANNEL)}

    @on("bind.*", "types")
    def types(self, question: Question) -> Any:
        return {
            kind: {
                name: self.seam.text(f"{TYPES}/{kind}/{name}") for name in ("available_instances", "device_api", "name")
            }
            for kind in self.seam.listing(TYPES)
        }

    @on(_BIND, "create <- (not a uuid|short uuid|uuid|same uuid|second uuid.*)")
    def create(self, question: Question, text: str) -> Any:
        content = {"not a uuid": "not-a-uuid", "short uuid": UUID[:-1]}.get(text, UUID)
        if text.startswith("second"):
            content = OTHER_UUID
        return self.seam.attempt(lambda: self.seam.write(f"{TYPES}/vfio_ccw-io/create", content + "\n"))

    @on(_BIND, "mdev")
    def mdev(self, question: Question) -> Any:
        self.step(f"create mdev {UUID}")
        path = f"{SUBCHANNEL}/{UUID}"
        group = self.seam.link(f"{MDEV}/iommu_group")
        target = self.seam.host.readlink(MDEV)
        return {
            "available_instances": self.seam.text(f"{TYPES}/vfio_ccw-io/available_instances"),
            "path": "/sys/" + target.lstrip("./"),
            "driver": self.seam.link(f"{MDEV}/driver"),
            "group": group,
            "files": self.seam.listing(path),
            "vfio_dev": self.seam.listing(f"{path}/vfio-dev"),
            "group_name": self.seam.pair(lambda: self.seam.text(f"/sys/kernel/iommu_groups/{group}/name")),
            "dev_vfio": self.seam.listing("/dev/vfio"),
        }
