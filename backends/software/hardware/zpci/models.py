"""From a description to a function: the models that a machine file can name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.bell import Bell
from pyvfio_backends.software.hardware.devices.virtio_kinds import VirtioKind, virtio_blk, virtio_net, virtio_rng
from pyvfio_backends.software.hardware.devices.virtio_pci import VirtioPci
from pyvfio_backends.software.hardware.options import check_options
from pyvfio_backends.software.hardware.zpci.clp import GroupFacts
from pyvfio_backends.software.hardware.zpci.facts import function_facts
from pyvfio_backends.software.hardware.zpci.function import ZpciFunction
from pyvfio_backends.software.hardware.zpci.sriov import MOST_VFS, VF_OFFSET, VF_STRIDE, Sriov, make_express

__all__ = [
    "MODELS",
    "FunctionDescription",
    "Model",
    "Place",
    "Schedule",
    "VirtualDescription",
    "build_function",
    "virtual",
]

Schedule = Callable[[float, Callable[[], None]], None]
_BUILD = "build PCI function"
_STATES = ("configured", "standby", "reserved")
_COMMON_OPTIONS: Mapping[str, type] = {
    "pfip": str,
    "util_str": str,
    "start_dma": int,
    "end_dma": int,
    "total_vfs": int,
    "vf_fid": int,
    "vf_uid": int,
    "vf_offset": int,
    "multifunction": bool,
    "fidparm": int,
    "translations": int,
}
_PHYSICAL_OPTIONS = ("total_vfs", "vf_fid", "vf_uid", "vf_offset")
_FID_LIMIT, _UID_LIMIT = 1 << 32, 1 << 16


class FunctionDescription(Protocol):
    """What is said of a function: its identity, its `model`, its `state` at first and the model's `options`.

    `pft`, `rid` and `tid` are -1 for what the model has, for none, and for none.
    """

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
    def rid(self) -> int: ...
    @property
    def tid(self) -> int: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a function is: its `number` among all of the machine (which is in its handle), the `groups` there by their
    identifier, and whether the machine has PCI memory I/O (`mio`).  `schedule` puts the work of devices off.
    """

    number: int = 0
    schedule: Schedule | None = None
    mio: bool = False
    groups: Mapping[int, GroupFacts] = field(default_factory=dict)

    def group(self, pfgid: int) -> GroupFacts:
        """The group of this identifier; one that was not described is as an emulated machine has them."""
        return self.groups.get(pfgid) or GroupFacts(pfgid)


@dataclass(frozen=True, slots=True)
class VirtualDescription:
    """The description of a virtual function, made from that of its physical one (`virtual`)."""

    uid: int
    fid: int
    model: str
    state: str
    pchid: int
    pft: int
    pfgid: int
    vfn: int
    port: int
    rid: int
    tid: int
    options: Mapping[str, Any]


def virtual(spec: FunctionDescription) -> list[VirtualDescription]:
    """The virtual functions that a physical one can make; empty for any other.  They are reserved at first.

    Raise `Misuse` for an option `total_vfs`, `vf_fid` or `vf_uid` that makes no sense.
    """
    options = spec.options
    own = {name: value for name, value in options.items() if name in _PHYSICAL_OPTIONS}
    check_options(_BUILD, spec.model, own, _COMMON_OPTIONS)
    total = options.get("total_vfs", 0)
    if not 0 <= total <= MOST_VFS:
        raise Misuse(_BUILD, spec.model, cause=f"total_vfs is between 0 and {MOST_VFS}, not {total}")
    fid, uid = options.get("vf_fid", spec.fid + 1), options.get("vf_uid", spec.uid + 1)
    if total and not (0 <= fid <= _FID_LIMIT - total and 0 <= uid <= _UID_LIMIT - total):
        raise Misuse(_BUILD, spec.model, cause=f"vf_fid and vf_uid leave no room for {total} virtual functions")
    first = max(spec.rid, 0) + options.get("vf_offset", VF_OFFSET)
    if total and not 0 < first <= MOST_VFS + 1 - total:
        raise Misuse(
            _BUILD, spec.model, cause=f"rid and vf_offset leave no room for {total} virtual functions on a bus"
        )
    kept = {name: value for name, value in options.items() if name not in _PHYSICAL_OPTIONS}
    model = MODELS.get(spec.model)
    if model is not None and "legacy" in model.own:
        kept["legacy"] = False  # virtual functions have no I/O space
    return [
        VirtualDescription(
            uid + n,
            fid + n,
            spec.model,
            "reserved",
            spec.pchid,
            spec.pft,
            spec.pfgid,
            n + 1,
            spec.port,
            first + n * VF_STRIDE,
            spec.tid,
            kept,
        )
        for n in range(total)
    ]


@dataclass(frozen=True, slots=True)
class Model:
    """A model of function: `make` builds one, `own` are the options that only it has, with their types."""

    name: str
    make: Callable[[FunctionDescription, Place], ZpciFunction]
    own: Mapping[str, type]

    @property
    def options(self) -> Mapping[str, type]:
        """All its options, with their types."""
        return {**_COMMON_OPTIONS, **self.own}


