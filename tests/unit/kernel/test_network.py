"""The kernel backend's network: in a namespace of its own where that is allowed, else with played answers."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from pytest_mock import MockerFixture

from pyvfio.network import Link, Route
from pyvfio_backends.kernel import network as module
from pyvfio_backends.kernel.network import network, session_peer

SCRIPT = Path(__file__).with_name("network_namespace.py")


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    """What `network` says of interfaces that the kernel made."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    command = [unshare, "--user", "--map-root-user", "--net", sys.executable, str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(f"no namespace of its own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def link(namespace: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    if kind in namespace["missing"]:
        pytest.skip(f"this kernel has no {kind} interfaces")
    found: dict[str, Any] = next(one for one in namespace["links"] if one["name"] == name)
    return found


def test_nothing_is_left_open(namespace: dict[str, Any]) -> None:
    before, after = namespace["left"]
    assert before == after


def test_a_bridge_and_its_port(namespace: dict[str, Any]) -> None:
    assert link(namespace, "br0", "bridge")["kind"] == "bridge"
    port = link(namespace, "v0", "veth")
    assert (port["kind"], port["master"], port["lower"], port["up"]) == ("veth", "br0", "", True)


def test_addresses(namespace: dict[str, Any]) -> None:
    assert link(namespace, "v1", "veth")["addresses"][:2] == ["10.1.0.5/24", "2001:db8::5/64"]
    assert namespace["links"][0]["name"] == "lo"
    assert "127.0.0.1/8" in namespace["links"][0]["addresses"]


def test_an_interface_on_another(namespace: dict[str, Any]) -> None:
    above = link(namespace, "mv0", "macvlan")
    assert (above["lower"], above["up"]) == ("v1", False)


def test_a_vlan(namespace: dict[str, Any]) -> None:
    assert link(namespace, "near.5", "vlan")["lower"] == "v1"


def test_a_bond(namespace: dict[str, Any]) -> None:
    assert link(namespace, "bond0", "bond")["kind"] == "bond"


def test_routes_are_those_of_people(namespace: dict[str, Any]) -> None:
    link(namespace, "v1", "veth")
    routes = [tuple(route[key] for key in ("destination", "interface", "gateway")) for route in namespace["routes"]]
    assert ("default", "v1", "10.1.0.1") in routes
    assert ("10.1.0.0/24", "v1", "") in routes
    assert ("2001:db8:1::/48", "v1", "2001:db8::1") in routes
    assert [gateway for to, _, gateway in routes if to == "10.9.0.0/16"] == ["10.1.0.2", "10.1.0.3"]
    # neither blackholes nor what the kernel keeps for local and broadcast addresses
    assert not [to for to, *_ in routes if to.startswith(("10.7.", "127.", "ff00:", "10.1.0.255", "10.1.0.5"))]


def test_the_way_to_the_peer_is_the_kernels(namespace: dict[str, Any]) -> None:
    link(namespace, "v1", "veth")
    assert namespace["ways"] == {
        "10.9.1.1": ["10.9.1.1", "v1"],
        "2001:db8:1::7": ["2001:db8:1::7", "v1"],
        "fe80::1%v1": ["fe80::1", "v1"],
        "10.1.0.5": ["10.1.0.5", "lo"],
        "10.7.0.1": ["10.7.0.1", ""],
        "::ffff:10.1.0.9": ["10.1.0.9", "v1"],
    }


# the session


class Parent:
    """A process above this one."""

    def __init__(self, environment: dict[str, str] | None, name: str = "bash", peers: tuple[str, ...] = ()) -> None:
        self.environment = environment
        self.peers = peers
        self._name = name

    def environ(self) -> dict[str, str]:
        if self.environment is None:
            raise psutil.AccessDenied(1)
        return self.environment

    def name(self) -> str:
        return self._name

    def net_connections(self, kind: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(status="ESTABLISHED", raddr=SimpleNamespace(ip=ip)) for ip in self.peers]


SSH = {"SSH_CONNECTION": "192.0.2.9 50000 192.0.2.1 22"}


@pytest.mark.parametrize(
    ("own", "parents", "expected"),
    [
        pytest.param({}, [], ("", ""), id="no session"),
        pytest.param(SSH, [], ("192.0.2.9", ""), id="own variable"),
        pytest.param({}, [Parent({}, "sudo"), Parent(SSH)], ("192.0.2.9", ""), id="a parent's, over sudo"),
        pytest.param({}, [Parent(None), Parent(SSH)], ("192.0.2.9", ""), id="a parent that cannot be read"),
        pytest.param({}, [Parent(None), Parent({}, "init")], ("", ""), id="nothing to be read"),
        pytest.param(
            {}, [Parent({}, "sshd-session", ("2001:db8::9",))], ("2001:db8::9", ""), id="the daemon's connection"
        ),
        pytest.param({}, [Parent({}, "nginx", ("192.0.2.9",))], ("", ""), id="another daemon's connection"),
        pytest.param({"SSH_CONNECTION": "UNKNOWN 1 2 3"}, [Parent(SSH)], ("192.0.2.9", ""), id="not an address"),
        pytest.param({"SSH_CONNECTION": "fe80::9%eth0 1 2 3"}, [], ("fe80::9", "eth0"), id="with a zone"),
        pytest.param({"SSH_CONNECTION": "::ffff:192.0.2.9 1 2 3"}, [], ("192.0.2.9", ""), id="IPv4 within IPv6"),
    ],
)
def test_where_the_session_comes_from(
    own: dict[str, str], parents: list[Parent], expected: tuple[str, str], mocker: MockerFixture
) -> None:
    mocker.patch.dict(module.os.environ, own, clear=True)
    mocker.patch("psutil.Process").return_value.parents.return_value = parents
    assert session_peer() == expected


def test_parents_that_are_gone(mocker: MockerFixture) -> None:
    mocker.patch.dict(module.os.environ, {}, clear=True)
    mocker.patch("psutil.Process").return_value.parents.side_effect = psutil.NoSuchProcess(1)
    assert session_peer() == ("", "")


# messages of kinds that not every kernel has


class Played(dict[str, Any]):
    """A message with fields and attributes."""


def rtnetlink(mocker: MockerFixture) -> Any:
    mocker.patch.dict(module.os.environ, {}, clear=True)
    mocker.patch("psutil.Process").return_value.parents.return_value = []
    played = mocker.patch("pyroute2.IPRoute").return_value.__enter__.return_value
    played.get_addr.return_value = []
    played.get_routes.return_value = []
    return played


def test_bonds_and_vlans(mocker: MockerFixture) -> None:
    played = rtnetlink(mocker)
    played.get_links.return_value = [
        Played(index=2, flags=0x1803, IFLA_IFNAME="eth0", IFLA_MASTER=4),
        Played(index=4, flags=0x1403, IFLA_IFNAME="bond0", IFLA_LINKINFO=Played(IFLA_INFO_KIND="bond")),
        Played(index=5, flags=0x1002, IFLA_IFNAME="bond0.5", IFLA_LINK=4, IFLA_LINKINFO=Played(IFLA_INFO_KIND="vlan")),
        Played(index=6, flags=1, IFLA_IFNAME="other", IFLA_LINK=4, IFLA_LINK_NETNSID=0),
    ]
    assert network().links == (
        Link(2, "eth0", "", "bond0", "", True),
        Link(4, "bond0", "bond", "", "", True),
        Link(5, "bond0.5", "vlan", "", "bond0", False),
        Link(6, "other", "", "", "", True),
    )


def test_a_gateway_of_the_other_family(mocker: MockerFixture) -> None:
    played = rtnetlink(mocker)
    played.get_links.return_value = [Played(index=2, flags=1, IFLA_IFNAME="eth0")]
    via = Played(type=1, dst_len=0, RTA_OIF=2, RTA_VIA={"family": 10, "addr": "fe80::1"})
    gone = Played(type=1, dst_len=24, RTA_DST="10.0.0.0", RTA_OIF=7)
    played.get_routes.side_effect = [[via, gone], []]
    assert network().routes == (Route("default", "eth0", "fe80::1"),)


def test_a_request_that_fails(mocker: MockerFixture) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    rtnetlink(mocker).get_links.side_effect = NetlinkError(errno.EPERM)
    with pytest.raises(PermissionError):
        network()
