"""All definitions of one file system, and the plans that change them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyvfio.address import Address, DeviceNumber, MdevUuid, PciAddress, SubchannelId
from pyvfio.binding.channel import merely_online
from pyvfio.binding.inspection import in_use
from pyvfio.binding.plan import Plan
from pyvfio.binding.step import Step
from pyvfio.binding.steps_files import remove_file, write_file
from pyvfio.devices import ChannelDevice, MediatedDevice, PciFunction, Subchannel
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.files import HostFiles
from pyvfio.persistence.definition import (
    Definition,
    PersistentDriver,
    PersistentMdev,
    Start,
    Unreadable,
    check_attribute,
    check_driver,
)
from pyvfio.persistence.driver_files import DriverFiles, driver_text, parse_name
from pyvfio.persistence.image import require_inside
from pyvfio.persistence.mdev_files import MdevFiles, mdev_text
from pyvfio.selection import named

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["CCW_DRIVER", "CCW_TYPE", "Definitions", "definition_of"]

CCW_DRIVER, CCW_TYPE = "vfio_ccw", "vfio_ccw-io"
_DEFAULT = {"pci": "vfio-pci", "css": CCW_DRIVER}


def definition_of(device: MediatedDevice, start: Start = "manual") -> PersistentMdev:
    """What would make an active device again: its type and parent, without attributes.  Raise `NoSuchDevice`."""
    return PersistentMdev(device.address, device.parent.name, device.type.id, start)


class Definitions:
    """The definitions of `host`, or of the file system at `root`; what is active is always the host's."""

    def __init__(self, host: Host, root: str = "") -> None:
        self.host = host
        self.root = root.rstrip("/")
        files = HostFiles(host.backend)
        self.drivers = DriverFiles(files, self.root)
        self.mdevs = MdevFiles(files, self.root)

    def all(self) -> list[Definition | Unreadable]:
        """All definitions: drivers first, then mediated devices, whose parents may need those drivers."""
        return [*self.drivers.all(), *self.mdevs.all()]

    # finding

    def find(self, name: str, bus: str | None = None) -> list[Definition | Unreadable]:
        """The definitions that a name stands for, at least one.

        A name is ``BUS/ADDRESS``, ``BUS-ADDRESS`` (that of the file), a UUID, or any other of `pyvfio.lookup`; a
        channel device stands for its subchannel and the mediated devices of that.  Raise `BadAddress`, `NoSuchDevice`.
        """
        place = parse_name(name) or parse_name(name.replace("/", "-", 1))
        found: list[Definition | Unreadable] = []
        if place is not None:
            found = [one for one in self.drivers.all() if one.name == "/".join(place)]
        else:
            for address in self.addresses(name, bus):
                found += self._at(address)
        if not found:
            raise NoSuchDevice(
                "find definition",
                name,
                path=self.drivers.directory,
                cause="nothing persistent is defined for it",
                next_step="pyvfio defined lists what is; pyvfio define makes it so",
            )
        return found

    def addresses(self, name: str, bus: str | None = None) -> list[Address]:
        """The addresses that a name or a pattern stands for, there or not.  Raise `BadAddress`, `NoSuchDevice`."""
        return list(named(self.host, name, bus))

    def _at(self, address: Address) -> list[Definition | Unreadable]:
        if isinstance(address, MdevUuid):
            return list(self.mdevs.of(address))
        if isinstance(address, DeviceNumber):
            subchannel = ChannelDevice(self.host.sysfs, address).subchannel
            found = self._at(subchannel.address)
            return [*found, *self.mdevs.all(subchannel.name)]
        name = f"{address.subsystem}/{address}"
        return [one for one in self.drivers.all() if one.name == name]

    # drivers

    def plan_driver(self, definition: PersistentDriver) -> Plan:
        """Plan to write down which driver a device gets.  Raise `Misuse` for what no device or driver is called."""
        why = check_driver(definition.driver)
        if why:
            raise Misuse("define driver", definition.name, cause=why)
        path = self.drivers.path(definition.bus, definition.address)
        step = write_file(
            self.host.sysfs, path, driver_text(definition), what=f"{definition.address} gets {definition.driver}"
        )
        return self._plan(f"define driver {definition.driver} for {definition.name}", definition.name, step)

    def plan_device(self, address: Address, driver: str | None = None) -> Plan:
        """Plan to make the binding of a device persistent (default: the driver of VFIO for its bus).

        A channel device stands for its subchannel, and for a mediated device of that: the one that is defined already,
        or active, or else a new one.  A mediated device is defined as it is active now.  What uses the device on this
        host today is a finding: after the next boot it would not find it.  Raise `NoSuchDevice`, `Misuse`.
        """
        if isinstance(address, MdevUuid):
            if driver is not None:
                raise Misuse("define driver", str(address), cause="a mediated device has its driver from its parent")
            return self.plan_mdev(definition_of(self.host.mdev(address)))
        if isinstance(address, DeviceNumber):
            return self._plan_channel(address, driver)
        bus = address.subsystem
        chosen = driver or _DEFAULT.get(bus)
        if chosen is None:
            raise Misuse(
                "define driver", str(address), cause=f"bus {bus} has no driver of VFIO", next_step="--to DRIVER"
            )
        plan = self.plan_driver(PersistentDriver(bus, str(address), chosen))
        device: PciFunction | Subchannel
        if isinstance(address, PciAddress):
            device = PciFunction(self.host.sysfs, address)
        elif isinstance(address, SubchannelId):
            device = Subchannel(self.host.sysfs, address)
        else:
            return plan
        return self._looked_at(plan, device, chosen)

    def _looked_at(self, plan: Plan, device: PciFunction | Subchannel, driver: str) -> Plan:
        """The plan with what uses `device` now, if it would lose its driver: for this host, not for an image."""
        if self.root or plan.empty or not device.exists or device.driver in (None, driver):
            return plan
        findings = (finding for finding in in_use(device) if not merely_online(finding))
        return replace(plan, findings=tuple(findings))

    def _plan_channel(self, number: DeviceNumber, driver: str | None) -> Plan:
        subchannel = ChannelDevice(self.host.sysfs, number).subchannel
        chosen = driver or CCW_DRIVER
        plan = self.plan_driver(PersistentDriver("css", subchannel.name, chosen))
        plans = [self._looked_at(plan, subchannel, chosen)]
        if chosen == CCW_DRIVER and not self.mdevs.all(subchannel.name):
            active = subchannel.mdevs
            uuid = active[0].address if active else MdevUuid.random()
            plans.append(self.plan_mdev(PersistentMdev(uuid, subchannel.name, CCW_TYPE, "auto")))
        return Plan.join(plans, f"define {number} (subchannel {subchannel.name}) for vfio-ccw")

    # mediated devices

    def plan_mdev(self, definition: PersistentMdev) -> Plan:
        """Plan to write down a new mediated device.  Raise `Misuse` when another definition has its name."""
        path = self.mdevs.path(definition.parent, definition.uuid)
        there = self.mdevs.of(definition.uuid, definition.parent)
        if there and there[0] != definition:
            raise Misuse(
                "define mediated device",
                definition.name,
                path=path,
                cause=f"it is defined already, below {definition.parent}",
                next_step=f"pyvfio mdev modify {definition.uuid}, or pyvfio undefine {definition.uuid}",
            )
        step = None if there else self._write_mdev(definition, path)
        return self._plan(f"define mediated device {definition.uuid} on {definition.parent}", definition.name, step)

    def plan_modified(self, definition: PersistentMdev) -> Plan:
        """Plan to replace the definition of the same UUID and parent.  An active device stays as it is."""
        step = self._write_mdev(definition, self.mdevs.file_of(definition))
        return self._plan(f"change the definition of {definition.uuid}", definition.name, step)

    def _write_mdev(self, definition: PersistentMdev, path: str) -> Step | None:
        for name, value in definition.attrs:
            why = check_attribute(name) or ("" if value else f"nothing to write to {name}")
            if why:
                raise Misuse("define mediated device", definition.name, cause=why)
        what = f"{definition.type} on {definition.parent}, {definition.start}"
        return write_file(self.host.sysfs, path, mdev_text(definition), what=what)

    # removing

    def plan_undefine(self, definition: Definition | Unreadable) -> Plan:
        """Plan to remove a definition, also a malformed one.  What is active stays as it is."""
        if isinstance(definition, PersistentDriver):
            path, what = self.drivers.path(definition.bus, definition.address), f"driver {definition.driver}"
        elif isinstance(definition, PersistentMdev):
            path, what = self.mdevs.file_of(definition), f"{definition.type} on {definition.parent}"
        else:
            path, what = definition.path, "malformed"
        step = remove_file(self.host.sysfs, path, what=what)
        return self._plan(f"undefine {definition.name}", definition.name, step)

    def _plan(self, title: str, name: str, step: Step | None) -> Plan:
        where = f" in {self.root}" if self.root else ""
        steps = () if step is None else (step,)
        require_inside(self.host.sysfs, self.root, steps)
        return Plan(title + where, (name,), steps, sysfs=self.host.sysfs)
