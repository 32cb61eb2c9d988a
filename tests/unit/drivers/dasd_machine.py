"""A machine with one 3390, in an image file or in memory, and the driver on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyvfio
from pyvfio import CcwDevice
from pyvfio.drivers import Dasd
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec

NUMBER = "0.0.1000"


def machine(**options: Any) -> MachineSpec:
    """One subchannel with a writable 3390 on two paths."""
    chosen = options if "image" in options else {"cylinders": 8, "volser": "UNIT01", "readonly": False, **options}
    disk = SubchannelSpec(
        schid="0.0.0000", device=NUMBER, unit="dasd-3390", chpids=[0x10, 0x11], pim=0xC0, pam=0xC0, options=chosen
    )
    return MachineSpec("one-disk", paths=[ChannelPathSpec(0x10), ChannelPathSpec(0x11)], subchannels=[disk])


@contextmanager
def channel(**options: Any) -> Iterator[CcwDevice]:
    """The disk's channel device, taken and open."""
    with pyvfio.open_backend("software", machine=machine(**options)) as backend, pyvfio.Host(backend) as host:
        pyvfio.ccw_take(host, NUMBER)
        with pyvfio.open_device(host, NUMBER) as device, CcwDevice(device) as opened:
            yield opened


@contextmanager
def disk(**options: Any) -> Iterator[Dasd]:
    """The disk, online."""
    with channel(**options) as opened, Dasd(opened, name=NUMBER, patience=0.2) as online:
        yield online
