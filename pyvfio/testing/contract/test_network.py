"""network: interfaces, addresses and routes, in agreement with sysfs; an interface goes with its driver."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from pyvfio.backend import Backend
from pyvfio.network import Link
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import settles

IFF_UP = 1


def find(backend: Backend, name: str) -> Link | None:
    return next((link for link in backend.network().links if link.name == name), None)


@pytest.fixture
def interface(backend: Backend, sysfs: Attributes) -> Iterator[tuple[str, BoundFunction]]:
    """An interface of a PCI function that is down and without addresses, and the function."""
    for link in backend.network().links:
        steps = backend.readlink(f"/sys/class/net/{link.name}").split("/")
        if link.up or link.addresses or link.master or not any(step.startswith("pci") for step in steps):
            continue
        function = BoundFunction(backend, [step for step in steps if step.count(":") == 2][-1])
        yield link.name, function
        function.restore()
        settles(partial(find, backend, link.name))
        return
    pytest.skip("this host has no PCI network interface that is not in use")


def test_it_agrees_with_sysfs(backend: Backend, sysfs: Attributes) -> None:
    links = {link.name: link for link in backend.network().links}
    names = {name for name in backend.listdir("/sys/class/net") if sysfs.link(f"/sys/class/net/{name}/subsystem")}
    assert links.keys() == names
    for name, link in links.items():
        path = f"/sys/class/net/{name}"
        assert link.index == int(sysfs.read(f"{path}/ifindex"))
        assert link.up == bool(int(sysfs.read(f"{path}/flags"), 16) & IFF_UP)
        assert (link.master or None) == sysfs.link(f"{path}/master")


def test_the_loopback_interface(backend: Backend, sysfs: Attributes) -> None:
    link = find(backend, "lo")
    assert link is not None
    assert (link.index, link.kind, link.master, link.lower, link.up) == (1, "", "", "", True)
    assert "127.0.0.1/8" in link.addresses
    for name, text in {"type": "772", "flags": "0x9", "operstate": "unknown", "iflink": "1"}.items():
        assert sysfs.read(f"/sys/class/net/lo/{name}") == text
    assert backend.readlink("/sys/class/net/lo") == "../../devices/virtual/net/lo"


def test_routes_name_interfaces(backend: Backend) -> None:
    network = backend.network()
    names = {link.name for link in network.links}
    assert {route.interface for route in network.routes} <= names
    assert not [route for route in network.routes if route.destination.startswith("127.")]


def test_an_interface_goes_with_its_driver(backend: Backend, interface: tuple[str, BoundFunction]) -> None:
    name, function = interface
    before = find(backend, name)
    function.unbind()
    assert find(backend, name) is None
    function.restore()
    assert settles(lambda: find(backend, name))
    after = find(backend, name)
    assert before is not None
    assert after is not None
    assert after.index > before.index
    assert (after.up, after.addresses) == (False, ())
