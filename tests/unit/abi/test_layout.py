"""`pyvfio.abi.layout`: sized structures, packing, and capability chains.

The chain's rules are of ``vfio.h`` (the text on ``struct vfio_info_cap_header``) and ``drivers/vfio/vfio_main.c``.
"""

from __future__ import annotations

import ctypes
import struct
import sys

import pytest
from headerprobe import TABLES, structures
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.abi import iommufd, vfio, vfio_ccw, vfio_gfx, vfio_spapr, vfio_type1, vfio_zdev
from pyvfio.abi.layout import (
    AbiStructure,
    Capability,
    InfoCapHeader,
    build_capability_chain,
    native_struct,
    parse_capability_chain,
    read_trailer,
)
from pyvfio.errors import MalformedAnswer, Misuse

HEAD = struct.Struct("=HHI")


def head(number: int, following: int) -> bytes:
    return HEAD.pack(number, 1, following)


# ---- chains that are wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("buffer", "first", "said"),
    [
        (bytes(24) + head(1, 24), 24, "a loop: 0x18"),
        (bytes(24) + head(1, 32) + head(2, 24), 24, "a loop: 0x18"),
        (bytes(24) + head(1, 32) + head(2, 40) + head(3, 32), 24, "a loop: 0x20"),
        (bytes(24), 24, "a capability at 0x18"),
        (bytes(24) + head(1, 0)[:7], 24, "a capability at 0x18"),
        (bytes(24) + head(1, 0x1000), 24, "a capability at 0x1000"),
        (bytes(24) + head(1, 0xFFFFFFFF), 24, "a capability at 0xffffffff"),
        (bytes(24) + head(1, 25), 24, "a capability at 0x19"),
        (bytes(24) + head(1, 28) + bytes(8), 24, "overlap"),
        (bytes(24) + head(1, 0), 4, "a capability at 0x4"),
        (bytes(24) + head(1, 0), 7, "a capability at 0x7"),
        (bytes(24) + head(1, 0), 0xFFFFFFF8, "a capability at 0xfffffff8"),
        (b"", 24, "a capability at 0x18"),
    ],
)
def test_a_broken_chain_is_refused(buffer: bytes, first: int, said: str) -> None:
    with pytest.raises(MalformedAnswer, match=said) as caught:
        parse_capability_chain(buffer, first, "device info of 0.0.013f")
    assert caught.value.obj == "device info of 0.0.013f"


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_at_all_do_more_than_be_refused(buffer: bytes, first: int) -> None:
    try:
        chain = parse_capability_chain(buffer, first, "noise")
    except MalformedAnswer:
        return
    assert all(8 <= capability.offset <= len(buffer) - 8 for capability in chain)
    assert sum(8 + len(capability.payload) for capability in chain) <= len(buffer)


def test_a_capability_too_short_for_its_structure_is_refused() -> None:
    with pytest.raises(MalformedAnswer, match="vfio_region_info_cap_type"):
        Capability(vfio.VFIO_REGION_INFO_CAP_TYPE, 1, bytes(4)).read(vfio.RegionInfoCapType)


def test_a_trailer_longer_than_the_capability_is_refused() -> None:
    areas = Capability(vfio.VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, struct.pack("=II", 3, 0) + bytes(32))
    with pytest.raises(MalformedAnswer, match="3 elements said, room for 2"):
        areas.trailer(vfio.RegionInfoCapSparseMmap, vfio.RegionSparseMmapArea, 3)
    path = Capability(vfio.VFIO_DEVICE_INFO_CAP_ZPCI_PFIP, 1, struct.pack("=I", 9) + bytes(4))
    with pytest.raises(MalformedAnswer, match="9 bytes said, 4 there"):
        path.trailing_bytes(vfio_zdev.DeviceInfoCapZpciPfip, 9)


def test_a_structure_without_a_flexible_array_has_no_trailer() -> None:
    with pytest.raises(Misuse):
        read_trailer(bytes(64), vfio.DeviceInfo, vfio.RegionSparseMmapArea, 1)


@pytest.mark.parametrize("first", [0, 4, 20, 25])
def test_a_chain_is_not_built_where_the_kernel_would_not_put_it(first: int) -> None:
    with pytest.raises(Misuse):
        build_capability_chain([Capability(1, 1, b"")], first)


