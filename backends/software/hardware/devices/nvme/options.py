"""A controller and its namespace from the options of a machine file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
from pyvfio_backends.software.hardware.devices.nvme.storage import FileStorage, MemoryStorage, Namespace, Storage

__all__ = ["NVME_OPTIONS", "build_controller", "build_namespace", "build_storage"]

_SIZE, _BLOCK, _SERIAL_LENGTH = 16 << 20, 512, 20
NVME_OPTIONS: Final[Mapping[str, type]] = {
    "image": str,
    "size": int,
    "block_size": int,
    "readonly": bool,
    "serial": str,
}
"""The options, with their types."""

Schedule = Callable[[float, Callable[[], None]], None]


def build_storage(name: str, options: Mapping[str, Any]) -> Storage:
    """The file `image`, which is the caller's to close, or `size` bytes of memory.  Raise `Misuse`."""
    read_only = options.get("readonly", False)
    if "image" in options:
        if "size" in options:
            raise Misuse("build device", name, cause="an image has its own size: image and size exclude each other")
        return FileStorage(Path(options["image"]), read_only=read_only)
    size, block = options.get("size", _SIZE), 1 << _order(name, options)
    if size <= 0 or size % block:
        raise Misuse("build device", name, cause=f"{size} bytes are no blocks of {block}")
    return MemoryStorage(size, read_only=read_only)


def build_namespace(name: str, storage: Storage, options: Mapping[str, Any]) -> Namespace:
    """The namespace on `storage`, with blocks of `block_size` bytes.  Raise `Misuse`."""
    return Namespace(storage, order=_order(name, options))


def _order(name: str, options: Mapping[str, Any]) -> int:
    block: int = options.get("block_size", _BLOCK)
    if block <= 0 or block & (block - 1):
        raise Misuse("build device", name, cause=f"block_size is no power of two: {block}")
    return block.bit_length() - 1


def build_controller(
    name: str, namespaces: Sequence[Namespace], options: Mapping[str, Any], *, schedule: Schedule | None = None
) -> NvmeController:
    """The controller, with its `serial` number.  Raise `Misuse`."""
    serial = options.get("serial", name)
    if not serial.isascii() or not serial.isprintable() or len(serial) > _SERIAL_LENGTH:
        cause = f"a serial number has up to {_SERIAL_LENGTH} ASCII characters: {serial!r}"
        raise Misuse("build device", name, cause=cause)
    return NvmeController(namespaces, serial=serial, schedule=schedule)
