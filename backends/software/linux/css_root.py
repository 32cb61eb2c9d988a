"""``/sys/devices/css0``: its own files, and the subchannels below it, which are built when they are looked up."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.device_sysfs import DeviceDirectory
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.css import Css

__all__ = ["CssRoot"]

_POOLS = "poolinfo - 0.1\nairq_iv_cache       1   16  256  1\n"


class CssRoot(Device):
    """``/sys/devices/css0``."""

    def __init__(self, css: Css) -> None:
        super().__init__(css.kernel, "css0", None)
        self.css = css

    def node(self) -> Directory:
        return _RootDirectory(self)

    def attributes(self) -> dict[str, Node]:
        files: dict[str, Node] = {
            "pools": Attribute(lambda: _POOLS),
            "real_cssid": Attribute(self._real_cssid),
            "rescan": Attribute(store=self._rescan),
        }
        if self.css.calls.measures_paths:
            files["cm_enable"] = Attribute(lambda: f"{int(self.css.measuring)}\n", self._store_cm_enable)
        return files

    def _real_cssid(self) -> str:
        image = self.css.calls.image
        if image is None:
            raise fail(errno.EINVAL)
        return f"{image:x}\n"

    def _store_cm_enable(self, data: bytes) -> None:
        value = kstrtoul(data, 16)
        if value > 1:
            raise fail(errno.EINVAL)
        code = self.css.measure_paths(bool(value))
        if code:
            raise fail(code)

    def _rescan(self, data: bytes) -> None:
        self.css.schedule_all()


class _RootDirectory(DeviceDirectory):
    """A directory that builds a subchannel's device when it is looked up."""

    __slots__ = ()

    def lookup(self, name: str) -> Node | None:
        root = self.device
        if isinstance(root, CssRoot):
            device = root.css.bus.find(name)
            if device is not None:
                return device.node()
        return super().lookup(name)

    def names(self) -> Iterable[str]:
        root = self.device
        named = root.css.bus.names() if isinstance(root, CssRoot) else []
        return dict.fromkeys([*super().names(), *named])

    def subdirectories(self) -> int:
        # Every subchannel is one, also those that are only named so far; none is built for this.
        root = self.device
        named = set(root.css.bus.names()) if isinstance(root, CssRoot) else set()
        return len(named | {child.name for child in root.child_devices()})