def build_function(
    spec: FunctionDescription,
    number: int,
    schedule: Schedule | None = None,
    *,
    mio: bool = False,
    groups: Mapping[int, GroupFacts] | None = None,
) -> ZpciFunction:
    """The function of a description, disabled.  For `number` and the rest see `Place`.

    Options of all models: `pfip` and `util_str` (hexadecimal), `fidparm`, `start_dma`, `end_dma`; `translations` is how
    many pages the machine translates for the function's DMA (without: any number); `multifunction` says in the header
    that the device has other functions; `total_vfs` makes a physical function, whose virtual ones have the identifiers
    from `vf_fid` and `vf_uid` on (default: those after its own), the first of them `vf_offset` places behind it; of
    virtio: `legacy`, `platform` (VIRTIO_F_ACCESS_PLATFORM), and `mac` or `size`; of the bell: `delay` (seconds of
    machine time from the doorbell to its work).  Raise `Misuse` for a model or an option that does not exist, and for a
    value that makes no sense.
    """
    model = MODELS.get(spec.model)
    if model is None:
        raise Misuse(_BUILD, f"fid {spec.fid:#x}", cause=f"there is no model {spec.model!r}")
    if spec.state not in _STATES:
        raise Misuse(
            _BUILD, f"fid {spec.fid:#x}", cause=f"state is configured, standby or reserved, not {spec.state!r}"
        )
    check_options(_BUILD, model.name, spec.options, model.options)
    function = model.make(spec, Place(number, schedule, mio, groups or {}))
    most = function.most_translations = spec.options.get("translations")
    if most is not None and most < 1:
        raise Misuse(_BUILD, model.name, cause=f"translations is at least 1, not {most}")
    if spec.options.get("multifunction"):
        function.config.data[regs.PCI_HEADER_TYPE] |= regs.PCI_HEADER_TYPE_MFD
        function.config.seal()
    others = virtual(spec)
    if (others or isinstance(spec, VirtualDescription)) and len(function.config.data) == regs.PCI_CFG_SPACE_SIZE:
        make_express(function.config)
    if others:
        device = build_function(others[0], number).config.data
        device_id = int.from_bytes(device[regs.PCI_DEVICE_ID : regs.PCI_DEVICE_ID + 2], "little")
        function.sriov = Sriov(function.config, len(others), device_id, spec.options.get("vf_offset", VF_OFFSET))
    return function


def _bell(spec: FunctionDescription, place: Place) -> ZpciFunction:
    options = spec.options
    delay = float(options.get("delay", 0.0))
    if not (math.isfinite(delay) and delay >= 0):
        raise Misuse(_BUILD, spec.model, cause=f"delay is a number of seconds, not {delay}")
    bell = Bell(delay=delay, schedule=place.schedule if "delay" in options else None)
    function = ZpciFunction(
        function_facts(spec, place, bell.bars),
        place.group(spec.pfgid),
        bell.config,
        bell.bars,
        msix=bell.msix,
        number=place.number,
    )
    bell.attach(function)
    return function


def _virtio(kind: Callable[..., VirtioKind], own: Mapping[str, type], *, legacy: bool, name: str) -> Model:
    def make(spec: FunctionDescription, place: Place) -> ZpciFunction:
        options = spec.options
        device = VirtioPci(
            kind(**{option: options[option] for option in own if option in options}),
            legacy=options.get("legacy", legacy),
            sriov=bool(options.get("total_vfs")),
            platform=options.get("platform", False),
        )
        function = ZpciFunction(
            function_facts(spec, place, device.bars),
            place.group(spec.pfgid),
            device.config,
            device.bars,
            msix=device.msix,
            rom_size=device.kind.rom_size,
            number=place.number,
        )
        device.attach(function)
        return function

    return Model(name, make, {**own, "legacy": bool, "platform": bool})


def _identified(name: str, own: Mapping[str, type] | None = None) -> Model:
    """A model of `identified`, which is imported when there is one."""

    def make(spec: FunctionDescription, place: Place) -> ZpciFunction:
        from pyvfio_backends.software.hardware.zpci.identified import identified

        return identified(spec, place)

    return Model(name, make, own or {})


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        _identified("genwqe"),
        _identified("ism"),
        _identified("ivshmem", {"size": int}),
        _identified("nvme", {"size": int, "block_size": int, "readonly": bool, "serial": str}),
        _identified("roce-express"),
        _identified("roce-express2"),
        Model("virtio-bell", _bell, {"delay": float}),
        _virtio(virtio_blk, {"size": int}, legacy=True, name="virtio-blk"),
        _virtio(virtio_net, {"mac": str}, legacy=True, name="virtio-net"),
        _virtio(virtio_rng, {}, legacy=False, name="virtio-rng"),
    )
}
"""The models that a machine file can name, by name."""
