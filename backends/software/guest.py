"""A software machine that is a guest: its Linux drives channel devices and PCI functions of a host, and its own.

::

    guest's Linux     drivers, vfio_ccw (for a guest of the guest)
         |            instructions; channel programs with the guest's absolute addresses
    GuestCss          each subchannel: virtual, or of the host
         |                                     |
    machine.css       ChannelSubsystemHardware |  guest_css    pyvfio.passthrough.GuestChannelSubsystem
                                                  |            vfio-ccw, through any backend
                                               host

PCI functions come in the same way: `guest_pci`.

The guest's kernel has its storage from `kernel_at` on.  What programs of the guest map for DMA is memory of this
process; a page of it that the guest's kernel pins becomes storage of the guest, too, at an address of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterable
from typing import Final, cast

from pyvfio.address import DeviceNumber, SubchannelId
from pyvfio.css.crw import Crw
from pyvfio.css.orb import Orb
from pyvfio.css.sei import Sei
from pyvfio.css.sid import SUBCHANNELS_PER_SET
from pyvfio.css.trace import StepListener
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.passthrough import CombinedChannelSubsystem, GuestChannelSubsystem, GuestMemory, GuestPci
from pyvfio.passthrough.zpci_function import GuestFunction
from pyvfio.process import ProcessMemory
from pyvfio.vfio import Device
from pyvfio.zpci.event import ErrorCode, ErrorEvent
from pyvfio.zpci.vector import INTERLOCK
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.clock import Clock
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.guest_pci import PassedFunction
from pyvfio_backends.software.hardware.css import ChannelPath, ChannelSubsystemHardware, ControlUnit, SubchannelConfig
from pyvfio_backends.software.hardware.zpci import ZpciFunction
from pyvfio_backends.software.linux.ccw_drivers import DRIVERS
from pyvfio_backends.software.linux.css import CSS
from pyvfio_backends.software.machine import Machine
from pyvfio_backends.software.memory import HostMemory

__all__ = ["GuestCss", "GuestKernelMemory", "GuestMachine"]

_KERNEL_AT: Final = 0x100000
_KERNEL_ROOM: Final = 0x400000
_PINNED_AT: Final = 1 << 32
#: Seconds of the guest's time between two looks at a program of the host that takes its time, and how many there are.
_LOOK: Final = 0.01
_LOOKS: Final = 1000


class GuestKernelMemory(HostMemory):
    """The absolute storage of a guest: `storage`, of which its kernel has `room` bytes from `kernel_at` on."""

    shared = True  # with the hypervisor

    def __init__(self, storage: GuestMemory, page_size: int, kernel_at: int, room: int) -> None:
        super().__init__(page_size)
        self.storage = storage
        self.added: Callable[[], object] = list
        """Called when storage was added."""
        self._at, self._end = kernel_at, kernel_at + room
        self._used: dict[int, int] = {}
        self._next_pinned = _PINNED_AT

    def allocate(self, size: int) -> int:
        """See `HostMemory.allocate`."""
        room = -(-max(size, 1) // self.page_size) * self.page_size
        at = self._at
        for start in sorted(self._used):
            if start - at >= room:
                break
            at = start + self._used[start]
        if at + room > self._end:
            raise MemoryError("no storage of the guest's kernel is left")
        self._used[at] = room
        self.storage.write(at, bytes(room))
        return at

    def free(self, address: int) -> None:
        """See `HostMemory.free`."""
        self._used.pop(address, None)

    def pinned_address(self, caller: ProcessMemory, virtual: int) -> int:
        """See `HostMemory.pinned_address`; a page of a program of this process becomes storage."""
        for area in self.storage.areas():
            if area.address <= virtual < area.address + area.length:
                return area.start + virtual - area.address
        offset = virtual % self.page_size
        return self._adopt(virtual - offset, self.page_size) + offset

    def pinned_runs(self, virtual: int, length: int) -> list[tuple[int, int]]:
        """Where memory of this process is in the guest: guest address and length of each piece.

        What is not storage of the guest yet becomes so, all that lies together at once.
        """
        runs: list[tuple[int, int]] = []
        at, end = virtual, virtual + length
        while at < end:
            areas = [area for area in self.storage.areas() if area.address < end and area.address + area.length > at]
            known = min(areas, key=lambda area: area.address, default=None)
            if known is not None and known.address <= at:
                step = min(end, known.address + known.length) - at
                runs.append((known.start + at - known.address, step))
            else:
                step = (known.address if known is not None else end) - at
                runs.append((self._adopt(at, step), step))
            at += step
        return runs

    def _adopt(self, virtual: int, length: int) -> int:
        at = self._next_pinned
        self._next_pinned += -(-length // self.page_size) * self.page_size
        self.storage.adopt(at, memoryview((ctypes.c_char * length).from_address(virtual)).cast("B"), virtual)
        self.added()
        return at

    def read(self, address: int, count: int) -> bytes:
        """See `HostMemory.read`."""
        return self.storage.read(address, count)

    def write(self, address: int, data: bytes) -> None:
        """See `HostMemory.write`."""
        self.storage.write(address, data)

    def update_byte(self, address: int, keep: int, give: int) -> int:
        """See `HostMemory.update_byte`; the hypervisor updates the same storage."""
        with INTERLOCK:
            old = self.storage.read(address, 1)[0]
            self.storage.write(address, bytes((old & keep | give,)))
            return old


class GuestCss(CombinedChannelSubsystem):
    """The channel subsystem that the guest's Linux drives; what the host does is looked at on the guest's clock."""

    def __init__(self, passed: GuestChannelSubsystem, hardware: ChannelSubsystemHardware, clock: Clock) -> None:
        super().__init__(passed, hardware)
        self._hardware = hardware
        self._clock = clock
        self.units: dict[SubchannelId, ControlUnit] = {}

    def ssch(self, schid: SubchannelId, orb: Orb) -> int:
        """START SUBCHANNEL."""
        return self._looked_after(schid, super().ssch(schid, orb))

    def hsch(self, schid: SubchannelId) -> int:
        """HALT SUBCHANNEL."""
        return self._looked_after(schid, super().hsch(schid))

    def csch(self, schid: SubchannelId) -> int:
        """CLEAR SUBCHANNEL."""
        return self._looked_after(schid, super().csch(schid))

    def _looked_after(self, schid: SubchannelId, condition: int) -> int:
        if condition == 0 and self.passed.has(schid):
            self._look(schid, _LOOKS)
        return condition

    def _look(self, schid: SubchannelId, left: int) -> None:
        def work() -> None:
            self.passed.poll()
            schib = self.passed.stored(schid)
            if left and schib is not None and schib.scsw.actl:
                self._look(schid, left - 1)

        self._clock.schedule(0.0 if left == _LOOKS else _LOOK, work, background=left < _LOOKS)

    # what Linux's half asks of the hardware beside instructions

    def paths(self) -> Iterable[ChannelPath]:
        """The channel paths of virtual and of passed devices."""
        yield from self._hardware.paths()
        for chpid in range(1 << 8):
            kind = self.passed.path_type(0, chpid)
            if kind is not None:
                yield ChannelPath(chpid, kind)

    def inject_event(self, event: Sei) -> None:
        """Keep an event, such as of a PCI function, for STORE EVENT INFORMATION."""
        self._hardware.inject_event(event)

    def config(self, schid: SubchannelId) -> SubchannelConfig:
        """A subchannel's description; the control unit of a passed one is known when its host is a software machine."""
        if not self.passed.has(schid):
            return self._hardware.config(schid)
        stored = self.passed.stored(schid)
        return SubchannelConfig(schid, stored.pmcw.devno if stored is not None else 0, device=self.units.get(schid))


