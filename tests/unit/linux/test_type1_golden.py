"""Type 1 answers as the recorded s390x kernel did, request by request (``fixtures/golden/s390x``)."""

from __future__ import annotations

import errno
import json
import struct
from importlib.resources import files
from typing import Any

import pytest
from vfio_fixture import FIRST, LAST, PAGE, Lab, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.process import AnonymousMemory

GOLDEN = files("pyvfio_fixtures") / "golden" / "s390x"
Facts = list[dict[str, Any]]


def facts(name: str, section: str) -> Facts:
    document = json.loads((GOLDEN / name).read_text())
    return [fact for fact in document["facts"] if fact["section"] == section]


def outcome(call: Any, *arguments: Any) -> dict[str, Any]:
    try:
        return {"value": call(*arguments) or 0}
    except OSError as error:
        return {"error": errno.errorcode[error.errno or 0]}


def as_s390x(lab: Lab, fd: int, number: int, layout: str) -> bytes:
    """A capability's payload as an s390x kernel would have it; `layout` names its integers."""
    payload = lab.info(fd)[1][number].payload
    native = struct.Struct("=" + layout)
    return struct.pack(">" + layout, *native.unpack_from(payload))


@pytest.mark.parametrize("kind", [1, 3])
def test_zpci_dma(vfio_lab: Lab, dma_memory: AnonymousMemory, kind: int) -> None:
    lab = vfio_lab
    container, _ = lab.ready("p0", kind)
    for fact in facts("zpci-vfio.json", f"dma, type {kind}"):
        what, expected = fact["what"], fact["result"]
        if what.startswith("map "):
            iova, size, flags = int(fact["request"][0], 0), int(fact["request"][1], 0), fact["request"][2]
            vaddr = dma_memory.address + (0x800 if what == "map unaligned vaddr" else 0)
            if what == "map unmapped vaddr":
                vaddr = PAGE
            argsz = 31 if what == "map argsz 31" else None
            assert outcome(lab.map, container, iova, size, vaddr, flags, argsz) == expected, what
        elif what.startswith("unmap "):
            iova, size, flags = (int(str(value), 0) for value in fact["request"])
            request = t1.IommuType1DmaUnmap.sized(flags=flags, iova=iova, size=size)
            if what == "unmap argsz 23":
                request.argsz = 23
            got = outcome(lab.host.ioctl, container, t1.VFIO_IOMMU_UNMAP_DMA, request)
            assert got.get("error") == expected["error"], what
            assert hex(request.size) == expected["size_after"], what
        elif what.startswith("iommu info argsz"):
            argsz = int(what.split()[-1])
            if "error" in expected:
                assert errno_of(lab.info, container, argsz) == errno.EINVAL
            else:
                info, _ = lab.info(container, argsz)
                visible = expected["value"]
                assert (info.argsz, info.flags, hex(info.iova_pgsizes), info.cap_offset) == (
                    visible["argsz"],
                    visible["flags"],
                    visible["iova_pgsizes"],
                    visible["cap_offset"],
                )
        elif what.startswith("dirty pages"):
            names = {"start": 1, "stop": 2, "get bitmap, no data": 4, "start|stop": 3, "nothing": 0}
            request = t1.IommuType1DirtyBitmap.sized(flags=names[what.removeprefix("dirty pages ")])
            assert outcome(lab.host.ioctl, container, t1.VFIO_IOMMU_DIRTY_PAGES, request) == expected, what


@pytest.mark.parametrize("kind", [1, 3])
def test_zpci_info(vfio_lab: Lab, kind: int) -> None:
    container, _ = vfio_lab.ready("p0", kind)
    expected = facts("zpci-vfio.json", f"dma, type {kind}")[0]["result"]
    info, chain = vfio_lab.info(container)
    assert (info.argsz, info.flags, hex(info.iova_pgsizes), info.cap_offset) == (
        expected["argsz"],
        expected["flags"],
        expected["iova_pgsizes"],
        expected["cap_offset"],
    )
    assert [(c.id, c.version, c.offset) for c in chain.values()] == [
        (c["id"], c["version"], c["offset"]) for c in expected["caps"]
    ]
    for number, layout in ((2, "IIQQ"), (3, "I"), (1, "IIQQ")):
        golden = bytes.fromhex(next(c["payload"] for c in expected["caps"] if c["id"] == number))
        ours = as_s390x(vfio_lab, container, number, layout)
        assert golden[: len(ours)] == ours
        assert not any(golden[len(ours) :])


