"""Sysfs trees for `pyvfio.Host("kernel", sysfs=DIR)`, made of what a real x86 kernel showed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pyvfio_fixtures import golden

__all__ = ["CONFIG", "Tree", "golden_groups", "golden_tree"]

CONFIG = 256
HEADER = 64


def golden_groups() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(golden("x86/groups.json").read_text(encoding="utf-8"))
    return document


class Tree:
    """A directory that stands for /sys; functions are written into it one by one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in ("bus/pci/devices", "bus/pci/drivers", "kernel/iommu_groups", "devices"):
            (root / directory).mkdir(parents=True, exist_ok=True)

    def function(
        self,
        path: str,
        config: bytes,
        *,
        code: int = 0x020000,
        driver: str | None = None,
        group: int | None = None,
        restricted: bool = False,
        vfio: bool = False,
    ) -> None:
        """Add the function at `path` (``pci0000:00/0000:00:01.0``); `restricted` is what an ordinary user sees."""
        name = path.rpartition("/")[2]
        directory = self.root / "devices" / path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "class").write_text(f"0x{code:06x}\n")
        (directory / "vendor").write_text(f"0x{int.from_bytes(config[0:2], 'little'):04x}\n")
        (directory / "device").write_text(f"0x{int.from_bytes(config[2:4], 'little'):04x}\n")
        (directory / "driver_override").write_text("(null)\n")
        (directory / "config").write_bytes(config[:HEADER] if restricted else config)
        self._link(self.root / "bus/pci/devices" / name, directory)
        self._link(directory / "subsystem", self.root / "bus/pci")
        self.drive(path, driver, vfio=vfio)
        if group is not None:
            self.join(path, group)

    def drive(self, path: str, driver: str | None, *, vfio: bool = False) -> None:
        """Give the function to `driver`, or to none."""
        link = self.root / "devices" / path / "driver"
        link.unlink(missing_ok=True)
        if vfio:
            (link.parent / "vfio-dev" / "vfio0").mkdir(parents=True, exist_ok=True)
        if driver is not None:
            at = self.root / "bus/pci/drivers" / driver
            at.mkdir(parents=True, exist_ok=True)
            self._link(link, at)

    def join(self, path: str, group: int, kind: str = "DMA", reserved: str = "") -> None:
        """Put a device into a group."""
        at = self.root / "kernel/iommu_groups" / str(group)
        (at / "devices").mkdir(parents=True, exist_ok=True)
        (at / "type").write_text(f"{kind}\n")
        (at / "reserved_regions").write_text(reserved)
        self._link(at / "devices" / path.rpartition("/")[2], self.root / "devices" / path)
        self._link(self.root / "devices" / path / "iommu_group", at)

    def attribute(self, path: str, name: str, text: str) -> None:
        """Write an attribute of a function."""
        (self.root / "devices" / path / name).write_text(text)

    @staticmethod
    def _link(link: Path, target: Path) -> None:
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))


def golden_tree(root: Path, *, restricted: bool = False) -> Tree:
    """All functions of the golden host, with their groups and drivers."""
    tree = Tree(root)
    document = golden_groups()
    for name, one in document["functions"].items():
        config = bytes.fromhex(one["config_hex"]).ljust(CONFIG, b"\0") + bytes.fromhex(one["extcfg_hex"])
        tree.function(
            one["path"],
            config.ljust(one["config_len"], b"\0"),
            code=int(one["class"], 16),
            driver=one["driver"],
            restricted=restricted,
        )
        assert one["path"].endswith(name)
    for number, group in document["groups"].items():
        for name in group["devices"]:
            reserved = "".join(f"{line}\n" for line in group["reserved_regions"])
            tree.join(document["functions"][name]["path"], int(number), group["type"], reserved)
    return tree
