"""A network interface as sysfs shows it: the class ``net``, and what tells people that a function is in use as one.

The values are those of an Ethernet interface that is down (``net/core/net-sysfs.c``).  No packet passes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import partial

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.driver_core import Device
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.vfs import Attribute, Node, StaticDirectory, fail

__all__ = ["Interface", "add_interface", "remove_interface"]

_FIRST_INDEX = 2
"""``lo`` has 1.  A number is not given twice."""

_CONSTANTS: Mapping[str, str] = {
    "addr_assign_type": "0",
    "addr_len": "6",
    "broadcast": "ff:ff:ff:ff:ff:ff",
    "carrier_changes": "1",
    "carrier_down_count": "1",
    "carrier_up_count": "0",
    "dev_id": "0x0",
    "dev_port": "0",
    "link_mode": "0",
    "name_assign_type": "1",
    "operstate": "down",
    "type": "1",
}
_SETTINGS: Mapping[str, str] = {
    "flags": "0x1002\n",
    "gro_flush_timeout": "0\n",
    "ifalias": "",
    "mtu": "1500\n",
    "napi_defer_hard_irqs": "0\n",
    "netdev_group": "0\n",
    "proto_down": "0\n",
    "threaded": "0\n",
    "tx_queue_len": "1000\n",
}
_DOWN = ("dormant", "duplex", "speed", "testing")
"""EINVAL while the interface is down."""
_NO_PORT = ("phys_port_id", "phys_port_name", "phys_switch_id")
"""EOPNOTSUPP: the driver has no such operation."""
_STATISTICS = (
    "collisions", "multicast", "rx_bytes", "rx_compressed", "rx_crc_errors", "rx_dropped", "rx_errors",
    "rx_fifo_errors", "rx_frame_errors", "rx_length_errors", "rx_missed_errors", "rx_nohandler", "rx_over_errors",
    "rx_packets", "tx_aborted_errors", "tx_bytes", "tx_carrier_errors", "tx_compressed", "tx_dropped", "tx_errors",
    "tx_fifo_errors", "tx_heartbeat_errors", "tx_packets", "tx_window_errors",
)  # fmt: skip
_QUEUES = ("rx-0", "tx-0")


def _constant(text: str) -> Attribute:
    return Attribute(lambda: text)


def _failing(code: int) -> Callable[[], str]:
    def show() -> str:
        raise fail(code)

    return show


def _setting(name: str, show: Callable[[], str]) -> Attribute:
    def store(data: bytes) -> None:
        raise NotModelled(f"not modelled: setting {name} of a network interface")

    return Attribute(show, store)


def _queues() -> dict[str, Node]:
    receive = StaticDirectory({"mergeable_rx_buffer_size": _constant("1536\n")})
    send: dict[str, Node] = {
        "traffic_class": Attribute(_failing(errno.ENOENT)),
        "tx_maxrate": _setting("tx_maxrate", lambda: "0\n"),
        "tx_timeout": _constant("0\n"),
        "xps_cpus": _setting("xps_cpus", _failing(errno.ENOENT)),
        "xps_rxqs": _setting("xps_rxqs", lambda: "0\n"),
    }
    return {"rx-0": StaticDirectory({"virtio_net": receive}), "tx-0": StaticDirectory(send)}


class Interface(Device):
    """The interface `name` with the MAC address `address`, below the device `parent`; `index` is its ifindex."""

    def __init__(self, kernel: Kernel, parent: Device, name: str, address: str) -> None:
        super().__init__(kernel, name, parent, cls=kernel.class_("net"))
        self.address = address
        self.index = _next_index(kernel)

    def uevent_vars(self) -> list[tuple[str, str]]:
        """See `Device.uevent_vars`."""
        return [("INTERFACE", self.name), ("IFINDEX", str(self.index))]

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        entries: dict[str, Node] = {name: _constant(f"{text}\n") for name, text in _CONSTANTS.items()}
        entries |= {name: _setting(name, partial(str, text)) for name, text in _SETTINGS.items()}
        entries |= {name: Attribute(_failing(errno.EINVAL)) for name in _DOWN}
        entries |= {name: Attribute(_failing(errno.EOPNOTSUPP)) for name in _NO_PORT}
        entries |= {
            "address": _constant(f"{self.address}\n"),
            "carrier": _setting("carrier", _failing(errno.EINVAL)),
            "ifindex": Attribute(lambda: f"{self.index}\n"),
            "iflink": Attribute(lambda: f"{self.index}\n"),
            "queues": StaticDirectory(dict(_queues())),
            "statistics": StaticDirectory({name: _constant("0\n") for name in _STATISTICS}),
        }
        return entries


def _next_index(kernel: Kernel) -> int:
    used = kernel.subsystems.get("ifindex", _FIRST_INDEX)
    number = used if isinstance(used, int) else _FIRST_INDEX
    kernel.subsystems["ifindex"] = number + 1
    return number


def _queue_events(interface: Interface, action: str) -> None:
    for queue in _QUEUES:
        path = f"{interface.devpath}/queues/{queue}"
        interface.kernel.uevents.send(action, path, [("SUBSYSTEM", "queues")])


def add_interface(parent: Device, address: str, *, quiet: bool = False) -> Interface:
    """Add the interface ``ethN`` with the lowest number that is free; its queues come after it."""
    kernel = parent.kernel
    taken = kernel.class_("net").devices
    number = 0
    while f"eth{number}" in taken:
        number += 1
    interface = Interface(kernel, parent, f"eth{number}", address)
    kernel.add_class_device(interface, quiet=quiet)
    if not quiet:
        _queue_events(interface, "add")
    return interface


def remove_interface(interface: Interface) -> None:
    """Remove an interface, its queues first."""
    _queue_events(interface, "remove")
    interface.kernel.remove_class_device(interface)
