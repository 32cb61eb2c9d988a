"""Native hotplug of PCI Express: what the button of a slot brings and takes, also while a program has the device open.

The slot's button is pressed by the monitor of the QEMU in which the host runs (`pyvfio.testing.monitor`): a device that
is added there comes at once, one that is taken away is asked for, and pciehp gives it up after five seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENODEV

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio import IrqSetFlags, PciIrq
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails, settles
from pyvfio.testing.modes import MODES, open_device
from pyvfio.testing.monitor import Monitor

SLOTS = "/sys/bus/pci/slots"
DEVICES = "/sys/bus/pci/devices"
NAME = "contract"


class Slot:
    """An empty slot of a root port: the address that a function in it will have, and the monitor's name of its bus."""

    def __init__(self, backend: Backend, sysfs: Attributes, monitor: Monitor, path: str, port: str) -> None:
        self._monitor, self._sysfs, self._path = monitor, sysfs, path
        self.address = f"{sysfs.read(f'{path}/address')}.0"
        self.path = f"{DEVICES}/{self.address}"
        self._bus = monitor.device(port)

    def there(self) -> bool:
        return self._sysfs.exists(self.path)

    def state(self) -> tuple[str, str]:
        """Power and presence."""
        return self._sysfs.read(f"{self._path}/power"), self._sysfs.read(f"{self._path}/adapter")

    def plug(self) -> None:
        self._monitor.ask("device_add", driver="virtio-rng-pci", id=NAME, bus=self._bus, **{"disable-legacy": "on"})
        assert settles(lambda: self._sysfs.link(f"{self.path}/driver") == "virtio-pci"), "no function came"

    def press(self) -> None:
        """Ask for the device."""
        self._monitor.ask("device_del", id=NAME)

    def gone(self) -> bool:
        """Whether the slot is empty, for the guest and for QEMU."""
        return not self.there() and settles(lambda: self.state() == ("0", "0")) and "DEVICE_DELETED" in self._events()

    def _events(self) -> list[str]:
        self._monitor.ask("query-status")  # events come with answers
        return self._monitor.events


@pytest.fixture
def slot(backend: Backend, sysfs: Attributes) -> Iterator[Slot]:
    path, port = _empty_slot(backend, sysfs)
    node = Monitor.find(backend)
    if not path or node is None:
        pytest.skip("this host has no empty slot of native hotplug, or no monitor to plug something in")
    with Monitor(backend, node) as monitor:
        found = Slot(backend, sysfs, monitor, path, port)
        yield found
        if found.there():
            found.press()
            assert settles(found.gone, 20), "the function does not go"


def _empty_slot(backend: Backend, sysfs: Attributes) -> tuple[str, str]:
    """A slot without adapter that is a port's, and the port's address; two empty texts without one."""
    names = backend.listdir(SLOTS) if sysfs.exists(SLOTS) else []
    for name in names:
        path = f"{SLOTS}/{name}"
        if not sysfs.exists(f"{path}/adapter") or sysfs.read(f"{path}/adapter") != "0":
            continue
        bus = sysfs.read(f"{path}/address").rpartition(":")[0]
        ports = [one for one in backend.listdir(DEVICES) if sysfs.exists(f"{DEVICES}/{one}/pci_bus/{bus}")]
        if ports and sysfs.link(f"{DEVICES}/{ports[0]}/driver") == "pcieport":
            return path, ports[0]
    return "", ""


def test_a_function_comes_and_goes(slot: Slot) -> None:
    assert slot.state() == ("0", "0")
    slot.plug()
    assert slot.state() == ("1", "1")
    slot.press()
    assert slot.there()
    assert settles(slot.gone, 20)


@pytest.mark.parametrize("mode", [MODES[1], MODES[-1]])
def test_a_function_that_is_open(backend: Backend, slot: Slot, mode: str) -> None:
    slot.plug()
    bound = BoundFunction(backend, slot.address)
    bound.take("vfio-pci")
    flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
    with OpenFiles(backend) as files, EventFd() as asked, EventFd() as failed:
        opened = open_device(backend, files, bound, mode)
        requests.set_irqs(backend, opened.fd, PciIrq.REQ, flags, [asked.fileno()])
        requests.set_irqs(backend, opened.fd, PciIrq.ERR, flags, [failed.fileno()])
        slot.press()
        assert asked.wait(20) == 1
        assert failed.read() == 0
        # it stays as long as the program has it, and nobody else gets it
        assert slot.there()
        config = requests.region_info(backend, opened.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
        assert backend.pread(opened.fd, 2, config) == b"\xf4\x1a"
        if opened.group >= 0:
            with fails(ENODEV):
                requests.device_fd(backend, opened.group, slot.address)
        files.close(opened.fd)
        assert settles(lambda: not slot.there())
    assert settles(slot.gone)
