"""The states of a vfio-ccw device, and what each event does in each of them.

=================  ==============  ============  ===========  ===============  ============
state              I/O request     async         interrupt    open             close
=================  ==============  ============  ===========  ===============  ============
not operational    EIO             EIO           disable      nothing          nothing
standby            EIO             EIO           disable      enable -> idle   gone
idle               start           halt, clear   IRB          gone             -> standby
processing         EAGAIN          EAGAIN        IRB          gone             -> standby
pending            EBUSY           halt, clear   IRB          gone             -> standby
=================  ==============  ============  ===========  ===============  ============

"Not operational" as an event leads there from every other state, and takes the subchannel's device away ("gone").
Source: ``drivers/s390/cio/vfio_ccw_fsm.c``, ``vfio_ccw_drv.c``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Unpack

from pyvfio.abi import vfio_ccw as abi
from pyvfio.css.instructions import OperandException
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import Actl, Fctl, Scsw
from pyvfio.css.trace import Step, StepDetails
from pyvfio_backends.software.linux.vfio_ccw_cp import ChannelProgram

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.subchannel import SubchannelDevice
    from pyvfio_backends.software.linux.vfio_ccw_device import VfioCcwDevice

__all__ = ["CcwMachine", "State"]

_QUIESCE_TRIES = 255


class State(Enum):
    """States of a vfio-ccw device (``enum vfio_ccw_state``)."""

    NOT_OPERATIONAL = auto()
    STANDBY = auto()
    IDLE = auto()
    PROCESSING = auto()
    PENDING = auto()


_CLOSED = frozenset({State.NOT_OPERATIONAL, State.STANDBY})


class CcwMachine:
    """The state machine of `device` over the subchannel `sch`.

    Requests return 0 or a negative errno, which the caller puts into the region's ``ret_code``.
    """

    def __init__(self, device: VfioCcwDevice, sch: SubchannelDevice) -> None:
        self.device = device
        self.sch = sch
        self.state = State.STANDBY
        self.program = ChannelProgram(device)
        self._irb = Irb()
        self._io_work: Callable[[], None] | None = None
        self._interrupts = 0

    def _step(self, name: str, text: str, **details: Unpack[StepDetails]) -> None:
        css = self.sch.css
        if css.listeners:
            css.step(Step(name, self.sch.name, text, **details))

    # events from the user

    def io_request(self, orb_area: bytes, scsw_area: bytes) -> int | None:
        """START SUBCHANNEL from the I/O region; None when the result of the last request is to stay."""
        if self.state in _CLOSED:
            return -errno.EIO
        if self.state is State.PROCESSING:
            return -errno.EAGAIN
        if self.state is State.PENDING:
            return -errno.EBUSY
        self.state = State.PROCESSING
        result: int | None = None
        function = Scsw.function_of(scsw_area)
        if function & Fctl.START:
            result = self._start(Orb.from_bytes(orb_area))
            if result == 0:
                return 0
        elif function & (Fctl.HALT | Fctl.CLEAR):
            result = -errno.EOPNOTSUPP  # these belong into the async region
        self.state = State.IDLE
        return result

    def _start(self, orb: Orb) -> int:
        if orb.tm:
            return -errno.EOPNOTSUPP
        program = self.program
        try:
            program.copy(orb)
        except OSError as error:
            return -(error.errno or errno.EIO)
        listened = self.sch.css.listeners
        if listened:
            self._step("K1", "the channel program is copied from the guest", orb=orb, program=program.guest_lines())
        try:
            program.translate()
        except OSError as error:
            program.free()
            return -(error.errno or errno.EIO)
        host = program.host_orb(self.sch.intparm, self.sch.lpm)
        if listened:
            self._step("K2", "its addresses are translated, its pages pinned", orb=host, program=program.host_lines())
        result = self._issue(host)
        if result:
            program.free()
        return result

    def _issue(self, orb: Orb) -> int:
        sch = self.sch
        try:
            cc = sch.css.hardware.ssch(sch.schid, orb)
        except OperandException:
            self._step("K3", "START SUBCHANNEL met a program exception", orb=orb, result=-errno.EIO)
            return -errno.EIO
        self._step("K3", "the translated program is issued to the device", orb=orb, condition_code=cc)
        result = self._condition(cc, orb)
        self._step("K4", f"condition code {cc} is returned as {result}", condition_code=cc, result=result)
        return result

    def _condition(self, cc: int, orb: Orb) -> int:
        if cc == 0:
            self.state = State.PENDING
            return 0
        return -errno.EBUSY if cc in (1, 2) else -self.sch.paths_not_operational(orb.lpm)

    def async_request(self, command: int) -> int:
        """HALT or CLEAR SUBCHANNEL from the async region."""
        if self.state in _CLOSED:
            return -errno.EIO
        if self.state is State.PROCESSING:
            return -errno.EAGAIN
        hardware, schid = self.sch.css.hardware, self.sch.schid
        if command == abi.VFIO_CCW_ASYNC_CMD_HSCH:
            cc = hardware.hsch(schid)
        elif command == abi.VFIO_CCW_ASYNC_CMD_CSCH:
            cc = hardware.csch(schid)
        else:
            return -errno.EINVAL
        return (0, -errno.EBUSY, -errno.EBUSY, -errno.ENODEV)[cc]

    # opening and closing

    def open(self) -> None:
        """The device is opened; the state tells how it went."""
        if self.state is State.NOT_OPERATIONAL:
            return
        if self.state is not State.STANDBY or self.sch.enable():
            self.not_operational()
            return
        self.state = State.IDLE

    def close(self) -> None:
        """The device is closed: the subchannel stops and is disabled, the pages are unpinned."""
        if self.state is State.NOT_OPERATIONAL:
            return
        if self.state is State.STANDBY or not self.sch.schib.pmcw.ena or self._disable():
            self.not_operational()
            return
        self.state = State.STANDBY
        self.program.free()

    def _disable(self) -> int:
        """``cio_disable_subchannel``, and ``vfio_ccw_sch_quiesce`` as long as it is busy."""
        sch = self.sch
        result = sch.disable()
        retries = [_QUIESCE_TRIES]
        while result == errno.EBUSY:
            stopping = sch.cancel_halt_clear(retries)
            if stopping == errno.EIO:
                return stopping
            if stopping == errno.EBUSY:
                self._await_interrupt()
            result = sch.disable()
        return result

    def _await_interrupt(self) -> None:
        seen = self._interrupts
        self.device.kernel.clock.run_until(lambda: self._interrupts != seen)

    def drain(self) -> None:
        """Forget an interrupt that was not looked at yet (``cancel_work_sync``)."""
        self._io_work = None

    def not_operational(self) -> None:
        """The subchannel is gone, or does not do what it should: its device is taken away."""
        if self.state is State.NOT_OPERATIONAL:
            return
        self.state = State.NOT_OPERATIONAL
        clock, sch = self.device.kernel.clock, self.sch
        sch.leaving = True
        clock.schedule(0.0, self.program.free)
        clock.schedule(0.0, lambda: sch.css.unregister(sch))

    # events from the channel subsystem

    def interrupt(self, irb: Irb) -> None:
        """The subchannel presented a status."""
        if self.state in _CLOSED:
            self.sch.disable()
            return
        if self._io_work is not None and self._irb.scsw.is_solicited and not irb.scsw.is_solicited:
            self._io_todo()  # a device's own status comes later than the work queue takes to show a program's end
        self._irb = irb
        self._interrupts += 1
        self._step("K5", "the interrupt handler takes the result", irb=irb)
        if self._io_work is None:
            work = self._io_work = self._io_todo
            self.device.kernel.clock.schedule(0.0, lambda: work() if self._io_work is work else None)

    def _io_todo(self) -> None:
        self._io_work = None
        irb = self._irb
        final = not irb.scsw.actl & (Actl.DEVICE_ACTIVE | Actl.SUBCHANNEL_ACTIVE)
        if irb.scsw.is_solicited:
            irb = Irb(self.program.guest_scsw(irb.scsw), irb.esw, irb.ecw, irb.emw)
            self._step("K6", "the result gets the guest's addresses", irb=irb)
            if final and self.state is State.PENDING:
                self.program.free()
                self.state = State.IDLE
        self.device.show_irb(irb)
        self._step("K7", "the eventfd is signalled")
        self.device.signal(abi.VFIO_CCW_IO_IRQ_INDEX)
