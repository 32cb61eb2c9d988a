"""The ccw drivers that hold channel devices before VFIO: what they put into sysfs and when they let go.

=============  ====================================  =====================================================
driver         takes (CU type, device type)          an online device has
=============  ====================================  =====================================================
virtio_ccw     3832                                  ``virtioN`` with its children; online from the start
3270           3270 to 3279 and local controllers    a tty and a full-screen node, three attributes
dasd-eckd      3990, 2105, 2107, 1750 with 33xx      a disk
zfcp           1731/03 with 1732/03 or /04           nothing here
qeth           1731/01, /02, /05 with 1732           nothing: only groups of three go online
=============  ====================================  =====================================================

Sources: ``drivers/s390/virtio/virtio_ccw.c``, ``drivers/s390/char/raw3270.c``, ``drivers/s390/block/dasd_eckd.c``,
``drivers/s390/scsi/zfcp_ccw.c``, ``drivers/s390/net/qeth_core_main.c``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Final

from pyvfio.css.ccw import NO_FLAGS, Ccw
from pyvfio_backends.software.linux.block import Disk, Medium, add_disk, remove_disk
from pyvfio_backends.software.linux.ccw import CcwDevice, CcwDriver
from pyvfio_backends.software.linux.ccw_bus import CcwBus
from pyvfio_backends.software.linux.consoles import add_terminal, remove_terminal
from pyvfio_backends.software.linux.dasd_sysfs import DasdFeatures
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.io_subchannel import run_program, run_writing
from pyvfio_backends.software.linux.subchannel import SubchannelDevice
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import Attribute, Node, fail
from pyvfio_backends.software.linux.virtio import VirtioDevice, virtio_bus
from pyvfio_backends.software.medium.tables import SECTOR

__all__ = ["ALWAYS", "DRIVERS"]

_VIRTIO = 0x3832
_VDEV_RESET = 0x33
_SET_IND_ADAPTER = 0x73
_THININT_AREA = 25
_TRANSPORT_FEATURES = (28, 29, 32)
_SENSED_FEATURES: dict[int, tuple[int, ...]] = {
    1: (2, 5, 15, 16, 17, 18, 19, 20, 21, 23),
    2: (2, 4, 6, 9, 10, 11, 13, 14),
    3: (1, 2),
    5: (1, 4),
    8: (1, 2),
    9: (0,),
    16: (1,),
}
_READ_ONLY = 5
_MULTI_QUEUE = 12
_SET_VIRTIO_REV = 0x83
_REVISION_2 = bytes((0, 2, 0, 0))
_TTY_MAJOR, _FULL_SCREEN_MAJOR = 227, 228
_DASD_MAJOR = 94
_DASD_MINORS = 4
_DASD_NUMBERS: Final[Key[dict[str, int]]] = Key("dasd numbers")


class _VirtioCcwDriver(CcwDriver):
    """``virtio_ccw``: sets its devices online by itself, a moment after it took them."""

    ids = ((_VIRTIO, None, None, None),)

    def __init__(self, bus: CcwBus) -> None:
        super().__init__(bus, "virtio_ccw")
        self._agreed: set[str] = set()  # devices with which a revision was agreed; not those of the boot

    def probe(self, device: Device) -> None:
        """See `Driver.probe`."""
        if isinstance(device, CcwDevice):
            self.kernel.clock.schedule(0.0, lambda: self._online(device))

    def _online(self, device: CcwDevice) -> None:
        if device.driver is self and not device.dead and not device.online:
            device.set_online_apart()

    def show(self, device: CcwDevice, *, quiet: bool) -> None:
        """See `CcwDriver.show`."""
        model = device.identity.cu_model
        offered = {*_TRANSPORT_FEATURES, *_SENSED_FEATURES.get(model, ())}
        if device.options.get("readonly"):
            offered.add(_READ_ONLY)
        if device.options.get("queues", 1) > 1:
            offered.add(_MULTI_QUEUE)
        if not quiet:
            self._agree(device)
        bus = virtio_bus(self.kernel)
        child = VirtioDevice(bus, device, model, _VIRTIO, offered, options=dict(device.options))
        if quiet:
            bus.add_boot(child)
        else:
            bus.add(child)

    def _agree(self, device: CcwDevice) -> SubchannelDevice | None:
        """Agree with the device on a revision, unless it was done; its subchannel if that can be used."""
        sch = device.subchannel
        if sch is None or sch.update_schib() or not sch.schib.pmcw.ena:
            return None
        if device.name not in self._agreed:
            self._agreed.add(device.name)
            run_writing(sch, _SET_VIRTIO_REV, _REVISION_2)
        return sch

    def hide(self, device: CcwDevice) -> None:
        """See `CcwDriver.hide`; a device that was driven is reset through its subchannel, and loses its indicators."""
        driven = False
        for child in tuple(device.child_devices()):
            if isinstance(child, VirtioDevice) and child.bus is not None:
                driven = driven or child.driver is not None
                child.bus.remove(child)
        sch = self._agree(device)
        self._agreed.discard(device.name)
        if sch is not None and driven:
            run_program(sch, Ccw(_VDEV_RESET, NO_FLAGS, 0, 0))
            # virtio_ccw_drop_indicator: the device is told of an area without indicators, and keeps this kind
            run_writing(sch, _SET_IND_ADAPTER, bytes(_THININT_AREA))


class _Terminal3270Driver(CcwDriver):
    """``3270``: an online terminal has a tty and a full-screen device."""

    ids = (
        *((cu, None, None, None) for cu in (0x3270, 0x3271, 0x3272, 0x3273, 0x3274, 0x3275, 0x3276, 0x3277)),
        *((cu, None, None, None) for cu in (0x3278, 0x3279, 0x3174)),
    )

    def __init__(self, bus: CcwBus) -> None:
        super().__init__(bus, "3270")

    def show(self, device: CcwDevice, *, quiet: bool) -> None:
        """See `CcwDriver.show`."""
        kernel = self.kernel
        minor = 1
        while f"3270!tty{minor}" in kernel.class_("tty").devices:
            minor += 1
        for cls, word, major in (("tty", "tty", _TTY_MAJOR), ("3270", "tub", _FULL_SCREEN_MAJOR)):
            add_terminal(kernel, cls, f"3270/{word}{minor}", major, minor, quiet=quiet)
        for name, text in (("columns", "80"), ("model", "2"), ("rows", "24")):
            device.extra[name] = Attribute(partial("{}\n".format, text))
        device.options = {**device.options, "minor": minor}

    def hide(self, device: CcwDevice) -> None:
        """See `CcwDriver.hide`."""
        minor = device.options.get("minor")
        for cls, word in (("tty", "tty"), ("3270", "tub")):
            remove_terminal(self.kernel, cls, f"3270/{word}{minor}")
        device.extra.clear()


class _DasdEckdDriver(CcwDriver):
    """``dasd-eckd``: an online volume is a disk of the blocks that its layout has."""

    ids = tuple(
        (cu, None, device, None)
        for cu, device in (
            (0x3990, 0x3390),
            (0x2105, 0x3390),
            (0x3880, 0x3380),
            (0x3990, 0x3380),
            (0x2105, 0x3380),
            (0x9343, 0x9345),
            (0x2107, 0x3390),
            (0x2107, 0x3380),
            (0x1750, 0x3390),
            (0x1750, 0x3380),
        )
    )
    keeps_lost = True
    path_groups = True
    may_force = True

    def __init__(self, bus: CcwBus) -> None:
        super().__init__(bus, "dasd-eckd")
        self._features = DasdFeatures()

    def files(self, device: CcwDevice) -> dict[str, Node]:
        """See `CcwDriver.files`."""
        return self._features.files(device)

    def show(self, device: CcwDevice, *, quiet: bool) -> None:
        """See `CcwDriver.show`."""
        # not all machines have one
        from pyvfio_backends.software.linux.dasd_volume import VolumeBlocks, find_partitions, volume_of

        kernel = self.kernel
        blocks = VolumeBlocks(volume_of(device))

        # dasd_add_busid: a device keeps its number, and so its name, for good
        numbers = kernel.subsystems.get_or_make(_DASD_NUMBERS, dict)
        add_disk(
            device,
            "dasd",
            _DASD_MAJOR,
            Medium(lambda: blocks, find_partitions(blocks)),
            sectors=blocks.size // SECTOR,
            minors=_DASD_MINORS,
            index=numbers.setdefault(device.name, len(numbers)),
            readonly=blocks.readonly,
            block_size=blocks.block_size,
            quiet=quiet,
        )

    def set_offline(self, device: CcwDevice) -> None:
        """See `CcwDriver.set_offline`.  Raise OSError EBUSY while anybody uses the disk (dasd_generic_set_offline)."""
        if any(isinstance(child, Disk) and child.state.users for child in device.child_devices()):
            raise fail(errno.EBUSY)
        super().set_offline(device)

    def hide(self, device: CcwDevice) -> None:
        """See `CcwDriver.hide`."""
        self._features.forget(device)
        for child in tuple(device.child_devices()):
            if isinstance(child, Disk):
                remove_disk(child)


class _ZfcpDriver(CcwDriver):
    """``zfcp``: FCP adapters; the SCSI host behind an online one is not shown."""

    ids = ((0x1731, 0x03, 0x1732, 0x03), (0x1731, 0x03, 0x1732, 0x04))
    keeps_lost = True

    def __init__(self, bus: CcwBus) -> None:
        super().__init__(bus, "zfcp")


class _QethDriver(CcwDriver):
    """``qeth``: holds OSA subchannels; only a ccwgroup of three of them could go online."""

    ids = ((0x1731, 0x01, 0x1732, 0x01), (0x1731, 0x05, 0x1732, 0x05), (0x1731, 0x02, 0x1732, 0x03))
    switchable = False

    def __init__(self, bus: CcwBus) -> None:
        super().__init__(bus, "qeth")


ALWAYS = ("3270", "virtio_ccw")
"""The drivers of every kernel here; the others are loaded when a machine's description names them."""

DRIVERS: dict[str, Callable[[CcwBus], CcwDriver]] = {
    "3270": _Terminal3270Driver,
    "virtio_ccw": _VirtioCcwDriver,
    "dasd-eckd": _DasdEckdDriver,
    "zfcp": _ZfcpDriver,
    "qeth": _QethDriver,
}
