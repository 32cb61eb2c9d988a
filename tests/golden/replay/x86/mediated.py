"""Replay of ``mdev``: the kernel's sample of a parent of mediated devices, mtty."""

from __future__ import annotations

import mmap
import struct
from functools import partial
from typing import Any

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio
from pyvfio.abi import vfio_type1 as type1
from pyvfio.abi.vfio_feature import MigrationState as S
from replay.seam import Blocked

from .facts import Keys
from .lab import CONTAINER, Answers, Lab, attempt
from .opened import REGION_SHIFT, device_info, irq_info, region_info

__all__ = ["mdev"]

_PARENT = "/sys/devices/virtual/mtty/mtty"
_TYPES = f"{_PARENT}/mdev_supported_types"
_FIRST = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
_SECOND = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"
#: What the recorder had at vfio-pci.
_TAKEN = ("0000:00:07.0", "0000:00:07.1")
_ATTRIBUTES = ("available_instances", "device_api", "name")
_CONFIG = vfio.VFIO_PCI_CONFIG_REGION_INDEX
_CONFIG_SIZE = 256
_BIG = 256
_PAGE = mmap.PAGESIZE
_EVENTFD = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
_PROBE, _GET, _SET = vfio.VFIO_DEVICE_FEATURE_PROBE, vfio.VFIO_DEVICE_FEATURE_GET, vfio.VFIO_DEVICE_FEATURE_SET
_SHOWN, _HEAD, _ROOM = 32, 8, 4096
_LAST = 6  # so many events the recorder kept
_STATE = 2  # VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
# the recorder's walk: where it was, and where it wanted to go (numbers: states that are none)
_WALK: tuple[str | int, ...] = (
    *("STOP", "STOP", "STOP_COPY", "STOP", "RESUMING", "STOP", "RUNNING", "PRE_COPY", "RUNNING", "RUNNING_P2P"),
    *("RUNNING", "PRE_COPY", "STOP_COPY", "RUNNING", "PRE_COPY", "PRE_COPY_P2P", "STOP", "RUNNING", "RESUMING"),
    *("RUNNING", "ERROR", 8, 99, "STOP_COPY", "PRE_COPY", "RUNNING"),
)


def _table(event: list[str]) -> dict[str, str]:
    header, *lines = event
    return {"header": header, **dict(line.split("=", 1) for line in lines)}


def mdev(lab: Lab, questions: Keys) -> Answers:
    """The script in the recorder's order."""
    answers = Answers()
    for address in _TAKEN:
        attempt(partial(lab.take, address))
    answers["parent"] = _PARENT
    answers["parent_entries"] = lab.seam.listing(_PARENT)
    answers["types"] = _types(lab)
    path = f"{_TYPES}/mtty-1"
    names = lab.seam.listing(path)
    answers["type_entries"] = names
    answers["type_modes"] = {name: lab.mode(f"{path}/{name}") for name in names}
    _create(lab, answers)
    _device(lab, answers)
    _use(lab, answers)
    return answers


def _types(lab: Lab) -> dict[str, dict[str, Any]]:
    return {
        kind: {name: attempt(partial(lab.text, f"{_TYPES}/{kind}/{name}")) for name in _ATTRIBUTES}
        for kind in lab.seam.listing(_TYPES)
    }


def _create(lab: Lab, answers: Answers) -> None:
    def create(text: str, kind: str = "mtty-1") -> int:
        return lab.seam.write(f"{_TYPES}/{kind}/create", text)

    lab.events()
    for key, text in (
        ("create_empty", ""),
        ("create_garbage", "garbage"),
        ("create_short", _FIRST[:-1]),
        ("create_no_dashes", _FIRST.replace("-", "")),
        ("create_braces", f"{{{_FIRST}}}"),
        ("create_trailing_junk", f"{_FIRST}x"),
        ("create_leading_space", f" {_FIRST}"),
        ("create", _FIRST),
    ):
        answers.ask(key, partial(create, text))
    answers["create_uevents"] = [_table(event) for event in lab.events()]
    answers.ask("create_again", partial(create, _FIRST))
    answers.ask("create_again_newline", partial(create, f"{_FIRST}\n"))
    answers.ask("create_same_other_type", partial(create, _FIRST, "mtty-2"))
    answers.ask("create_uppercase", partial(create, _SECOND.upper()))


def _device(lab: Lab, answers: Answers) -> None:
    path = f"{_PARENT}/{_FIRST}"
    answers["names"] = lab.seam.listing("/sys/bus/mdev/devices")
    answers["device_path"] = path if lab.seam.exists(path) else None
    answers["entries"] = lab.seam.listing(path)
    for name in ("driver", "mdev_type"):
        answers[name] = lab.seam.link(f"{path}/{name}")
    group = answers["group"] = lab.seam.link(f"{path}/iommu_group")
    groups = f"/sys/kernel/iommu_groups/{group}"
    answers.ask("group_name", partial(lab.text, f"{groups}/name"))
    answers["group_entries"] = lab.seam.listing(groups)
    answers["type_devices"] = lab.seam.listing(f"{_TYPES}/mtty-1/devices")
    answers.ask("uevent", partial(lab.text, f"{path}/uevent"))
    answers["available_after"] = _types(lab)
    made: list[int] = []

    def exhaust() -> None:
        while True:
            number = len(made) + 1
            lab.seam.write(f"{_TYPES}/mtty-1/create", f"00000000-0000-4000-8000-{number:012d}")
            made.append(number)

    refused = attempt(exhaust)
    answers["exhausted"] = [len(made), refused]
    for key, text in (("remove_0", "0"), ("remove_zz", "zz"), ("remove_empty", "")):
        answers.ask(key, partial(lab.seam.write, f"{path}/remove", text))
    answers["exists_after_remove_0"] = lab.seam.exists(path)


