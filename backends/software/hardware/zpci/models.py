"""From a description to a function: the models that a machine file can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.bell import Bell
from pyvfio_backends.software.hardware.devices.virtio_kinds import VirtioKind, virtio_blk, virtio_net, virtio_rng
from pyvfio_backends.software.hardware.devices.virtio_pci import VirtioPci
from pyvfio_backends.software.hardware.zpci.bar import Bar
from pyvfio_backends.software.hardware.zpci.clp import (
    PFIP_SEGMENTS,
    UTILITY_STRING_SIZE,
    FunctionFacts,
    GroupFacts,
)
from pyvfio_backends.software.hardware.zpci.function import ZpciFunction

__all__ = ["FunctionDescription", "Schedule", "build_function"]

Schedule = Callable[[float, Callable[[], None]], None]
START_DMA = 0x100000000
END_DMA = 0x11FFFFFFF
_COMMON_OPTIONS = frozenset({"pfip", "util_str", "start_dma", "end_dma"})
_VIRTIO: dict[str, tuple[Callable[..., VirtioKind], frozenset[str], bool]] = {
    "virtio-net": (virtio_net, frozenset({"mac"}), True),
    "virtio-blk": (virtio_blk, frozenset({"size"}), True),
    "virtio-rng": (virtio_rng, frozenset(), False),
}


class FunctionDescription(Protocol):
    """What is said of a function: its identity, its `model`, its `state` at first and the model's `options`."""

    @property
    def uid(self) -> int: ...
    @property
    def fid(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def pchid(self) -> int: ...
    @property
    def pft(self) -> int: ...
    @property
    def pfgid(self) -> int: ...
    @property
    def vfn(self) -> int: ...
    @property
    def port(self) -> int: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


def build_function(spec: FunctionDescription, number: int, schedule: Schedule | None = None) -> ZpciFunction:
    """The function of a description, disabled.  Raise `Misuse` for a model or an option that does not exist.

    Options of all models: `pfip` and `util_str` (hexadecimal), `start_dma`, `end_dma`; of virtio: `legacy`, and
    `mac` or `size`; of the bell: `delay` (seconds of machine time from the doorbell to its work).
    """
    options = dict(spec.options)
    if spec.model == "virtio-bell":
        _check(spec, options, frozenset({"delay"}))
        bell = Bell(delay=float(options.get("delay", 0.0)), schedule=schedule if "delay" in options else None)
        function = ZpciFunction(
            _facts(spec, options, bell.bars),
            GroupFacts(spec.pfgid),
            bell.config,
            bell.bars,
            msix=bell.msix,
            number=number,
        )
        bell.attach(function)
        return function
    if spec.model not in _VIRTIO:
        raise Misuse("build PCI function", f"fid {spec.fid:#x}", cause=f"there is no model {spec.model!r}")
    make, own, legacy = _VIRTIO[spec.model]
    _check(spec, options, own | {"legacy"})
    device = VirtioPci(
        make(**{name: options[name] for name in own if name in options}), legacy=bool(options.get("legacy", legacy))
    )
    return ZpciFunction(
        _facts(spec, options, device.bars),
        GroupFacts(spec.pfgid),
        device.config,
        device.bars,
        msix=device.msix,
        rom_size=device.kind.rom_size,
        number=number,
    )


def _check(spec: FunctionDescription, options: Mapping[str, Any], own: frozenset[str]) -> None:
    unknown = sorted(set(options) - own - _COMMON_OPTIONS)
    if unknown:
        raise Misuse(
            "build PCI function",
            f"fid {spec.fid:#x}",
            cause=f"model {spec.model} has no option {', '.join(unknown)}",
            next_step=f"its options: {', '.join(sorted(own | _COMMON_OPTIONS))}",
        )


def _facts(spec: FunctionDescription, options: Mapping[str, Any], bars: Sequence[Bar]) -> FunctionFacts:
    sizes = [0] * regs.PCI_STD_NUM_BARS
    values = [0] * regs.PCI_STD_NUM_BARS
    for bar in bars:
        sizes[bar.index] = bar.size.bit_length() - 1
        values[bar.index] = bar.flags
    s0, s1, s2, s3, s4, s5 = sizes
    v0, v1, v2, v3, v4, v5 = values
    utility = bytes.fromhex(str(options.get("util_str", "")))
    return FunctionFacts(
        fid=spec.fid,
        uid=spec.uid,
        pchid=spec.pchid,
        pfgid=spec.pfgid,
        pft=spec.pft,
        vfn=spec.vfn,
        port=spec.port,
        bar_sizes=(s0, s1, s2, s3, s4, s5),
        bar_values=(v0, v1, v2, v3, v4, v5),
        start_dma=int(options.get("start_dma", START_DMA)),
        end_dma=int(options.get("end_dma", END_DMA)),
        pfip=bytes.fromhex(str(options.get("pfip", ""))).ljust(PFIP_SEGMENTS, b"\0")[:PFIP_SEGMENTS],
        util_str=utility.ljust(UTILITY_STRING_SIZE, b"\0")[:UTILITY_STRING_SIZE] if utility else b"",
    )
