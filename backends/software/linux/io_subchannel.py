"""The css drivers that are part of the kernel: ``io_subchannel``, which makes ccw devices, and those of other types.

Source: ``drivers/s390/cio/device.c`` (probe, remove, sch_event, chp_event), ``chsc_sch.c``, ``eadm_sch.c``.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.css.ccw import CCW_SIZE, NO_FLAGS, Ccw, CcwFlag, Command
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.schib import SubchannelType
from pyvfio_backends.software.linux.ccw import CcwDevice, CcwState, Notice
from pyvfio_backends.software.linux.css_driver import CssDriver, PathEvent
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.subchannel import SubchannelDevice
from pyvfio_backends.software.linux.vfs import Attribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.css_bus import CssBus

__all__ = [
    "ChscSubchannelDriver",
    "EadmSubchannelDriver",
    "IoSubchannelDriver",
    "run_program",
    "run_reading",
    "run_writing",
]


_SENSE_ID_SIZE = 64  # what the kernel gives SENSE ID room for (struct senseid)


class _Action(Enum):
    """What the state of a subchannel asks for (``enum io_sch_action``)."""

    NOTHING = auto()
    UNREGISTER = auto()
    UNREGISTER_DEVICE = auto()
    ATTACH = auto()
    UNREGISTER_ATTACH = auto()
    REPROBE = auto()
    VERIFY = auto()
    DISCONNECT = auto()
    ORPHAN = auto()
    ORPHAN_UNREGISTER = auto()
    ORPHAN_ATTACH = auto()


_ORPHANING = frozenset({_Action.ORPHAN, _Action.ORPHAN_UNREGISTER, _Action.ORPHAN_ATTACH})
_GIVING_UP = frozenset({_Action.UNREGISTER, _Action.UNREGISTER_DEVICE, _Action.UNREGISTER_ATTACH})
_ATTACHING = frozenset({_Action.ATTACH, _Action.UNREGISTER_ATTACH, _Action.ORPHAN_ATTACH})


class IoSubchannelDriver(CssDriver):
    """Takes I/O subchannels, finds out what is behind them and puts a ccw device below."""

    def __init__(self, bus: CssBus) -> None:
        super().__init__(bus, "io_subchannel")

    # binding

    def files(self, sch: SubchannelDevice) -> dict[str, Node]:
        """See `CssDriver.files`."""
        return {
            "logging": Attribute(store=partial(_log, sch)),
            "vpm": Attribute(lambda: f"{sch.vpm:02x}\n"),
        }

    def probe(self, device: Device) -> None:
        """See `Driver.probe`; the device below comes later, when its SENSE ID has been answered."""
        if isinstance(device, SubchannelDevice):
            device.init_config()
            device.update_schib()
            device.init_paths()
            device.vpm = 0
            css = device.css
            if device.commit_config():
                device.leaving = True
                self.kernel.clock.schedule(0.0, lambda: css.unregister(device))
            else:
                css.schedule_evaluation(device)

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, SubchannelDevice):
            ccw, device.cdev = device.cdev, None
            if ccw is not None:
                if ccw.registered:
                    ccw.unregister()
                else:
                    ccw.fsm.not_operational()
                    ccw.unregister()
                    device.disable()
                _sense_as_at_boot(device)

    # events

    def irq(self, sch: SubchannelDevice, irb: Irb) -> None:
        """See `CssDriver.irq`."""
        ccw = sch.cdev
        if ccw is not None:
            ccw.fsm.interrupt(irb)

    def sch_event(self, sch: SubchannelDevice) -> int:
        """See `CssDriver.sch_event`."""
        ccw = sch.cdev
        if sch.dead:
            return 0
        if sch.leaving or (ccw is not None and ccw.busy):
            return errno.EAGAIN
        action = self._action(sch, ccw)
        if ccw is not None:
            self._act_at_once(sch, ccw, action)
        if action in _ORPHANING and ccw is not None and self._move(ccw, sch.css.defunct) == errno.EBUSY:
            return errno.EAGAIN
        if action in (_Action.UNREGISTER_DEVICE, _Action.UNREGISTER_ATTACH) and ccw is not None:
            sch.cdev = None
            ccw.unregister()
        if action in (_Action.UNREGISTER, _Action.ORPHAN_UNREGISTER):
            sch.css.unregister(sch)
        elif action in _ATTACHING:
            return self._attach(sch)
        return 0

    @staticmethod
    def _act_at_once(sch: SubchannelDevice, ccw: CcwDevice, action: _Action) -> None:
        fsm = ccw.fsm
        if action is _Action.REPROBE:
            fsm.recognition.reprobe()
        elif action is _Action.VERIFY:
            fsm.verify()
        elif action is _Action.DISCONNECT or action in _ORPHANING:
            fsm.set_disconnected()
        elif action in _GIVING_UP:
            if ccw.state is CcwState.SENSE_ID:
                fsm.not_operational()
            else:
                fsm.set_not_operational()

    def _action(self, sch: SubchannelDevice, ccw: CcwDevice | None) -> _Action:
        """What the state asks for (``sch_get_action``)."""
        code = sch.update_schib()
        if code == errno.ENODEV:
            keeps = ccw is not None and ccw.notify(Notice.GONE)
            return _Action.ORPHAN_UNREGISTER if keeps else _Action.UNREGISTER
        if code:
            if ccw is None:
                return _Action.NOTHING
            return _Action.ORPHAN if ccw.notify(Notice.GONE) else _Action.UNREGISTER_DEVICE
        if ccw is None:
            return _Action.ATTACH
        if sch.schib.pmcw.devno != ccw.devno:
            return _Action.ORPHAN_ATTACH if ccw.notify(Notice.GONE) else _Action.UNREGISTER_ATTACH
        if not sch.schib.pmcw.pam & sch.opm:
            return _Action.DISCONNECT if ccw.notify(Notice.NO_PATH) else _Action.UNREGISTER_DEVICE
        if ccw.state in (CcwState.DISCONNECTED, CcwState.DISCONNECTED_SENSE_ID):
            return _Action.REPROBE
        if ccw.online:
            return _Action.VERIFY
        return _Action.UNREGISTER_ATTACH if ccw.state is CcwState.NOT_OPERATIONAL else _Action.NOTHING

    def _attach(self, sch: SubchannelDevice) -> int:
        """Take in a device that lost its subchannel, or find out what device is new here."""
        bus = sch.css.ccw
        known = bus.find(f"0.{sch.schid.ssid:x}.{sch.schib.pmcw.devno:04x}")
        if isinstance(known, CcwDevice):
            code = self._move(known, sch)
            if not code:
                known.fsm.recognition.reprobe()
            return code
        ccw = CcwDevice(bus, sch)
        ccw.state = CcwState.NOT_OPERATIONAL
        sch.cdev = ccw
        ccw.fsm.recognition.start()
        return 0

    @staticmethod
    def _move(ccw: CcwDevice, parent: Device) -> int:
        """Put a device below another subchannel, or among the orphans: 0 or EBUSY (``ccw_device_move_to_sch``)."""
        old = ccw.subchannel
        if old is not None and old.schib.pmcw.ena and old.disable() == errno.EBUSY:
            return errno.EBUSY
        ccw.ccw_bus.move(ccw, parent)
        if old is not None:
            old.cdev = None
            old.css.schedule_evaluation(old)
        if isinstance(parent, SubchannelDevice):
            parent.cdev = ccw
            parent.css.update_paths(parent)
        return 0

    def chp_event(self, sch: SubchannelDevice, chpid: int, event: PathEvent) -> int:
        """See `CssDriver.chp_event`."""
        mask = sch.path_mask(chpid)
        if not mask:
            return 0
        ccw = sch.cdev
        gone = event in (PathEvent.VARY_OFF, PathEvent.OFFLINE)
        if event in (PathEvent.OFFLINE, PathEvent.ONLINE) and sch.update_schib():
            return errno.ENODEV
        sch.use_path(mask, event)
        if ccw is None:
            if not gone:
                sch.css.schedule_evaluation(sch)
        elif gone:
            ccw.fsm.gone_paths |= mask
            self._terminate(sch, ccw, mask)
        else:
            ccw.fsm.new_paths |= mask
            ccw.fsm.verify()
        return 0

    @staticmethod
    def _terminate(sch: SubchannelDevice, ccw: CcwDevice, mask: int) -> None:
        """Stop a program that uses this path, and verify the others (``io_subchannel_terminate_path``)."""
        if sch.update_schib():
            ccw.fsm.not_operational()
            return
        if sch.schib.scsw.actl and sch.schib.pmcw.lpum == mask:
            if ccw.state is CcwState.ONLINE:
                ccw.fsm.kill()
            elif sch.clear():
                ccw.fsm.not_operational()
                return
        ccw.fsm.verify()


class _EnablingDriver(CssDriver):
    """A driver that enables its subchannels and waits for work, which nothing of this machine gives it."""

    def probe(self, device: Device) -> None:
        """See `Driver.probe`.  Raise OSError when the subchannel cannot be enabled."""
        if isinstance(device, SubchannelDevice):
            code = device.enable()
            if code:
                raise fail(code)

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, SubchannelDevice):
            device.disable()


class ChscSubchannelDriver(_EnablingDriver):
    """Holds the subchannels of type CHSC, for requests that take long."""

    types = frozenset({SubchannelType.CHSC})

    def __init__(self, bus: CssBus) -> None:
        super().__init__(bus, "chsc_subchannel")


class EadmSubchannelDriver(_EnablingDriver):
    """``eadm_subchannel``: holds the subchannels over which storage-class memory is moved."""

    types = frozenset({SubchannelType.ADM})

    def __init__(self, bus: CssBus) -> None:
        super().__init__(bus, "eadm_subchannel", module="eadm_sch")

    def sch_event(self, sch: SubchannelDevice) -> int:
        """See `CssDriver.sch_event`."""
        if not sch.dead and not sch.leaving and sch.update_schib():
            sch.leaving = True
            self.kernel.clock.schedule(0.0, lambda: sch.css.unregister(sch))
        return 0


def _log(sch: SubchannelDevice, data: bytes) -> None:
    code = sch.css.log_subchannel(sch.schid)
    if code:
        raise fail(code)


def run_program(sch: SubchannelDevice, ccw: Ccw) -> bool:
    """Let a one-command program without data run on an enabled subchannel, and wait; whether it ended well."""
    memory = sch.kernel.memory
    address = memory.allocate(CCW_SIZE)
    try:
        memory.write(address, ccw.to_bytes())
        orb = Orb(intparm=sch.intparm, pfch=True, lpm=sch.lpm, cpa=address)
        if sch.css.hardware.ssch(sch.schid, orb):
            return False
        return sch.kernel.clock.run_until(lambda: not sch.update_schib() and not sch.schib.scsw.fctl) and (
            sch.schib.scsw.ok
        )
    finally:
        memory.free(address)


def _sense_as_at_boot(sch: SubchannelDevice) -> None:
    """Let a subchannel that nothing was started on run the SENSE ID of the boot, of which the status word tells."""
    if sch.boot is not None and not sch.update_schib() and not any(sch.schib.scsw.to_bytes()) and not sch.enable():
        run_reading(sch, Ccw(Command.SENSE_ID, CcwFlag.SLI, _SENSE_ID_SIZE, 0))
        sch.disable()


def run_writing(sch: SubchannelDevice, cmd: int, data: bytes) -> bool:
    """Let a command that writes `data` run as `run_program` does; whether it ended well."""
    memory = sch.kernel.memory
    buffer = memory.allocate(len(data))
    try:
        memory.write(buffer, data)
        return run_program(sch, Ccw(cmd, NO_FLAGS, len(data), buffer))
    finally:
        memory.free(buffer)


def run_reading(sch: SubchannelDevice, ccw: Ccw) -> bytes | None:
    """Let a command that reads `Ccw.count` bytes run as `run_program` does; what it brought, or None if it failed."""
    memory = sch.kernel.memory
    buffer = memory.allocate(ccw.count)
    try:
        done = run_program(sch, replace(ccw, cda=buffer))
        return memory.read(buffer, ccw.count) if done else None
    finally:
        memory.free(buffer)