# ---- chains that are right ---------------------------------------------------------------------------------------


def test_no_chain() -> None:
    assert parse_capability_chain(bytes(24), 0, "device info") == []
    assert build_capability_chain([], 24) == b""


def test_the_order_is_the_chains_and_not_that_of_the_offsets() -> None:
    buffer = bytes(24) + head(2, 0) + b"second.." + head(1, 24) + b"first..."
    chain = parse_capability_chain(buffer, 40, "region info")
    assert chain == [Capability(1, 1, b"first...", 40), Capability(2, 1, b"second..", 24)]


def test_a_chain_of_a_kernel_before_the_alignment_is_read() -> None:
    """Before the field `pad`, vfio_device_info had 20 bytes and the chain began there."""
    assert parse_capability_chain(bytes(20) + head(4, 0), 20, "device info") == [Capability(4, 1, b"", 20)]


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=50)), max_size=12),
    st.integers(1, 16).map(lambda units: units * 8),
    st.integers(0, 16),
)
def test_what_is_built_is_read_back(capabilities: list[tuple[int, int, bytes]], first: int, spare: int) -> None:
    chain = [Capability(*each) for each in capabilities]
    built = build_capability_chain(chain, first)
    assert len(built) % 8 == 0
    back = parse_capability_chain(bytes(first) + built + bytes(spare), first if chain else 0, "round trip")
    assert [(each.id, each.version) for each in back] == [(each.id, each.version) for each in chain]
    for before, after in zip(chain, back, strict=True):
        assert after.offset % 8 == 0
        assert after.payload.startswith(before.payload)
        assert not any(after.payload[len(before.payload) :])
    assert build_capability_chain(back[:-1], first) == build_capability_chain(chain[:-1], first)


def test_the_capabilities_of_a_zpci_function() -> None:
    """The chain that a real s390x kernel (6.12) gave for a virtio function, with its numbers in this byte order."""
    base = vfio_zdev.DeviceInfoCapZpciBase(start_dma=1 << 32, end_dma=(1 << 32) + 0x1FFFFFFF, gid=0xFF, fh=0x80020000)
    group = vfio_zdev.DeviceInfoCapZpciGroup(msi_addr=0xFE << 56, flags=1, mui=4000, noi=128, maxstbl=128, imaxstbl=128)
    pfip = vfio_zdev.DeviceInfoCapZpciPfip(size=4)
    built = build_capability_chain(
        [
            Capability(vfio.VFIO_DEVICE_INFO_CAP_ZPCI_BASE, 2, bytes(base)[8:]),
            Capability(vfio.VFIO_DEVICE_INFO_CAP_ZPCI_GROUP, 2, bytes(group)[8:]),
            Capability(vfio.VFIO_DEVICE_INFO_CAP_ZPCI_PFIP, 1, bytes(pfip)[8:] + b"\1\2\3\4"),
        ],
        24,
    )
    chain = parse_capability_chain(bytes(24) + built, 24, "device info")
    assert [each.offset for each in chain] == [24, 64, 112]
    assert len(bytes(24) + built) == 128
    assert chain[0].read(vfio_zdev.DeviceInfoCapZpciBase).fh == 0x80020000
    assert chain[1].read(vfio_zdev.DeviceInfoCapZpciGroup).imaxstbl == 128
    path = chain[2].read(vfio_zdev.DeviceInfoCapZpciPfip)
    assert chain[2].trailing_bytes(vfio_zdev.DeviceInfoCapZpciPfip, path.size) == b"\1\2\3\4"


def test_a_shorter_older_version_is_filled_with_zeros() -> None:
    """Version 1 of the base capability ended before the function handle."""
    first = Capability(vfio.VFIO_DEVICE_INFO_CAP_ZPCI_BASE, 1, bytes(23) + b"\7")
    base = first.read(vfio_zdev.DeviceInfoCapZpciBase, minimum=32)
    assert (base.gid, base.fh) == (7, 0)


def test_iova_ranges_are_read_from_the_trailer() -> None:
    ranges = struct.pack("=IIQQQQ", 2, 0, 0, 0xFEDFFFFF, 0xFEF00000, (1 << 48) - 1)
    capability = Capability(vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 1, ranges)
    count = capability.read(vfio_type1.IommuType1InfoCapIovaRange).nr_iovas
    found = capability.trailer(vfio_type1.IommuType1InfoCapIovaRange, vfio_type1.IovaRange, count)
    assert [(each.start, each.end) for each in found] == [(0, 0xFEDFFFFF), (0xFEF00000, (1 << 48) - 1)]