def _use(lab: Lab, answers: Answers) -> None:
    container = lab.open(CONTAINER)
    group = lab.open(f"/dev/vfio/{lab.seam.link(f'{_PARENT}/{_FIRST}/iommu_group')}")
    lab.set_container(group, container)
    answers.ask("set_iommu", lambda: lab.host.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU))
    answers.ask("iommu_info", partial(_iommu_info, lab, container))
    memory = lab.seam.memory(_PAGE)
    answers.ask("map_emulated_only", partial(lab.seam.map_dma, container, 0x100000, _PAGE, memory.address))
    status = attempt(partial(lab.text, "/proc/self/status"))
    answers["VmLck"] = [line for line in str(status).split("\n") if line.startswith("VmLck")]
    answers.ask("map_above_48bit", partial(lab.seam.map_dma, container, 1 << 50, _PAGE, memory.address))
    fd = lab.seam.device_fd(group, _FIRST)
    answers.ask("info", partial(device_info, lab.seam, fd))
    answers["regions"] = {str(index): attempt(partial(region_info, lab.seam, fd, index, _BIG)) for index in range(10)}
    answers["irqs"] = {str(index): attempt(partial(irq_info, lab.seam, fd, index)) for index in range(6)}
    at = _CONFIG << REGION_SHIFT
    # 255 bytes are its size; the recorder read one more
    answers.ask("config", lambda: lab.host.pread(fd, _CONFIG_SIZE, at).hex())

    def ones() -> str:
        lab.host.pwrite(fd, b"\xff" * 4, at + regs.PCI_BASE_ADDRESS_0)
        return lab.host.pread(fd, 4, at + regs.PCI_BASE_ADDRESS_0).hex()

    answers.ask("bar0_ones", ones)
    answers.ask("bar_mmap", lambda: lab.host.mmap(fd, _PAGE))
    answers.ask("reset", lambda: lab.host.ioctl(fd, vfio.VFIO_DEVICE_RESET))
    number = struct.pack("=i", lab.seam.eventfd().fileno())
    for key, index in (("intx", 0), ("msi_while_intx", 1), ("bad_index", 99)):
        answers.ask(key, partial(lab.seam.set_irqs, fd, index, _EVENTFD, 0, 1, number))
    answers["features"] = {str(feature): _feature(lab, fd, feature) for feature in range(13)}
    answers.ask("mig_state", partial(_state, lab, fd))
    answers["migration_arcs"] = {"sequence": _walk(lab, fd)}
    _remove(lab, fd, group, container, answers)


def _iommu_info(lab: Lab, container: int) -> list[Any]:
    room = bytearray(512)
    struct.pack_into("=I", room, 0, len(room))
    result = lab.host.ioctl(container, type1.VFIO_IOMMU_GET_INFO, room)
    info = type1.IommuType1Info.from_buffer_copy(room)
    return [result, [info.argsz, info.flags, info.iova_pgsizes, info.cap_offset, 0]]


def _feature(lab: Lab, fd: int, number: int) -> dict[str, Any]:
    def ask(flags: int) -> int:
        room = bytearray(struct.pack("=II", _ROOM, number | flags)).ljust(_ROOM, b"\0")
        found["room"] = room
        return lab.host.ioctl(fd, vfio.VFIO_DEVICE_FEATURE, room)

    found: dict[str, Any] = {}
    answers = {
        "probe": attempt(partial(ask, _PROBE)),
        "probe_get": attempt(partial(ask, _PROBE | _GET)),
        "probe_set": attempt(partial(ask, _PROBE | _SET)),
        "get": attempt(partial(ask, _GET)),
    }
    if answers["get"] == 0:
        answers["data"] = bytes(found["room"][_HEAD : _HEAD + _SHOWN]).hex()
    return answers


def _state(lab: Lab, fd: int, wanted: int | None = None) -> list[int]:
    """Get or set the state of migration: state and descriptor."""
    room = bytearray(struct.pack("=IIIi", 16, _STATE | (_GET if wanted is None else _SET), wanted or 0, -1))
    lab.host.ioctl(fd, vfio.VFIO_DEVICE_FEATURE, room)
    return list(struct.unpack_from("=Ii", room, _HEAD))


def _walk(lab: Lab, fd: int) -> list[list[Any]]:
    found: list[list[Any]] = []
    for wanted in _WALK:
        before = S(_state(lab, fd)[0]).name
        number = wanted if isinstance(wanted, int) else int(S[wanted])
        result = attempt(partial(_state, lab, fd, number))
        outcome: dict[str, Any] = {}
        if isinstance(result, dict):
            outcome.update(result)
        else:
            outcome["data_fd"] = result[1] >= 0
            if result[1] >= 0 and wanted == "STOP_COPY":
                outcome["stream_len"] = len(lab.host.read(result[1], _ROOM))
        outcome["now"] = S(_state(lab, fd)[0]).name
        found.append([before, wanted, outcome])
    return found


def _remove(lab: Lab, fd: int, group: int, container: int, answers: Answers) -> None:
    path = f"{_PARENT}/{_FIRST}"
    last = f"{_PARENT}/00000000-0000-4000-8000-000000000015"
    lab.events()
    attempt(partial(lab.seam.write, f"{last}/remove", "1"))
    writer = Blocked(lab.seam.machine.clock, partial(lab.seam.write, f"{path}/remove", "1"))
    lab.wait(2.0)
    answers["remove_while_open_done_2s"] = [value for value, _ in writer.results]
    lab.seam.close_all([fd, group, container])
    writer.settle()
    answers["remove_result"] = [value for value, _ in writer.results]
    answers["remove_uevents"] = [_table(event) for event in lab.events()][-_LAST:]
    answers["exists"] = lab.seam.exists(path)
