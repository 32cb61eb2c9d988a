"""A node of the device tree, as a device that has one tells of it (``of_device_uevent`` of ``drivers/of/device.c``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from pyvfio_backends.software.linux.nodes import Node, Symlink

__all__ = ["BASE", "OfNode", "of_link"]

BASE: Final = "/firmware/devicetree/base"
"""The root of the tree, below ``/sys``."""


@dataclass(frozen=True)
class OfNode:
    """The node at `path` (from ``/`` on), with its device type, empty for none, and what it is compatible with.

    `aliases` are its other names, of those that end with a number.
    """

    path: str
    type: str = ""
    compatible: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name without the address."""
        return self.path.rpartition("/")[2].partition("@")[0]

    def variables(self) -> list[tuple[str, str]]:
        """What events of the device say of it."""
        pairs = [("OF_NAME", self.name), ("OF_FULLNAME", self.path)]
        if self.type:
            pairs.append(("OF_TYPE", self.type))
        pairs += [(f"OF_COMPATIBLE_{number}", word) for number, word in enumerate(self.compatible)]
        pairs.append(("OF_COMPATIBLE_N", str(len(self.compatible))))
        return [*pairs, *((f"OF_ALIAS_{number}", name) for number, name in enumerate(self.aliases))]


def of_link(devpath: str, of_path: str) -> Node:
    """The link ``of_node`` of a device (``/devices/...``)."""
    return Symlink(os.path.relpath(BASE + of_path, devpath))
