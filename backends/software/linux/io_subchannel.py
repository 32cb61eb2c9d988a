"""The css drivers that are part of the kernel: ``io_subchannel``, which makes ccw devices, and ``chsc_subchannel``.

Source: ``drivers/s390/cio/device.c`` (probe, remove, sch_event, chp_event), ``device_id.c`` (recognition by SENSE ID).
"""

from __future__ import annotations

import errno
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag, Command
from pyvfio.css.instructions import OperandException
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.schib import SubchannelType
from pyvfio.css.scsw import Dstat
from pyvfio.css.senseid import SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software.linux.ccw import CcwBus, CcwDevice, CcwDriver, CcwState
from pyvfio_backends.software.linux.driver_core import Device
from pyvfio_backends.software.linux.subchannel import CssDriver, SubchannelDevice
from pyvfio_backends.software.linux.vfs import Attribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.css import CssBus

__all__ = ["ChscSubchannelDriver", "IoSubchannelDriver", "run_program", "run_reading"]

_SENSE_ID_SIZE = 256
_RECOGNITION_TRIES = 5


class _Action(Enum):
    NOTHING = auto()
    UNREGISTER = auto()
    UNREGISTER_DEVICE = auto()
    ATTACH = auto()
    REATTACH = auto()
    REPROBE = auto()
    VERIFY = auto()
    DISCONNECT = auto()
    ORPHAN = auto()


class IoSubchannelDriver(CssDriver):
    """Takes I/O subchannels, finds out what is behind them and puts a ccw device below."""

    def __init__(self, bus: CssBus) -> None:
        super().__init__(bus, "io_subchannel")
        self._recognising: dict[str, _Recognition] = {}

    # binding

    def files(self, sch: SubchannelDevice) -> dict[str, Node]:
        """See `CssDriver.files`."""
        return {"logging": _LOGGING, "vpm": Attribute(lambda: f"{sch.vpm:02x}\n")}

    def probe(self, device: Device) -> None:
        """See `Driver.probe`; the device below comes later, when its SENSE ID has been answered."""
        if isinstance(device, SubchannelDevice):
            device.init_config()
            device.update_schib()
            device.init_paths()
            device.vpm = 0
            if device.commit_config():
                css = device.css
                self.kernel.clock.schedule(0.0, lambda: css.unregister(device))
                return
            device.css.schedule_evaluation(device)

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, SubchannelDevice):
            self._end_recognition(device)
            ccw = _ccw_device_of(device)
            if ccw is not None and ccw.bus is not None:
                ccw.bus.remove(ccw)

    # recognition

    def recognise(self, sch: SubchannelDevice) -> None:
        """Start to find out what device there is."""
        if sch.name in self._recognising:
            return
        recognition = self._recognising[sch.name] = _Recognition(sch)
        if sch.lpm == 0 or sch.enable() or not recognition.start():
            self._end_recognition(sch)

    def _end_recognition(self, sch: SubchannelDevice) -> None:
        recognition = self._recognising.pop(sch.name, None)
        if recognition is not None:
            recognition.free()
            sch.disable()

    def irq(self, sch: SubchannelDevice, irb: Irb) -> None:
        """See `CssDriver.irq`: the end of a SENSE ID, or of a program of `run_program`."""
        recognition = self._recognising.get(sch.name)
        if recognition is None:
            return
        identity = recognition.result(irb)
        if identity is None:
            if not recognition.start():
                self._end_recognition(sch)
            return
        self._end_recognition(sch)
        bus = sch.css.ccw
        self.kernel.clock.schedule(0.0, lambda: self._register(bus, sch, identity))

    def _register(self, bus: CcwBus, sch: SubchannelDevice, identity: SenseId) -> None:
        if sch.driver is not self or _ccw_device_of(sch) is not None:
            return
        sch.update_schib()
        device = CcwDevice(bus, sch, identity)
        device.options = sch.css.describe(sch.schid)
        bus.add(device)

    # events

    def sch_event(self, sch: SubchannelDevice) -> None:
        """See `CssDriver.sch_event`."""
        ccw = _ccw_device_of(sch)
        action = self._action(sch, ccw)
        if action in (_Action.UNREGISTER, _Action.UNREGISTER_DEVICE, _Action.REATTACH) and ccw is not None:
            ccw.state = CcwState.NOT_OPERATIONAL
            sch.disable()
        if action is _Action.ORPHAN and ccw is not None:
            ccw.state = CcwState.DISCONNECTED
            sch.css.ccw.move(ccw, sch.css.defunct)
        if action in (_Action.UNREGISTER_DEVICE, _Action.REATTACH) and ccw is not None:
            sch.css.ccw.remove(ccw)
        if action is _Action.UNREGISTER or (action is _Action.ORPHAN and sch.update_schib() == errno.ENODEV):
            sch.css.unregister(sch)
        elif action in (_Action.ATTACH, _Action.REATTACH) or action is _Action.ORPHAN:
            self._attach(sch)
        elif action is _Action.DISCONNECT and ccw is not None:
            ccw.state = CcwState.DISCONNECTED
        elif action is _Action.REPROBE and ccw is not None:
            self._reconnect(sch, ccw)
        elif action is _Action.VERIFY:
            sch.vpm = sch.lpm = sch.schib.pmcw.pam & sch.opm

    def _action(self, sch: SubchannelDevice, ccw: CcwDevice | None) -> _Action:
        """What the state asks for (``sch_get_action``)."""
        code = sch.update_schib()
        keeps = ccw is not None and ccw.online and isinstance(ccw.driver, CcwDriver) and ccw.driver.keeps_lost
        if code == errno.ENODEV:
            return _Action.ORPHAN if keeps else _Action.UNREGISTER
        if code:
            if ccw is None:
                return _Action.NOTHING
            return _Action.ORPHAN if keeps else _Action.UNREGISTER_DEVICE
        if ccw is None:
            return _Action.ATTACH
        if sch.schib.pmcw.devno != ccw.devno:
            return _Action.ORPHAN if keeps else _Action.REATTACH
        if not sch.schib.pmcw.pam & sch.opm:
            return _Action.DISCONNECT if keeps else _Action.UNREGISTER_DEVICE
        if ccw.state is CcwState.DISCONNECTED:
            return _Action.REPROBE
        if ccw.online:
            return _Action.VERIFY
        return _Action.REATTACH if ccw.state is CcwState.NOT_OPERATIONAL else _Action.NOTHING

    def _attach(self, sch: SubchannelDevice) -> None:
        """Take in a device that lost its subchannel, or find out what device is new here."""
        sch.init_paths()
        bus = sch.css.ccw
        known = bus.devices.get(f"0.{sch.schid.ssid:x}.{sch.schib.pmcw.devno:04x}")
        if isinstance(known, CcwDevice):
            if known.subchannel is None:
                bus.move(known, sch)
                self._reconnect(sch, known)
            return
        self.recognise(sch)

    @staticmethod
    def _reconnect(sch: SubchannelDevice, ccw: CcwDevice) -> None:
        ccw.state = CcwState.ONLINE if ccw.online else CcwState.OFFLINE
        sch.lpm = sch.schib.pmcw.pam & sch.opm
        if ccw.online and sch.enable() == 0:
            sch.vpm = sch.lpm

    def chp_event(self, sch: SubchannelDevice, chpid: int, event: str) -> None:
        """See `CssDriver.chp_event`."""
        mask = sch.path_mask(chpid)
        if event in ("offline", "online") and sch.update_schib():
            return
        if event == "vary-off":
            sch.opm &= ~mask
        elif event == "vary-on":
            sch.opm |= mask
        if event in ("vary-off", "offline"):
            sch.lpm &= ~mask
            sch.vpm &= ~mask
        else:
            sch.lpm |= mask & sch.opm
        sch.css.schedule_evaluation(sch)


