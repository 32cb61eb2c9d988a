"""Builds the channel subsystem of a machine and the state that the boot leaves: all bound, some online, quiet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.address import SubchannelId
from pyvfio.css.chsc_machine import Characteristic, Characteristics
from pyvfio.css.schib import SubchannelType
from pyvfio.errors import Misuse
from pyvfio_backends.software import css_events
from pyvfio_backends.software.description import MachineSpec, OtherSubchannelSpec
from pyvfio_backends.software.hardware.css import (
    MAINFRAME,
    VIRTUAL,
    ChannelPath,
    ChannelSubsystemHardware,
    CssModel,
    SubchannelConfig,
)
from pyvfio_backends.software.linux import vfio_ccw
from pyvfio_backends.software.linux.ccw_bus import CcwBus
from pyvfio_backends.software.linux.ccw_drivers import ALWAYS, DRIVERS
from pyvfio_backends.software.linux.chsc_device import add_chsc_device
from pyvfio_backends.software.linux.cio_ignore import IgnoredDevices
from pyvfio_backends.software.linux.css import Css
from pyvfio_backends.software.linux.css_driver import CssDriver
from pyvfio_backends.software.linux.css_unbuilt import UnbuiltCcwDevices, UnbuiltSubchannels, run_of_spec
from pyvfio_backends.software.linux.driver_core import Bus
from pyvfio_backends.software.linux.io_subchannel import ChscSubchannelDriver, EadmSubchannelDriver, IoSubchannelDriver
from pyvfio_backends.software.linux.mdev import mdev_bus
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.subchannel import SubchannelDevice
from pyvfio_backends.software.linux.zpci_host import zpci_host

if TYPE_CHECKING:
    from pyvfio.css.sei import Sei
    from pyvfio_backends.software.hardware.zpci.facility import ZpciEvent
    from pyvfio_backends.software.machine import Machine

__all__ = ["boot"]

_IGNORE = "cio_ignore="
_BUILT_AT_BOOT = 64
"""Virtio devices are numbered as they are found; runs up to this length are built at boot, so that it is in order."""


def boot(machine: Machine) -> None:
    """Make the hardware (``machine.css``) and Linux's side of it, from the machine's description.

    Raise `Misuse` for a unit or a driver that does not exist.
    """
    kernel = machine.kernel
    css = Css(kernel)
    css.listeners = machine.ccw_trace
    runs = [run_of_spec(spec) for spec in machine.spec.subchannels]
    hardware = ChannelSubsystemHardware(
        machine.memory,
        on_io_interrupt=css.io_interrupt,
        on_crw=css.channel_report_pending,
        schedule=machine.clock.schedule,
        now=lambda: machine.clock.now,
        model=_model(machine.spec, virtual=any(run.unit.virtual for run in runs)),
    )
    machine.css = css.hardware = hardware
    for path in machine.spec.paths:
        hardware.add_path(
            ChannelPath(
                path.chpid,
                path.type,
                path.online,
                shared=path.shared,
                cmg=None if path.cmg < 0 else path.cmg,
                speed=path.speed,
                chid=None if path.chid < 0 else path.chid,
            )
        )
    for run in runs:
        hardware.add_range(run.first, run.spec.count, partial(run.config, hardware))
    others = [config for other in machine.spec.others for config in _configs(other)]
    for config in others:
        hardware.add_subchannel(config)
    css.ccw = CcwBus(css)
    kernel.add_bus(css.ccw)
    kernel.add_bus(Bus(kernel, "scm"))
    add_chsc_device(kernel)
    for css_driver in _css_drivers(css):
        css.bus.drivers[css_driver.name] = css_driver
        if css_driver.module:
            kernel.modules.load(Module(css_driver.module)).drivers[f"css:{css_driver.name}"] = css_driver.sysfs_path
    wanted = dict.fromkeys([*ALWAYS, *(run.spec.driver for run in runs if run.spec.driver)])
    for name in wanted:
        if name not in DRIVERS:
            raise Misuse("boot the machine", name, cause=f"no such ccw driver; there is {', '.join(sorted(DRIVERS))}")
    css.ccw.boot_drivers(DRIVERS[name](css.ccw) for name in wanted)
    if "mdev" in machine.spec.modules:
        mdev_bus(kernel)
    if "vfio_ccw" in machine.spec.modules:
        vfio_ccw.load(kernel)
    seen = [run for run in runs if not run.first.cssid]  # Linux enables the subchannel sets, but no other images
    subchannels = UnbuiltSubchannels(css, seen, _ignored_at_boot(css, machine.spec.host.cmdline))
    css.unbuilt_on_path = subchannels.on_path
    _register_paths(css, subchannels)
    css.describe = subchannels.describe
    css.bus.sources.append(subchannels)
    css.ccw.sources.append(UnbuiltCcwDevices(subchannels))
    for run in subchannels.runs:
        if (run.unit.virtual or run.spec.online) and run.spec.count <= _BUILT_AT_BOOT:
            for name in run.names(run.first.number):
                sch = subchannels.make(name)
                if sch is not None and run.spec.online and sch.cdev is not None:
                    _ = sch.cdev.children  # what its driver shows of it is numbered in this order
    for config in others:
        if not config.schid.cssid:
            _add_other(css, config)
    _connect_functions(machine, css)
    css_events.plan(machine)


def _connect_functions(machine: Machine, css: Css) -> None:
    """Have events of PCI functions told by the channel subsystem: a channel report, then event information."""
    host = zpci_host(machine.kernel)

    def report(event: ZpciEvent) -> None:
        from pyvfio_backends.software.hardware.zpci.reports import event_information

        css.hardware.inject_event(event_information(event))
        css.take_reports()  # the machine check is taken at once

    def take(information: Sei) -> None:
        from pyvfio_backends.software.hardware.zpci.reports import told_event

        event = told_event(information)
        if event is not None:
            host.event(event)

    css.on_function_event = take
    machine.zpci.on_event = report


def _ignored_at_boot(css: Css, cmdline: str) -> IgnoredDevices | None:
    """Obey the kernel's parameter ``cio_ignore=``; the devices that the boot passed over, None for none."""
    for word in cmdline.split():
        if word.startswith(_IGNORE):
            css.ignored.parse(word.removeprefix(_IGNORE), add=True)
    return css.ignored.copy() if css.ignored else None