# ---- structures --------------------------------------------------------------------------------------------------

EVERY_STRUCTURE = [cls for modules in TABLES.values() for module in modules for cls in structures(module)]
WITH_UNION = {vfio.PciDependentDevice, vfio_gfx.DeviceGfxPlaneInfo, vfio_spapr.EehPeOp}


@pytest.mark.parametrize("cls", [vfio_ccw.CcwCmdRegion, vfio_type1.IovaRange, InfoCapHeader])
def test_only_what_begins_with_its_size_can_be_sized(cls: type[AbiStructure]) -> None:
    with pytest.raises(Misuse):
        cls.sized()


@pytest.mark.parametrize("cls", sorted(WITH_UNION, key=lambda cls: cls.__name__))
def test_a_union_is_not_packed(cls: type[AbiStructure]) -> None:
    with pytest.raises(Misuse, match="union"):
        native_struct(cls)


def test_sized_structures() -> None:
    assert vfio.DeviceInfo.sized().argsz == 24
    assert iommufd.IoasAlloc.sized(flags=1).size == 12
    assert vfio.IrqSet.sized(count=2).argsz == 20
    # The first field is the size of the argument here, and the last one the size of the mapping.
    mapping = vfio_type1.IommuType1DmaMap.sized(size=0x10000)
    assert (mapping.argsz, mapping.size) == (32, 0x10000)


def test_integers_are_in_the_byte_order_of_the_process() -> None:
    assert bytes(vfio.GroupStatus(argsz=8, flags=1))[:4] == (8).to_bytes(4, sys.byteorder)


def test_reserved_fields_have_the_kernels_names() -> None:
    assert [name for name, *_ in iommufd.IoasMap._fields_][3] == "__reserved"
    assert [name for name, *_ in vfio_spapr.IommuSpaprTceCreate._fields_][6] == "__resv2"


def test_a_union_is_read_both_ways() -> None:
    device = vfio.PciDependentDevice.from_buffer_copy(struct.pack("=IHBB", 7, 1, 2, 3))
    assert (device.group_id, device.devid, device.segment, device.bus, device.devfn) == (7, 7, 1, 2, 3)


def test_repr_names_the_fields() -> None:
    assert repr(vfio.GroupStatus(argsz=8, flags=0x21)) == "GroupStatus(argsz=8, flags=0x21)"
    assert repr(vfio.IrqSet()).endswith("data=<0 elements>)")


@pytest.mark.parametrize("cls", [cls for cls in EVERY_STRUCTURE if cls not in WITH_UNION], ids=lambda cls: cls._c_name_)
def test_a_native_struct_has_the_size_and_the_values_of_its_class(cls: type[AbiStructure]) -> None:
    layout = native_struct(cls)
    assert layout.size == ctypes.sizeof(cls)
    raw = bytes(range(1, layout.size + 1))
    values = iter(layout.unpack(raw))
    _compare(cls.from_buffer_copy(raw), values)
    assert list(values) == []


def _compare(read: ctypes.Structure, values: object) -> None:
    assert hasattr(values, "__next__")
    for name, kind in read._fields_:
        value = getattr(read, name)
        if isinstance(value, ctypes.Structure):
            _compare(value, values)
        elif ctypes.sizeof(kind):
            assert next(values) == (bytes(value) if isinstance(value, ctypes.Array) else value)


@given(st.integers(0, 7), *[st.integers(0, 2**64 - 1)] * 3)
def test_the_fast_packing_of_a_mapping_is_the_structure(flags: int, vaddr: int, iova: int, size: int) -> None:
    packed = vfio_type1.PACK_DMA_MAP.pack(32, flags, vaddr, iova, size)
    mapping = vfio_type1.IommuType1DmaMap(argsz=32, flags=flags, vaddr=vaddr, iova=iova, size=size)
    assert packed == bytes(mapping)


def test_no_two_classes_have_the_same_name_in_c() -> None:
    names = [cls._c_name_ for cls in set(EVERY_STRUCTURE)]
    assert len(names) == len(set(names))
    assert len(names) > 70