def test_ccw_info(vfio_lab: Lab) -> None:
    container, _ = vfio_lab.ready("m0")
    fact = next(f for f in facts("ccw-blk.json", "open by group and type1") if f["what"] == "iommu info (mdev only)")
    info, chain = vfio_lab.info(container)
    expected = fact["result"]
    assert (info.flags, hex(info.iova_pgsizes)) == (expected["flags"], expected["iova_pgsizes"])
    assert [c.id for c in chain.values()] == [c["id"] for c in expected["caps"]]


def test_ccw_map_rules(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, group = lab.ready("m0")
    lab.device_fd(group, "m0")
    with AnonymousMemory(0x80000) as programs:
        lab.map(container, 0x10000, 0x80000, programs.address)
        device = lab.fake("m0")
        for fact in facts("ccw-blk.json", "dma map rules (type1 v2, mdev only)"):
            what, expected = fact["what"], fact["result"]
            request = fact.get("request", [])
            numbers = [int(value, 0) for value in request] if isinstance(request, list) else []
            if what.startswith("map ") and numbers:
                iova, size = numbers[:2]
                flags = numbers[2] if len(numbers) > 2 else 3
                argsz = numbers[3] if len(numbers) > 3 else None
                vaddr = dma_memory.address + (0x800 if "unaligned vaddr" in what else 0)
                vaddr = PAGE if what == "map unmapped vaddr" else vaddr
                assert outcome(lab.map, container, iova, size, vaddr, flags, argsz) == expected, what
            elif what.startswith("unmap ") and numbers:
                flags = numbers[2] if len(numbers) > 2 else 0
                assert outcome(lab.unmap, container, *numbers[:2], flags) == expected, what
            elif what.endswith("unmapped vaddr"):
                assert errno_of(device.pin, 0x400000) == errno.EFAULT
            elif what == "SENSE ID into read-only memory":
                assert errno_of(device.pin, 0x300000) == errno.EPERM
            elif what == "SENSE ID into write-only memory":
                assert errno_of(device.pin, 0x310000) == errno.EPERM
            elif what == "SSCH after the unmap":
                assert lab.unmap(container, 0x10000, 0x80000) == 0x80000
                assert errno_of(device.dma_read, 0x11000, 8) == errno.EINVAL


def test_entry_limit(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    parameter = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
    fd = lab.host.open(parameter, 1)
    assert errno_of(lab.host.write, fd, b"many") == errno.EINVAL
    assert errno_of(lab.host.write, fd, b"4294967296") == errno.ERANGE
    lab.host.write(fd, b"4\n")
    container, _ = lab.ready("p0")
    for number, fact in enumerate(facts("zpci-vfio.json", "dma_entry_limit")[:6]):
        iova = FIRST + number * PAGE
        assert outcome(lab.map, container, iova, PAGE, dma_memory.address) == fact["result"], fact["what"]
    assert lab.available(container) == 0
    assert lab.unmap(container, FIRST, PAGE) == PAGE
    lab.map(container, FIRST, PAGE, dma_memory.address)
    lab.host.write(fd, b"9\n")
    assert lab.available(container) == 0  # a container keeps the limit it began with


def test_extensions(vfio_lab: Lab) -> None:
    lab = vfio_lab
    for golden, name in (("zpci-vfio.json", "p0"), ("ccw-blk.json", "m0")):
        section = "container and group" if name == "p0" else "open by group and type1"
        answers = {fact["what"]: fact["result"] for fact in facts(golden, section) if fact["what"].startswith("check_")}
        container, group = lab.container(), lab.group(name)
        lab.set_container(group, container)
        check = abi.VFIO_CHECK_EXTENSION
        for number in range(12):
            expected = answers.get(f"check_extension {number} before set_iommu")
            if expected is not None:
                assert {"value": lab.host.ioctl(container, check, number)} == expected
        lab.host.ioctl(container, abi.VFIO_SET_IOMMU, 1 if name == "p0" else 3)
        for number in range(12):
            expected = answers.get(f"check_extension {number} after set_iommu")
            if expected is not None:
                assert {"value": lab.host.ioctl(container, check, number)} == expected, number
    assert lab.host.ioctl(container, check, abi.VFIO_UPDATE_VADDR) == 0
    assert LAST > FIRST
