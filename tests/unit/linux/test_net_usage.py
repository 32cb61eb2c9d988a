"""Interfaces in use: bonds, bridges, VLANs, addresses and routes in sysfs and by the seam's `network`.

Links, flags and files are those that 6.12 and 6.18 kernels gave for the same interfaces; bonds follow
``drivers/net/bonding``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from usage_fixture import VIRTIO, Used, errno_of, from_text, server

from pyvfio.errors import NotModelled
from pyvfio.network import Link, Network, Route

NET = "/sys/class/net"
FUNCTIONS = ["0001:00:00.0", "0002:00:00.0", "0003:00:00.0", "0004:00:00.0"]

MACHINE = '[machine]\nname = "net"\n' + "".join(
    f'[[zpci.function]]\nuid = {n}\nfid = {n}\nmodel = "virtio-net"\ndriver = "virtio-pci"\n'
    f'options = {{ mac = "02:00:00:00:00:0{n}" }}\n'
    for n in (1, 2, 3, 4)
)
USAGE = """
[net]
up = ["eth3"]
[[net.bond]]
name = "bond0"
ports = ["eth0", "eth1"]
mode = "802.3ad"
[[net.bridge]]
name = "br0"
ports = ["bond0.7", "eth2"]
[[net.vlan]]
name = "bond0.7"
lower = "bond0"
id = 7
[[net.address]]
interface = "br0"
address = "192.0.2.1/24"
[[net.address]]
interface = "br0"
address = "2001:db8::1/64"
[[net.address]]
interface = "bond0"
address = "198.51.100.7/32"
[[net.route]]
destination = "default"
gateway = "192.0.2.254"
interface = "br0"
[[net.route]]
destination = "203.0.113.0/24"
interface = "bond0"
"""


@pytest.fixture
def used(tmp_path: Path) -> Iterator[Used]:
    machine = from_text(tmp_path, MACHINE + USAGE)
    yield machine
    machine.close()


def links(used: Used) -> dict[str, Link]:
    return {link.name: link for link in used.host.network().links}


def lower_and_upper(used: Used, name: str) -> list[str]:
    return [entry for entry in used.names(f"{NET}/{name}") if entry.startswith(("lower_", "upper_", "master"))]


@pytest.mark.parametrize("name", ["flags", "mtu", "carrier"])
def test_settings_are_not_modelled(name: str, used: Used) -> None:
    with pytest.raises(NotModelled, match=name):
        used.write(f"{NET}/eth0/{name}", "1")


def test_new_bonds_are_not_modelled(used: Used) -> None:
    assert used.read(f"{NET}/bonding_masters") == "bond0"
    with pytest.raises(NotModelled, match="bonding_masters"):
        used.write(f"{NET}/bonding_masters", "+bond1")


def test_an_interface_that_is_down() -> None:
    used = server()
    assert errno_of(used.read, f"{NET}/eth2/speed") == errno_of(used.read, f"{NET}/eth2/carrier") == "EINVAL"
    assert (used.read(f"{NET}/eth2/flags"), used.read(f"{NET}/eth2/operstate")) == ("0x1002", "down")
    used.close()


def test_an_interface_that_is_up(used: Used) -> None:
    texts = {name: used.read(f"{NET}/eth3/{name}") for name in ("flags", "operstate", "carrier", "speed", "duplex")}
    assert texts == {"flags": "0x1003", "operstate": "up", "carrier": "1", "speed": "-1", "duplex": "unknown"}
    assert used.read(f"{NET}/eth3/carrier_changes") == "2"


def test_the_loopback_interface(used: Used) -> None:
    assert used.host.readlink(f"{NET}/lo") == "../../devices/virtual/net/lo"
    assert {name: used.read(f"{NET}/lo/{name}") for name in ("flags", "type", "mtu", "ifindex", "operstate")} == {
        "flags": "0x9", "type": "772", "mtu": "65536", "ifindex": "1", "operstate": "unknown",
    }  # fmt: skip


def test_a_bond(used: Used) -> None:
    assert lower_and_upper(used, "bond0") == ["lower_eth0", "lower_eth1", "upper_bond0.7"]
    texts = used.texts(f"{NET}/bond0/bonding")
    assert (texts["slaves"], texts["mode"], texts["active_slave"]) == ("eth0 eth1", "802.3ad 4", "eth0")
    assert used.read(f"{NET}/bond0/flags") == "0x1403"
    assert used.read(f"{NET}/bond0/uevent").splitlines()[:2] == ["DEVTYPE=bond", "INTERFACE=bond0"]
    assert used.read(f"{NET}/bond0/address") == "02:00:00:00:00:01"


def test_a_port_of_a_bond(used: Used) -> None:
    assert lower_and_upper(used, "eth1") == ["master", "upper_bond0"]
    assert used.read(f"{NET}/eth1/master/ifindex") == str(links(used)["bond0"].index)
    assert used.texts(f"{NET}/eth1/bonding_slave")["state"] == "backup"
    assert used.read(f"{NET}/eth1/flags") == "0x1803"
    assert used.host.readlink(f"{NET}/eth1/master") == "../../../../../virtual/net/bond0"


def test_a_bridge(used: Used) -> None:
    assert lower_and_upper(used, "br0") == ["lower_bond0.7", "lower_eth2"]
    assert used.names(f"{NET}/br0/brif") == ["bond0.7", "eth2"]
    assert used.read(f"{NET}/br0/brif/eth2/port_no") == "0x2"
    assert used.host.readlink(f"{NET}/br0/brif/bond0.7") == "../../bond0.7/brport"
    assert used.read(f"{NET}/br0/bridge/bridge_id").startswith("8000.")
    assert used.read(f"{NET}/br0/uevent").splitlines()[0] == "DEVTYPE=bridge"


def test_a_port_of_a_bridge(used: Used) -> None:
    assert lower_and_upper(used, "eth2") == ["master", "upper_br0"]
    assert used.read(f"{NET}/eth2/brport/state") == "3"
    assert used.host.readlink(f"{NET}/eth2/brport/bridge").endswith("virtual/net/br0")


def test_a_vlan(used: Used) -> None:
    assert lower_and_upper(used, "bond0.7") == ["lower_bond0", "master", "upper_br0"]
    assert used.read(f"{NET}/bond0.7/iflink") == str(links(used)["bond0"].index)
    assert used.read(f"{NET}/bond0.7/uevent").splitlines()[0] == "DEVTYPE=vlan"
    assert not used.exists(f"{NET}/bond0.7/device")


def test_the_network_says_the_same(used: Used) -> None:
    lo = Link(1, "lo", up=True, addresses=("127.0.0.1/8", "::1/128"))
    assert used.host.network() == Network(
        links=(
            lo,
            Link(2, "eth0", master="bond0", up=True),
            Link(3, "eth1", master="bond0", up=True),
            Link(4, "eth2", master="br0", up=True),
            Link(5, "eth3", up=True),
            Link(6, "bond0", "bond", up=True, addresses=("198.51.100.7/32",)),
            Link(7, "br0", "bridge", up=True, addresses=("192.0.2.1/24", "2001:db8::1/64")),
            Link(8, "bond0.7", "vlan", "br0", "bond0", True),
        ),
        routes=(
            Route("default", "br0", "192.0.2.254"),
            Route("192.0.2.0/24", "br0"),
            Route("203.0.113.0/24", "bond0"),
            Route("2001:db8::/64", "br0"),
        ),
    )


@pytest.mark.parametrize(
    ("peer", "interface"),
    [
        ("203.0.113.9", "bond0"),
        ("192.0.2.77", "br0"),
        ("8.8.8.8", "br0"),
        ("2001:db8::9", "br0"),
        ("192.0.2.1", "lo"),
        ("2001:db8:1::1", ""),
    ],
)
def test_the_way_to_the_peer(peer: str, interface: str, tmp_path: Path) -> None:
    used = from_text(tmp_path, MACHINE + USAGE + f'[session]\npeer = "{peer}"\n')
    network = used.host.network()
    used.close()
    assert (network.peer, network.peer_interface) == (peer, interface)


# a driver goes


def test_an_interface_takes_its_addresses_and_routes_along() -> None:
    used = server()
    assert used.host.network().peer_interface == "eth0"
    used.write(f"{VIRTIO}/unbind", "0011:00:00.0")
    network = used.host.network()
    assert "eth0" not in {link.name for link in network.links}
    assert {route.interface for route in network.routes} == {"bond0"}
    assert (network.peer, network.peer_interface) == ("192.0.2.77", "")
    used.write(f"{VIRTIO}/bind", "0011:00:00.0")
    assert links(used)["eth0"] == Link(6, "eth0")
    assert {route.interface for route in used.host.network().routes} == {"bond0"}
    used.close()


def test_a_port_leaves_its_bond(used: Used) -> None:
    used.write(f"{VIRTIO}/unbind", FUNCTIONS[0])
    assert lower_and_upper(used, "bond0") == ["lower_eth1", "upper_bond0.7"]
    assert used.read(f"{NET}/bond0/bonding/slaves") == "eth1"
    assert used.texts(f"{NET}/eth1/bonding_slave")["state"] == "active"
    used.write(f"{VIRTIO}/bind", FUNCTIONS[0])
    assert lower_and_upper(used, "eth0") == []
    assert used.read(f"{NET}/eth0/flags") == "0x1002"


def test_vlans_go_with_what_they_stand_on(tmp_path: Path) -> None:
    used = from_text(tmp_path, MACHINE + '[[net.vlan]]\nname = "v5"\nlower = "eth0"\nid = 5\n')
    used.write(f"{VIRTIO}/unbind", FUNCTIONS[0])
    gone = [event.devpath.rsplit("/", 1)[1] for event in used.new_events() if event.subsystem == "net"]
    assert gone == ["v5", "eth0"]
    assert not used.exists(f"{NET}/v5")
    assert "v5" not in links(used)
    used.close()


def test_a_port_leaves_its_bridge(used: Used) -> None:
    used.write(f"{VIRTIO}/unbind", FUNCTIONS[2])
    assert used.names(f"{NET}/br0/brif") == ["bond0.7"]
    assert links(used)["br0"].addresses == ("192.0.2.1/24", "2001:db8::1/64")
