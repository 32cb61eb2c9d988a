"""The network of this host, asked of the kernel by rtnetlink (pyroute2), and where the caller's session comes from.

Source: ``rtnetlink(7)``; the tables and kinds of routes are those of ``include/uapi/linux/rtnetlink.h`` by pyroute2's
names.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pyvfio.network import Link, Network, Route

__all__ = ["network", "session_peer"]

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_VARIABLE = "SSH_CONNECTION"
_DAEMONS = ("sshd", "sshd-session")
_IFF_UP = 1  # include/uapi/linux/if.h
_RT_TABLE_MAIN = 254  # include/uapi/linux/rtnetlink.h
_ESTABLISHED = "ESTABLISHED"

Message = Any
"""A message of pyroute2: `get` gives an attribute by its name, or a field of its header."""


def network() -> Network:
    """All interfaces of the caller's network namespace, the routes of the main table and the session's peer.

    Raise OSError with the errno of a failing request.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.rtnl import rt_type

    peer, zone = session_peer()
    try:
        with IPRoute() as rtnetlink:
            messages = list(rtnetlink.get_links())
            names = {message["index"]: str(message.get("IFLA_IFNAME")) for message in messages}
            addresses = _addresses(rtnetlink.get_addr())
            links = tuple(_link(message, names, addresses) for message in messages)
            routes: list[Route] = []
            for family in _FAMILIES:
                found = rtnetlink.get_routes(family=family, table=_RT_TABLE_MAIN)
                routes += _routes(found, names, rt_type["unicast"])
            way = zone if zone in names.values() else _way(rtnetlink.route, peer, names)
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error
    return Network(links, tuple(routes), peer, way)


def _addresses(messages: Iterable[Message]) -> dict[int, list[str]]:
    """The addresses by the interface's index; of a point-to-point link its own end."""
    found: dict[int, list[str]] = {}
    for message in messages:
        address = message.get("IFA_LOCAL") or message.get("IFA_ADDRESS")
        if address:
            found.setdefault(message["index"], []).append(f"{address}/{message['prefixlen']}")
    return found


def _link(message: Message, names: Mapping[int, str], addresses: Mapping[int, list[str]]) -> Link:
    index = message["index"]
    information = message.get("IFLA_LINKINFO")
    kind = str((information.get("IFLA_INFO_KIND") if information is not None else None) or "")
    lower = message.get("IFLA_LINK")
    # In another namespace the number means another interface; the other end of a veth pair is beside, not below.
    apart = message.get("IFLA_LINK_NETNSID") is not None or kind == "veth" or lower == index
    return Link(
        index,
        names[index],
        kind,
        names.get(message.get("IFLA_MASTER"), ""),
        "" if apart else names.get(lower, ""),
        bool(message["flags"] & _IFF_UP),
        tuple(addresses.get(index, ())),
    )


def _routes(messages: Iterable[Message], names: Mapping[int, str], unicast: int) -> Iterator[Route]:
    for message in messages:
        if message["type"] != unicast:
            continue
        length = message["dst_len"]
        to = message.get("RTA_DST")
        destination = f"{to}/{length}" if to and length else "default"
        for hop in message.get("RTA_MULTIPATH") or (message,):
            index = hop["oif"] if "hops" in hop else hop.get("RTA_OIF")
            if index in names:
                yield Route(destination, names[index], _gateway(hop))


def _gateway(hop: Message) -> str:
    gateway = hop.get("RTA_GATEWAY")
    if not gateway:
        via = hop.get("RTA_VIA")  # a gateway of the other family
        gateway = via.get("addr") if via else None
    return str(gateway or "")


def _way(ask: Callable[..., Iterable[Message]], peer: str, names: Mapping[int, str]) -> str:
    """The interface by which the kernel would send to `peer`; empty when it has no route."""
    from pyroute2.netlink.exceptions import NetlinkError

    if not peer:
        return ""
    try:
        for message in ask("get", dst=peer):
            return names.get(message.get("RTA_OIF"), "")
    except NetlinkError:
        return ""  # ENETUNREACH: there is no way
    return ""


def session_peer() -> tuple[str, str]:
    """The address that the caller's remote session comes from, and its zone (``fe80::1%eth0``); empty for none.

    It is the first word of ``SSH_CONNECTION`` (``ssh(1)``) in this process's environment.  ``sudo`` drops the variable,
    so that the environments of the parents are looked at, too, and the connection of a parent that is the daemon.
    """
    said = _peer_of(os.environ)
    if said is not None:
        return said
    import psutil  # slow to import, and only needed here

    try:
        parents = psutil.Process().parents()
    except (psutil.Error, OSError):
        return "", ""
    for parent in parents:
        try:
            said = _peer_of(parent.environ()) or _peer_of_daemon(parent)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or is another user's
        if said is not None:
            return said
    return "", ""


def _peer_of(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """What the variable of an environment says; None without one or when it is no address."""
    words = environment.get(_VARIABLE, "").split()
    return _parse(words[0]) if words else None


def _peer_of_daemon(process: Any) -> tuple[str, str] | None:
    if process.name().partition(":")[0] not in _DAEMONS:
        return None
    connections = getattr(process, "net_connections", None) or process.connections  # the name before psutil 6
    for connection in connections("tcp"):
        if connection.status == _ESTABLISHED and connection.raddr:
            return _parse(connection.raddr.ip)
    return None


def _parse(text: str) -> tuple[str, str] | None:
    text, _, zone = text.partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), zone
