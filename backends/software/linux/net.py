"""Network interfaces as sysfs shows them: the class ``net``, and what tells people that a function is in use as one.

The values are those of ``net/core/net-sysfs.c``; an interface is down unless the machine's description uses it.  What
an interface belongs to and stands on is linked as ``master``, ``upper_NAME`` and ``lower_NAME``.  No packet passes.
Addresses and routes are those of `net_stack`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.net_stack import stack
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import Attribute, Node, StaticDirectory, constant, fail

__all__ = ["Interface", "add_interface", "appear", "remove_interface"]

_INDEX: Final[Key[int]] = Key("ifindex")
_FIRST_INDEX = 2
"""``lo`` has 1.  A number is not given twice."""

_IFF_UP, _IFF_BROADCAST, _IFF_MULTICAST = 0x1, 0x2, 1 << 12

_CONSTANTS: Mapping[str, str] = {
    "addr_len": "6",
    "dev_id": "0x0",
    "dev_port": "0",
    "link_mode": "0",
}
_SETTINGS: Mapping[str, str] = {
    "gro_flush_timeout": "0\n",
    "ifalias": "",
    "napi_defer_hard_irqs": "0\n",
    "netdev_group": "0\n",
    "proto_down": "0\n",
    "threaded": "0\n",
    "tx_queue_len": "1000\n",
}
_UP: Mapping[str, str] = {"dormant": "0", "duplex": "unknown", "speed": "-1", "testing": "0"}
"""Of an interface that is up; EINVAL while it is down."""
_NO_PORT = ("phys_port_id", "phys_port_name", "phys_switch_id")
"""EOPNOTSUPP: the driver has no such operation."""
_STATISTICS = (
    "collisions", "multicast", "rx_bytes", "rx_compressed", "rx_crc_errors", "rx_dropped", "rx_errors",
    "rx_fifo_errors", "rx_frame_errors", "rx_length_errors", "rx_missed_errors", "rx_nohandler", "rx_over_errors",
    "rx_packets", "tx_aborted_errors", "tx_bytes", "tx_carrier_errors", "tx_compressed", "tx_dropped", "tx_errors",
    "tx_fifo_errors", "tx_heartbeat_errors", "tx_packets", "tx_window_errors",
)  # fmt: skip
_QUEUES = ("rx-0", "tx-0")


def _failing(code: int) -> Callable[[], str]:
    def show() -> str:
        raise fail(code)

    return show


def _setting(name: str, show: Callable[[], str]) -> Attribute:
    def store(data: bytes) -> None:
        raise NotModelled(f"not modelled: setting {name} of a network interface")

    return Attribute(show, store)


def _queues(receive: Mapping[str, Node]) -> dict[str, Node]:
    send: dict[str, Node] = {
        "traffic_class": Attribute(_failing(errno.ENOENT)),
        "tx_maxrate": _setting("tx_maxrate", lambda: "0\n"),
        "tx_timeout": constant("0\n"),
        "xps_cpus": _setting("xps_cpus", _failing(errno.ENOENT)),
        "xps_rxqs": _setting("xps_rxqs", lambda: "0\n"),
    }
    return {"rx-0": StaticDirectory(dict(receive)), "tx-0": StaticDirectory(send)}


class Interface(Device):
    """The interface `name` with the MAC address `address`, below the device `parent`; `index` is its ifindex.

    `master` is the bond or bridge that it is a port of, `lower` the interface that it stands on (a VLAN's) and `ports`
    those that belong to it.
    """

    kind = ""
    operstate = "up"
    flags = _IFF_BROADCAST | _IFF_MULTICAST
    broadcast = "ff:ff:ff:ff:ff:ff"
    assigned = ("0", "1")
    """``addr_assign_type`` and ``name_assign_type``: by the hardware; by the kernel, ``ethN``."""
    changes = ("1", "1", "0")
    """``carrier_changes``, ``_down_count`` and ``_up_count``."""
    mtu = 1500

    def __init__(
        self, kernel: Kernel, parent: Device | None, name: str, address: str, *, index: int | None = None
    ) -> None:
        super().__init__(kernel, name, parent, cls=kernel.class_("net"))
        self.address = address
        self.index = _next_index(kernel) if index is None else index
        self.up = False
        self.master: Interface | None = None
        self.lower: Interface | None = None
        self.ports: list[Interface] = []

    def uevent_vars(self) -> list[tuple[str, str]]:
        """See `Device.uevent_vars`."""
        pairs = [("INTERFACE", self.name), ("IFINDEX", str(self.index))]
        return [("DEVTYPE", self.kind), *pairs] if self.kind else pairs

    def upper(self) -> list[Interface]:
        """The interfaces that stand on this one: its master and its VLANs."""
        others = [other for other in self.kernel.class_("net").devices.values() if isinstance(other, Interface)]
        return [*([self.master] if self.master is not None else []), *(o for o in others if o.lower is self)]

    def links(self) -> dict[str, str]:
        """See `Device.links`."""
        found = {f"upper_{other.name}": other.devpath for other in self.upper()}
        below = [*self.ports, *([self.lower] if self.lower is not None else [])]
        found |= {f"lower_{other.name}": other.devpath for other in below}
        if self.master is not None:
            found["master"] = self.master.devpath
        return found

    def port_entries(self) -> dict[str, Node]:
        """What its master shows in the directory of this interface."""
        return {} if self.master is None else self.master.entries_of_port(self)

    def entries_of_port(self, port: Interface) -> dict[str, Node]:
        """What this interface, a master, shows in the directory of one of its ports."""
        return {}

    def receive_queue(self) -> dict[str, Node]:
        """What the driver shows of a receive queue."""
        return {"virtio_net": StaticDirectory({"mergeable_rx_buffer_size": constant("1536\n")})}

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        entries: dict[str, Node] = {name: constant(f"{text}\n") for name, text in _CONSTANTS.items()}
        entries |= {name: _setting(name, partial(str, text)) for name, text in _SETTINGS.items()}
        entries |= {name: self._when_up(text) for name, text in _UP.items()}
        entries |= {name: Attribute(_failing(errno.EOPNOTSUPP)) for name in _NO_PORT}
        changes, downs, ups = ("2", "1", "1") if self.up and not self.kind else self.changes
        texts = {
            "addr_assign_type": self.assigned[0],
            "address": self.address,
            "broadcast": self.broadcast,
            "carrier_changes": changes,
            "carrier_down_count": downs,
            "carrier_up_count": ups,
            "ifindex": str(self.index),
            "iflink": str(self.lower.index if self.lower is not None else self.index),
            "name_assign_type": self.assigned[1],
            "operstate": self.operstate if self.up else "down",
            "type": str(self.hardware_type),
        }
        entries |= {name: constant(f"{text}\n") for name, text in texts.items()}
        flags = self.shown_flags()
        entries |= {
            "carrier": _setting("carrier", (lambda: "1\n") if self.up else _failing(errno.EINVAL)),
            "flags": _setting("flags", lambda: f"{flags:#x}\n"),
            "mtu": _setting("mtu", lambda: f"{self.mtu}\n"),
            "queues": StaticDirectory(dict(_queues(self.receive_queue()))),
            "statistics": StaticDirectory({name: constant("0\n") for name in _STATISTICS}),
            **self.port_entries(),
        }
        return entries

    hardware_type = 1
    """ARPHRD_ETHER (``include/uapi/linux/if_arp.h``)."""
    port_flags = 0

    def shown_flags(self) -> int:
        """``flags``: its own, up, and what its master sets."""
        extra = self.master.port_flags if self.master is not None else 0
        return self.flags | (_IFF_UP if self.up else 0) | extra

    def _when_up(self, text: str) -> Attribute:
        return constant(f"{text}\n") if self.up else Attribute(_failing(errno.EINVAL))


def _next_index(kernel: Kernel) -> int:
    number = kernel.subsystems.get(_INDEX) or _FIRST_INDEX
    kernel.subsystems[_INDEX] = number + 1
    return number


def _queue_events(interface: Interface, action: str) -> None:
    for queue in _QUEUES:
        path = f"{interface.devpath}/queues/{queue}"
        interface.kernel.uevents.send(action, path, [("SUBSYSTEM", "queues")])


def appear(interface: Interface, *, quiet: bool = False) -> None:
    """Add an interface; its queues come after it."""
    interface.kernel.add_class_device(interface, quiet=quiet)
    if not quiet:
        _queue_events(interface, "add")
    stack(interface.kernel).changed()


def add_interface(parent: Device, address: str, *, quiet: bool = False) -> Interface:
    """Add the interface ``ethN`` with the lowest number that is free."""
    kernel = parent.kernel
    taken = kernel.class_("net").devices
    number = 0
    while f"eth{number}" in taken:
        number += 1
    interface = Interface(kernel, parent, f"eth{number}", address)
    appear(interface, quiet=quiet)
    return interface


def remove_interface(interface: Interface) -> None:
    """Remove an interface, its queues first.  VLANs on it go before it, and its addresses and routes with it."""
    for other in interface.upper():
        if other.lower is interface:
            remove_interface(other)
    if interface.master is not None:
        interface.master.ports.remove(interface)
        interface.master = None
    for port in interface.ports:
        port.master = None
    _queue_events(interface, "remove")
    interface.kernel.remove_class_device(interface)
    stack(interface.kernel).removed(interface.name)
