"""Arguments of the wrong type: a `TypeError` that names the argument, from the calls that people make by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pyvfio

EDU = "0000:00:06.0"


@pytest.fixture(scope="module")
def device() -> Iterator[Any]:
    """Untyped, as for somebody without a type checker."""
    with pyvfio.Host("software", machine="lab-x86") as host:
        pyvfio.bind(host.device(EDU))
        with pyvfio.open_device(host, EDU) as opened:
            yield opened


@pytest.fixture(scope="module")
def untyped() -> Any:
    return pyvfio


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("Host: backend is the name of one, or a pyvfio.Backend, not 5", lambda p: p.Host(5)),
        ("open_device: host is a pyvfio.Host, not '0000:00:06.0'", lambda p: p.open_device(EDU, EDU)),
        ("bind: device is one that Host.device", lambda p: p.bind(EDU)),
        ("unbind: device is one that Host.device", lambda p: p.unbind(5)),
        ("release: device is one that Host.device", lambda p: p.release(None)),
        ("Container: host is", lambda p: p.Container("x")),
        ("Iommufd: host is", lambda p: p.Iommufd(None)),
        ("Group: host is", lambda p: p.Group(3, 4)),
    ],
)
def test_ways_in(untyped: Any, words: str, call: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=words):
        call(untyped)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("map: address is a whole number, not 'x'", lambda d: d.space.map("x", 1 << 12)),
        ("map: length is a whole number, not None", lambda d: d.space.map(0, None)),
        ("map: address is a whole number, not 4096.0", lambda d: d.space.map(4096.0, 1 << 12)),
        ("map: iova is", lambda d: d.space.map(0, 1 << 12, "x")),
        ("map: below is", lambda d: d.space.map(0, 1 << 12, below="x")),
        ("map_file: fd is", lambda d: d.space.map_file("x", 0, 1 << 12)),
        ("map_file: offset is", lambda d: d.space.map_file(0, None, 1 << 12)),
        ("unmap: iova is", lambda d: d.space.unmap(None, 1 << 12)),
        ("buffer: length is", lambda d: d.space.buffer(None)),
        ("buffer: alignment is", lambda d: d.space.buffer(1 << 12, alignment="x")),
        ("Device.region: index is", lambda d: d.region("x")),
        ("Device.irq: index is", lambda d: d.irq(None)),
        ("Region.read: offset is a whole number, not None", lambda d: d.region(0).read(None, 4)),
        ("Region.read: count is a whole number, not 'x'", lambda d: d.region(0).read(0, "x")),
        ("Region.read: offset is", lambda d: d.region(0).read_u32("x")),
        ("Region.write: offset is", lambda d: d.region(0).write(None, b"x")),
        ("Region.write: data is bytes, not 'x'", lambda d: d.region(0).write(0, "x")),
        ("Region.write: data is bytes, not None", lambda d: d.region(0).write(0, None)),
        ("Region.write_u32: value is a whole number, not None", lambda d: d.region(0).write_u32(0, None)),
        ("ConfigSpace.read: offset is", lambda d: d.config.read_u16("x")),
    ],
)
def test_an_open_device(device: Any, words: str, call: Callable[[Any], object]) -> None:
    before = device.space.mappings()
    with pytest.raises(TypeError, match=words):
        call(device)
    assert device.space.mappings() == before


def test_the_space_of_another_device(device: Any, untyped: Any) -> None:
    with pytest.raises(TypeError, match="open_device: space is an AddressSpace or a Container, not 5"):
        untyped.open_device(untyped.Host(device.backend), EDU, space=5)


def test_long_values_are_cut(untyped: Any) -> None:
    with pytest.raises(TypeError) as caught:
        untyped.bind("x" * 1000)
    assert len(str(caught.value)) < 120
