"""The endpoints of a machine file that do something, with their options.

=============  ==========================================================================================
model          options
=============  ==========================================================================================
`edu`          --
`pci-testdev`  `membar`: bytes of memory behind BAR 2, a power of two
`VGA`          `size`: bytes of its frame buffer, a power of two (16 MiB)
`ivshmem`      `size`: bytes of memory behind BAR 2, a power of two (4 KiB)
`nvme`         `image` (a file, beside the machine file) or `size` (bytes of memory, 16 MiB), `block_size`
               (512), `readonly`, `serial`; without any of these a controller without namespaces
`copier`       --
`pair-nic`     `mac`, `cable`: two NICs with the same name of a cable are at its two ends
both           `integrated` (false): part of the root complex, on a root bus, with errors for an event collector
`virtio-*-pci` `size`, `readonly` and `legacy` of blk, `mac` of net, `mount_tag` of 9p, `legacy` (true) of 9p and
               serial; `flr` (true): whether it has a function-level reset; `aer` (true) of all but net: whether
               it reports errors; `express` (true, never in a guest on POWER): whether it is of PCI Express at all
=============  ==========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.description import PcieFunctionSpec
from pyvfio_backends.software.hardware.devices.copier import Copier
from pyvfio_backends.software.hardware.devices.edu import Edu
from pyvfio_backends.software.hardware.devices.nvme.options import (
    NVME_OPTIONS,
    build_controller,
    build_namespace,
    build_storage,
)
from pyvfio_backends.software.hardware.devices.nvme.storage import FileStorage
from pyvfio_backends.software.hardware.devices.pair_nic import PairNic, connect
from pyvfio_backends.software.hardware.pcie import peripherals, virtio
from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["MAC", "MODELS", "Peripherals"]

MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
"""How the address of an interface is written."""
_FRAMES, _SHARED, _LEAST_MEMORY, _MOST_MEMORY = 16 << 20, 1 << 12, 1 << 4, 1 << 46
_LEAST_FRAMES, _MOST_FRAMES = 1 << 16, 1 << 31
"""What a VGA can say of its memory: 16 bits, in units of 64 KiB."""
_INSIDE: Final = "integrated"
_EXPRESS: Final = "express"
_OPTIONS: Final[dict[str, dict[str, type]]] = {
    "edu": {},
    "pci-testdev": {"membar": int},
    "ivshmem": {"size": int},
    "VGA": {"size": int},
    "copier": {},
    "nvme": {**NVME_OPTIONS, _INSIDE: bool},
    "pair-nic": {"mac": str, "cable": str, _INSIDE: bool},
    "virtio-9p-pci": {"mount_tag": str, "flr": bool, "aer": bool, "legacy": bool, _EXPRESS: bool},
    "virtio-blk-pci": {"size": int, "readonly": bool, "flr": bool, "aer": bool, "legacy": bool, _EXPRESS: bool},
    "virtio-net-pci": {"mac": str, "flr": bool, _EXPRESS: bool},
    "virtio-serial-pci": {"flr": bool, "aer": bool, "legacy": bool, _EXPRESS: bool},
    "virtio-rng-pci": {"flr": bool, "aer": bool, _EXPRESS: bool},
}
MODELS: Final = tuple(_OPTIONS)
"""The models that `Peripherals.make` knows."""

Schedule = Callable[[float, Callable[[], None]], None]


class Peripherals:
    """Makes endpoints, and keeps what they share: cables, and the files that `close` closes.

    `schedule` is for devices that take their time (a delay in seconds, and the work); without it they are done at once.
    """

    def __init__(self, schedule: Schedule | None = None) -> None:
        self._schedule = schedule
        self._cables: dict[str, PairNic] = {}
        self._joined: set[str] = set()
        self._files: list[FileStorage] = []

    def close(self) -> None:
        """Close the files; what was written is in them."""
        files, self._files = self._files, []
        for file in files:
            file.close()

    def make(self, spec: PcieFunctionSpec) -> Function:
        """The endpoint that `spec` describes, one of `MODELS`.  Raise `Misuse` for options that cannot be."""
        name = spec.id or spec.model
        for key, value in spec.options.items():
            wanted = _OPTIONS[spec.model].get(key)
            if wanted is None:
                there = ", ".join(_OPTIONS[spec.model]) or "none"
                raise Misuse("build device", name, cause=f"{spec.model} has no option {key!r}; it has {there}")
            if type(value) is not wanted:
                raise Misuse("build device", name, cause=f"{key} is no {wanted.__name__}: {value!r}")
        if spec.model == "nvme":
            return self._nvme(name, spec.options)
        if spec.model in virtio.KINDS:
            own = {key: value for key, value in spec.options.items() if key not in ("flr", "aer", "legacy", _EXPRESS)}
            return virtio.virtio(
                spec.model,
                virtio.KINDS[spec.model](**own),
                flr=spec.options.get("flr", True),
                aer=spec.options.get("aer", True),
                legacy=spec.options.get("legacy"),
                express=spec.options.get(_EXPRESS, True),
                name=name,
            )
        if spec.model == "pair-nic":
            return self._nic(name, spec.options)
        if spec.model == "edu":
            return peripherals.edu(Edu(schedule=self._schedule), name=name).function
        if spec.model == "copier":
            return peripherals.copier(Copier(schedule=self._schedule), name=name).function
        if spec.model == "VGA":
            frames = _memory(name, "size", spec.options.get("size", _FRAMES), _LEAST_FRAMES, _MOST_FRAMES)
            return peripherals.vga(memory=frames, name=name)
        if spec.model == "ivshmem":
            return peripherals.shared_memory(_memory(name, "size", spec.options.get("size", _SHARED)), name=name)
        memory = spec.options.get("membar", 0) and _memory(name, "membar", spec.options["membar"])
        return peripherals.pci_testdev(memory=memory, name=name).function

    def _nvme(self, name: str, options: dict[str, Any]) -> Function:
        wanted = {"serial": name, **options}
        inside = wanted.pop(_INSIDE, False)
        namespaces = []
        if set(wanted) - {"serial"}:
            storage = build_storage(name, wanted)
            if isinstance(storage, FileStorage):
                self._files.append(storage)
            namespaces.append(build_namespace(name, storage, wanted))
        device = build_controller(name, namespaces, wanted, schedule=self._schedule)
        return peripherals.nvme(device=device, inside=inside, name=name).function

    def _nic(self, name: str, options: dict[str, Any]) -> Function:
        mac, cable = options.get("mac", ""), options.get("cable", "")
        if not MAC.fullmatch(mac):
            raise Misuse("build device", name, cause=f"mac is no address like 52:54:00:00:00:01: {mac!r}")
        device = PairNic(bytes.fromhex(mac.replace(":", "")))
        if cable in self._joined:
            raise Misuse("build device", name, cause=f"the cable {cable!r} has two ends, and both are in use")
        if cable in self._cables:
            connect(self._cables.pop(cable), device)
            self._joined.add(cable)
        elif cable:
            self._cables[cable] = device
        return peripherals.nic(device, inside=options.get(_INSIDE, False), name=name).function


def _memory(name: str, key: str, size: int, least: int = _LEAST_MEMORY, most: int = _MOST_MEMORY) -> int:
    """The size of a BAR of memory.  Raise `Misuse` for one that cannot be."""
    if not least <= size <= most or size & (size - 1):
        raise Misuse("build device", name, cause=f"{key} is no power of two from {least} to {most}: {size}")
    return size