class ChscSubchannelDriver(CssDriver):
    """Holds the subchannels of type CHSC."""

    types = frozenset({SubchannelType.CHSC})

    def __init__(self, bus: CssBus) -> None:
        super().__init__(bus, "chsc_subchannel")


class _Recognition:
    """A SENSE ID under way: its CCW and its buffer in the kernel's storage."""

    def __init__(self, sch: SubchannelDevice) -> None:
        self.sch = sch
        self.memory = sch.kernel.memory
        self.address = self.memory.allocate(CCW_SIZE + _SENSE_ID_SIZE)
        self.tries = 0

    def start(self) -> bool:
        """Start it, if there is a try left; whether an interruption will come."""
        self.tries += 1
        if self.tries > _RECOGNITION_TRIES:
            return False
        buffer = self.address + CCW_SIZE
        self.memory.write(self.address, Ccw(Command.SENSE_ID, CcwFlag.SLI, _SENSE_ID_SIZE, buffer).to_bytes())
        orb = Orb(intparm=self.sch.intparm, pfch=True, lpm=self.sch.lpm, cpa=self.address)
        try:
            return self.sch.css.hardware.ssch(self.sch.schid, orb) == 0
        except OperandException:
            return False

    def result(self, irb: Irb) -> SenseId | None:
        """What the device said, or None when it did not."""
        if not irb.scsw.ok or not irb.scsw.dstat & Dstat.DEVICE_END:
            return None
        try:
            identity = SenseId.from_bytes(self.memory.read(self.address + CCW_SIZE, _SENSE_ID_SIZE))
        except Misuse:
            return None
        return identity

    def free(self) -> None:
        """Give the storage back."""
        self.memory.free(self.address)


def _ccw_device_of(sch: SubchannelDevice) -> CcwDevice | None:
    """The ccw device below a subchannel."""
    for child in sch.children.values():
        if isinstance(child, CcwDevice):
            return child
    return None


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


def run_reading(sch: SubchannelDevice, ccw: Ccw) -> bytes | None:
    """Let a command that reads `Ccw.count` bytes run as `run_program` does; what it brought, or None if it failed."""
    memory = sch.kernel.memory
    buffer = memory.allocate(ccw.count)
    try:
        done = run_program(sch, replace(ccw, cda=buffer))
        return memory.read(buffer, ccw.count) if done else None
    finally:
        memory.free(buffer)


def _log(data: bytes) -> None:
    raise fail(errno.EOPNOTSUPP)  # the machine cannot log (chsc_siosl)


_LOGGING = Attribute(store=_log)
