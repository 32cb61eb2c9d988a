"""Run in a network namespace of its own: make interfaces, ask for the network, print it as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyvfio_backends.kernel.network import network


def build() -> list[str]:
    """Give the kinds of interface that this kernel does not have."""
    missing: list[str] = []
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")

        def make(name: str, kind: str, **how: Any) -> int:
            try:
                ip.link("add", ifname=name, kind=kind, **how)
            except NetlinkError:
                missing.append(kind)
                return 0
            index: int = ip.link_lookup(ifname=name)[0]
            return index

        far = make("v0", "veth", peer="v1")
        near = ip.link_lookup(ifname="v1")[0] if far else 0
        bridge, bond = make("br0", "bridge"), make("bond0", "bond")
        vlan = make("near.5", "vlan", link=near, vlan_id=5) if near else 0
        make("mv0", "macvlan", link=near)
        if far and bridge:
            ip.link("set", index=far, master=bridge)
        for index in (far, near, bridge, bond, vlan):
            if index:
                ip.link("set", index=index, state="up")
        if near:
            ip.addr("add", index=near, address="10.1.0.5", prefixlen=24)
            ip.addr("add", index=near, address="2001:db8::5", prefixlen=64)
            ip.route("add", dst="default", gateway="10.1.0.1")
            ip.route("add", dst="2001:db8:1::/48", gateway="2001:db8::1")
            ip.route("add", dst="10.9.0.0/16", multipath=[{"gateway": "10.1.0.2"}, {"gateway": "10.1.0.3"}])
            ip.route("add", dst="10.7.0.0/16", type="blackhole")
    return missing


def main() -> None:
    missing = build()
    network()  # what is only made once is made now
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    ways: dict[str, list[str]] = {}
    for peer in ("10.9.1.1", "2001:db8:1::7", "fe80::1%v1", "10.1.0.5", "10.7.0.1", "::ffff:10.1.0.9"):
        os.environ["SSH_CONNECTION"] = f"{peer} 50000 10.1.0.5 22"
        found = network()
        ways[peer] = [found.peer, found.peer_interface]
    after = len(os.listdir("/proc/self/fd")), threading.active_count()
    print(json.dumps({"missing": missing, "ways": ways, "left": [before, after], **dataclasses.asdict(found)}))


if __name__ == "__main__":
    main()
