"""A host as a directory tree, served by the kernel backend: for devices that the software machine does not have."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pyvfio.backend import Holder
from pyvfio.network import Network
from pyvfio_backends.kernel import KernelBackend

__all__ = ["Tree", "TreeBackend"]

_CLASSES = {"block", "net", "tty", "nvme", "scsi_generic", "input", "graphics", "drm", "usb", "misc", "vfio-dev"}


def refusal(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class TreeBackend(KernelBackend):
    """The kernel backend on a tree; the test says what no tree can: the network, who has what open, what is refused."""

    def __init__(self, root: Path) -> None:
        super().__init__(root=str(root))
        self.net: Network | OSError = Network()
        self.held: dict[str, list[Holder]] = {}
        self.claimed: set[str] = set()
        self.refused: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.opened: list[str] = []
        self.listed: list[str] = []

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        self.opened.append(path)
        if path in self.refused:
            raise refusal(self.refused[path], path)
        if path in self.claimed and flags & os.O_EXCL:
            raise refusal(errno.EBUSY, path)
        assert flags & os.O_ACCMODE == os.O_RDONLY, f"{path} was opened for writing"
        return super().open(path, flags, mode)

    def listdir(self, path: str) -> list[str]:
        self.listed.append(path)
        if path in self.refused:
            raise refusal(self.refused[path], path)
        return super().listdir(path)

    def stat(self, path: str) -> os.stat_result:
        status = super().stat(path)
        if path in self.numbers:
            return os.stat_result(tuple(status)[:10], {"st_rdev": self.numbers[path]})
        return status

    def network(self) -> Network:
        if isinstance(self.net, OSError):
            raise self.net
        return self.net

    def holders(self, path: str) -> list[Holder]:
        if path in self.held:
            return self.held[path]
        return super().holders(path)


class Tree:
    """The tree at `root`, and its `backend`.  Paths are those of the host; links are made relative."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("proc/self/fd", "sys/block", "sys/bus/pci/devices", "dev"):
            (root / name).mkdir(parents=True)
        self.file("/proc/self/mountinfo", "1 0 0:2 / / rw - rootfs rootfs rw\n")
        self.backend = TreeBackend(root)

    def file(self, path: str, content: str | bytes = "", *, at: int = 0) -> None:
        """Write `content` at the offset `at`; the file grows as it must."""
        real = self.root / path.lstrip("/")
        real.parent.mkdir(parents=True, exist_ok=True)
        real.touch()
        with real.open("r+b") as file:
            file.seek(at)
            file.write(content.encode() if isinstance(content, str) else content)

    def link(self, path: str, target: str) -> None:
        """Make a link at `path` that leads to `target`."""
        real = self.root / path.lstrip("/")
        real.parent.mkdir(parents=True, exist_ok=True)
        real.symlink_to(os.path.relpath(target, os.path.dirname(path)))

    def device(self, path: str, subsystem: str, *, driver: str = "", node: str = "", number: str = "",
               **values: str) -> str:  # fmt: skip
        """A device with its ``uevent``, and its entry in the list of its bus or class."""
        kind = f"/sys/class/{subsystem}" if subsystem in _CLASSES else f"/sys/bus/{subsystem}"
        name = path.rpartition("/")[2]
        listed = f"{kind}/{name}" if subsystem in _CLASSES else f"{kind}/devices/{name}"
        (self.root / kind.lstrip("/")).mkdir(parents=True, exist_ok=True)
        if node:
            major, minor = number.split(":")
            values = {"MAJOR": major, "MINOR": minor, "DEVNAME": node, **values}
            self.file(f"/dev/{node}")
        self.file(f"{path}/uevent", "".join(f"{key}={value}\n" for key, value in values.items()))
        self.link(f"{path}/subsystem", kind)
        self.link(listed, path)
        if driver:
            self.link(f"{path}/driver", f"{kind}/drivers/{driver}")
            self.link(f"{kind}/drivers/{driver}/{name}", path)
        return path

    def pci(self, name: str, driver: str = "", *, above: str = "/sys/devices/pci0000:3a") -> str:
        """A PCI function."""
        return self.device(f"{above}/{name}", "pci", driver=driver)

    def disk(self, parent: str, name: str, number: str, *, size: int = 1 << 20, virtual: bool = False) -> str:
        """An empty disk below `parent`, or one without a parent."""
        path = f"{parent}/block/{name}" if not virtual else f"/sys/devices/virtual/block/{name}"
        return self.nvme_disk(path, number, size=size)

    def nvme_disk(self, path: str, number: str, *, size: int = 1 << 20) -> str:
        """An empty disk at `path`: NVMe has no directory ``block``."""
        name = path.rpartition("/")[2]
        self.device(path, "block", node=name, number=number, DEVTYPE="disk")
        self.link(f"/sys/block/{name}", path)
        self.file(f"{path}/size", f"{size // 512}\n")
        (self.root / f"{path}/holders".lstrip("/")).mkdir()
        self.file(f"/dev/{name}", b"\0", at=size - 1)
        return path

    def partition(self, disk: str, number: int, device: str, *, size: int = 1 << 19) -> str:
        """A partition of a disk."""
        name = disk.rpartition("/")[2]
        name = f"{name}p{number}" if name[-1].isdigit() else f"{name}{number}"
        path = self.device(f"{disk}/{name}", "block", node=name, number=device, DEVTYPE="partition")
        self.file(f"{path}/partition", f"{number}\n")
        self.file(f"{path}/size", f"{size // 512}\n")
        (self.root / f"{path}/holders".lstrip("/")).mkdir()
        self.file(f"/dev/{name}", b"\0", at=size - 1)
        return path

    def upper(self, name: str, number: str, *below: str, **attributes: str) -> str:
        """A block device without a parent that stands on others; `attributes` such as ``dm_name`` for ``dm/name``."""
        path = self.disk("", name, number, virtual=True)
        for key, value in attributes.items():
            self.file(f"{path}/{key.replace('_', '/', 1)}", f"{value}\n")
        for one in below:
            self.link(f"{one}/holders/{name}", path)
        return path

    def mount(self, number: str, point: str, fs_type: str, source: str, process: str = "self") -> None:
        """Add a line to ``mountinfo``."""
        real = self.root / f"proc/{process}/mountinfo"
        text = real.read_text() if real.exists() else ""
        self.file(f"/proc/{process}/mountinfo", f"{text}50 1 {number} / {point} rw shared:1 - {fs_type} {source} rw\n")
