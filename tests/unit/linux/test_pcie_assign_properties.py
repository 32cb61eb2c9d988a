"""Addresses that Linux gives: whatever is removed and found again, nothing overlaps and everything is reached."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pci_fixture import BUS
from pcie_fixture import Pcie

from pyvfio_backends.software.linux.pci_device import RESOURCES, ROM, PciDevice
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag

_IOV = range(ROM + 1, RESOURCES)
_WINDOWS = range(RESOURCES, RESOURCES + 3)


@pytest.fixture(scope="module")
def shared() -> Iterator[Pcie]:
    made = Pcie()
    yield made
    made.host.close()


def devices(lab: Pcie) -> dict[str, PciDevice]:
    return {name: one for name, one in lab.kernel.buses["pci"].devices.items() if isinstance(one, PciDevice)}


def check(lab: Pcie) -> None:
    by_parent: dict[str, list[tuple[str, int, Resource]]] = {}
    for name, device in devices(lab).items():
        parent = device.parent
        assert parent is not None
        above = parent if isinstance(parent, PciDevice) else None
        for index, resource in enumerate(device.resources):
            if not resource.flags:
                continue
            what = f"{name} {index} {resource}"
            assert resource.claimed, what
            _check_alignment(device, index, resource, what)
            if above is not None:
                windows = [above.resources[n] for n in _WINDOWS if above.resources[n].claimed]
                assert any(one.start <= resource.start and resource.end <= one.end for one in windows), what
            by_parent.setdefault(parent.name, []).append((name, index, resource))
    for rows in by_parent.values():
        for io in (True, False):
            kind = sorted(
                (row for row in rows if bool(row[2].flags & ResourceFlag.IO) is io), key=lambda row: row[2].start
            )
            for one, two in pairwise(kind):
                assert one[2].end < two[2].start, (one, two)


def _check_alignment(device: PciDevice, index: int, resource: Resource, what: str) -> None:
    size = resource.end - resource.start + 1
    if index in _WINDOWS:
        granule = 1 << (12 if resource.flags & ResourceFlag.IO else 20)
        assert resource.start % granule == 0, what
        assert size % granule == 0, what
    elif index in _IOV and device.sriov is not None:
        assert resource.start % device.sriov.bar_sizes[index - ROM - 1] == 0, what
    else:
        assert resource.start % size == 0, what
    if not resource.flags & ResourceFlag.MEM_64:
        assert resource.end < 1 << 32, what


NAMES = sorted(name for name in devices(Pcie()) if name not in ("0000:00:00.0", "0000:00:1f.0"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=10))
def test_nothing_overlaps_and_all_is_reached(shared: Pcie, orders: list[tuple[str, bool]]) -> None:
    before = set(shared.host.listdir(f"{BUS}/devices"))
    for name, at_once in orders:
        if name in devices(shared):
            shared.write(f"{BUS}/devices/{name}/remove", "1")
        if at_once:
            shared.write(f"{BUS}/rescan", "1")
            check(shared)
    shared.write(f"{BUS}/rescan", "1")
    assert set(shared.host.listdir(f"{BUS}/devices")) == before
    check(shared)
    for name, device in devices(shared).items():
        if not device.is_bridge and device.driver is None:
            _answers(shared, name, device)


def _answers(lab: Pcie, name: str, device: PciDevice) -> None:
    """What the function decodes is what Linux believes, when it is switched on."""
    hardware = lab.hardware(name)
    command = device.command
    device.set_command(0, 3)
    decoded = {one.first for one in hardware.decoders() if one.bar is not None and one.bar.index < ROM}
    device.write_config(4, 2, command)
    assert decoded == {one.start for one in device.resources[:ROM] if one.flags}, name