def _two_devices() -> MachineSpec:
    virtual = (("0.0.0000", "virtio-net"), ("0.0.0001", "virtio-blk"))
    subchannels = [SubchannelSpec(name, name, unit, driver="virtio_ccw", online=True) for name, unit in virtual]
    return MachineSpec("guest", paths=[ChannelPathSpec(0, 0x32)], subchannels=subchannels)


class GuestMachine(Machine):
    """The machine that `spec` describes, as a guest: its own devices are virtual, those of the host come by `attach`.

    Without `spec` it has a virtual network interface and a virtual disk.  `trace` is told the steps Q1 to Q7 of its
    devices.  `guest_css` has these, `guest_pci` its PCI functions (`attach_pci`); `storage` is the guest's memory.
    ``SoftwareBackend(machine)`` answers for it.
    """

    def __init__(
        self,
        spec: MachineSpec | None = None,
        *,
        seed: int = 0,
        paced: bool = False,
        trace: StepListener | None = None,
    ) -> None:
        spec = _two_devices() if spec is None else spec
        self.storage = GuestMemory(_KERNEL_AT + _KERNEL_ROOM)
        memory = self._kernel_memory = GuestKernelMemory(self.storage, spec.page_size, _KERNEL_AT, _KERNEL_ROOM)
        super().__init__(spec, seed=seed, paced=paced, memory=memory)
        css = self.kernel.subsystems[CSS]
        self.guest_css = GuestChannelSubsystem(
            self.storage, on_io_interrupt=css.io_interrupt, on_crw=css.channel_report_pending, trace=trace
        )
        memory.added = self.guest_css.memory_added
        self.guest_pci = GuestPci(self.storage, on_interruption=self._pci_interrupted, on_error=self._pci_error)
        self.zpci.on_leave = self._pci_left
        self._pci_due = False
        self._combined = GuestCss(self.guest_css, self.css, self.clock)
        css.hardware = cast(ChannelSubsystemHardware, self._combined)  # it has all that Linux's half asks for
        css.ccw.boot_drivers(make(css.ccw) for name, make in DRIVERS.items() if name not in css.ccw.drivers)

    def attach(
        self, device: Device, number: DeviceNumber | str, *, schid: SubchannelId | str | None = None
    ) -> SubchannelId:
        """Plug an open vfio-ccw device into the running guest; see `GuestChannelSubsystem.attach`.

        Without `schid` it gets the first subchannel of the set that neither a passed nor a virtual device has.
        """
        host = device.backend
        with self.lock:
            place = self._free(number) if schid is None else schid
            chosen = self.guest_css.attach(device, number, schid=place, report=True)
            if isinstance(host, SoftwareBackend):
                below = SubchannelId.parse(host.readlink(f"/sys/bus/mdev/devices/{device.name}").split("/")[-2])
                unit = host.machine.kernel.subsystems[CSS].hardware.config(below).device
                if unit is not None:
                    self._combined.units[chosen] = unit
            self.clock.settle()
        return chosen

    def _free(self, number: DeviceNumber | str) -> SubchannelId:
        wanted = number if isinstance(number, DeviceNumber) else DeviceNumber.parse(number)
        for at in range(SUBCHANNELS_PER_SET):
            schid = SubchannelId(wanted.cssid, wanted.ssid, at)
            virtual = self.css.stsch(schid)[1]
            if not self.guest_css.has(schid) and (virtual is None or not virtual.pmcw.dnv):
                return schid
        raise Misuse("attach device", str(wanted), cause="its subchannel set is full")

    def detach(self, schid: SubchannelId) -> None:
        """Unplug a device of the host; it is closed."""
        with self.lock:
            self.guest_css.detach(schid)
            self.clock.settle()

    # PCI functions

    def attach_pci(
        self,
        device: Device,
        *,
        uid: int | None = None,
        fid: int | None = None,
        interpret: bool = True,
        forwarding_assist: bool = True,
    ) -> GuestFunction:
        """Plug an open vfio-pci device into the running guest; see `GuestPci.attach`."""
        with self.lock:
            for function in self.zpci.all_functions():
                if not isinstance(function, PassedFunction) and function not in self.guest_pci.all_functions():
                    self.guest_pci.add(function)  # indexes and names are taken
            given = self.guest_pci.attach(
                device, uid=uid, fid=fid, interpret=interpret, forwarding_assist=forwarding_assist
            )
            self.zpci.adopt(PassedFunction(self.guest_pci, given, self._kernel_memory, self._pci_touched))
            self.clock.settle()
        return given

    def request_pci(self, fid: int) -> None:
        """Ask the guest's Linux for a function: it lets it go, and the device is closed.  Raise `NoSuchDevice`."""
        with self.lock:
            self.zpci.unplug(fid)
            self.clock.settle()

    def detach_pci(self, fid: int) -> None:
        """Unplug a function without asking; the device is closed.  Raise `NoSuchDevice`."""
        with self.lock:
            self.zpci.unplug(fid, surprise=True)
            self.clock.settle()

    def _pci_left(self, function: ZpciFunction) -> None:
        with contextlib.suppress(NoSuchDevice):  # an emulated one that the hypervisor was never told of
            self.guest_pci.detach(function.fid)

    def _pci_touched(self) -> None:
        """A device may have done something: look when the instruction's cause is over."""
        if not self._pci_due:
            self._pci_due = True
            self.clock.schedule(0.0, self._pci_look)

    def _pci_look(self) -> None:
        self._pci_due = False
        self.guest_pci.poll()

    def _pci_interrupted(self, isc: int) -> None:
        self._take_in(self._pci_scan)

    def _pci_scan(self) -> None:
        for function in self.zpci.all_functions():
            if isinstance(function, PassedFunction):
                function.scan()

    def _pci_error(self, event: ErrorEvent) -> None:
        # Linux may wait for somebody before it has taken an event in.
        self._take_in(lambda: self.clock.schedule(0.0, lambda: self._pci_report(event)))

    def _pci_report(self, event: ErrorEvent) -> None:
        if event.fid in self.zpci.functions:
            self.zpci.report(event.fid, ErrorCode(event.pec))

    def _take_in(self, work: Callable[[], None]) -> None:
        """Do what the host caused, which may do so from any thread.

        Who calls has the lock of the guest's functions, and must neither wait for this machine nor for what it waits
        for: what becomes due is done later, by the one who has the machine.
        """
        if self.lock.acquire(blocking=False):
            try:
                work()
            finally:
                self.lock.release()
        else:
            threading.Thread(target=self._take_in_later, args=(work,), name="pyvfio-pci-guest", daemon=True).start()

    def _take_in_later(self, work: Callable[[], None]) -> None:
        with self.lock:
            work()
            self.clock.settle()

    def look(self) -> int:
        """Take in what the host reports of the guest's devices; how many events of channel devices there were."""
        with self.lock:
            seen = self.guest_css.poll()
            self.guest_pci.poll()
            self.clock.settle()
        return seen

    def inject(self, *crws: Crw) -> None:
        """Queue channel reports for the guest."""
        with self.lock:
            self.guest_css.report(*crws)
            self.clock.settle()

    def close(self) -> None:
        """End the machine, and close the devices that it has of the host."""
        with self.lock:
            self.guest_css.close()
            self.guest_pci.close()
        super().close()
        self.storage.close()
