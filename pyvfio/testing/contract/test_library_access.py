"""Nodes given away and taken back: owner and mode, as the library sets them."""

from __future__ import annotations

import stat

import pytest

from pyvfio.binding import run, undo
from pyvfio.binding.access import Grantee, nodes_of, plan_grant
from pyvfio.errors import NoSuchDevice
from pyvfio.host import Host
from pyvfio.testing.devices import BoundFunction, BoundMdev

SOMEBODY = Grantee("12345", 12345, "54321", 54321)


def owners(host: Host, nodes: list[str]) -> list[tuple[int, int, int]]:
    found = [host.backend.stat(node) for node in nodes]
    return [(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) for status in found]


def test_a_device_that_is_not_there(host: Host) -> None:
    with pytest.raises(NoSuchDevice):
        plan_grant(host, "fffe:00:00.0", SOMEBODY)


@pytest.mark.usefixtures("iommufd")
def test_a_function(host: Host, function: BoundFunction) -> None:
    nodes = nodes_of(host.function(function.address))
    assert nodes == [function.group, function.cdev]
    before = owners(host, nodes)
    plan = run(plan_grant(host, function.address, SOMEBODY, mode=0o640), journal=None)
    assert owners(host, nodes) == [(12345, 54321, 0o640)] * 2
    undo(plan)
    assert owners(host, nodes) == before


def test_a_mediated_device(host: Host, mdev: BoundMdev) -> None:
    nodes = [mdev.group, mdev.cdev]
    before = owners(host, nodes)
    plan = run(plan_grant(host, mdev.uuid, Grantee("12345", 12345, None, None)), journal=None)
    assert [uid for uid, _, _ in owners(host, nodes)] == [12345, 12345]
    undo(plan)
    assert owners(host, nodes) == before