def _css_drivers(css: Css) -> Iterator[CssDriver]:
    """The drivers of subchannels that are part of the kernel; one refuses to load where it has no work."""
    yield IoSubchannelDriver(css.bus)
    yield ChscSubchannelDriver(css.bus)
    if Characteristic.EXTENDED_ASYNCHRONOUS_DATA_MOVER in css.calls.characteristics.general:
        yield EadmSubchannelDriver(css.bus)


def _model(spec: MachineSpec, *, virtual: bool) -> CssModel:
    """What kind of channel subsystem a machine has; one with ADM subchannels tells of that facility."""
    model = VIRTUAL if virtual else MAINFRAME
    if any(other.type == "adm" for other in spec.others):
        known = model.characteristics
        general = {*known.general, Characteristic.EXTENDED_ASYNCHRONOUS_DATA_MOVER}
        model = replace(model, characteristics=Characteristics.of(general, known.calls))
    return model


def _configs(other: OtherSubchannelSpec) -> Iterator[SubchannelConfig]:
    """The subchannels of a row that are not for I/O."""
    first, kind = SubchannelId.parse(other.schid), SubchannelType[other.type.upper()]
    for number in range(first.number, first.number + other.count):
        yield SubchannelConfig(SubchannelId(first.cssid, first.ssid, number), 0, type=kind, pim=0, pam=0)


def _add_other(css: Css, config: SubchannelConfig) -> None:
    """Make such a subchannel known as the boot does: with its driver, enabled."""
    sch = SubchannelDevice(css, config.schid)
    sch.st = SubchannelType(config.type)
    if sch.update_schib():
        return
    css.bus.add(sch, quiet=True)
    driver = next((each for each in css.bus.drivers.values() if css.bus.match(sch, each)), None)
    if driver is not None:
        driver.probe(sch)
        sch.driver = driver
        driver.devices[sch.name] = sch


def _register_paths(css: Css, subchannels: UnbuiltSubchannels) -> None:
    """Make known the channel paths that the machine lists, and those of the subchannels that are known."""
    listed = css.hardware.sclp_read_paths()
    chpids = set() if listed is None else set(listed.configured | listed.standby)
    for run in subchannels.runs:
        if next(subchannels.known(run), None) is not None:
            chpids.update(run.spec.chpids)
    for chpid in sorted(chpids):
        css.register_path(chpid)
