"""The host's half of a subchannel that a guest uses: vfio-ccw's regions and interrupts, as functions that never wait.

====  ======================  ====================================================
part  region or interrupt     used for
====  ======================  ====================================================
Q1    I/O region              START SUBCHANNEL, and the interruption response
      async region            HALT and CLEAR SUBCHANNEL
      SCHIB region            STORE SUBCHANNEL: path masks and CHPIDs of now
      CRW region              channel reports about the subchannel's paths
Q2    I/O interrupt           an interruption response is in the I/O region
      CRW interrupt           a channel report is in the CRW region
      request interrupt       the host wants its device back
====  ======================  ====================================================

Older kernels have only some of the regions.  Requests give the kernel's errno as a number (0: accepted), because a
hypervisor turns it into a condition code.  Source: ``Documentation/arch/s390/vfio-ccw.rst``, ``vfio_ccw.h``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final, Unpack

from pyvfio.abi import vfio_ccw as abi
from pyvfio.channel_regions import ChannelRegions
from pyvfio.css.crw import Crw
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Schib
from pyvfio.css.trace import Step, StepDetails, StepListener
from pyvfio.errors import PyvfioError
from pyvfio.vfio import Device
from pyvfio.vfio.irq import Irq

__all__ = ["HostSubchannel"]

#: How often a request is repeated that met another one being worked on (EAGAIN).
_AGAIN: Final = 256
_PATH: Final = "/sys/devices/css0/chp0.{:02x}/type"
_LONGEST: Final = 16


class HostSubchannel:
    """The subchannel behind an open vfio-ccw `device`, which is closed with it.

    `trace` is told the steps Q1, Q2, Q4 and Q6.  Raise `Misuse` when the device is of another kind, or when
    somebody else has its interrupts (`Device.on_request`, or ``let_go`` of `open_device`).
    """

    def __init__(self, device: Device, *, trace: StepListener | None = None) -> None:
        self._regions = ChannelRegions(device, "pass a channel device through")
        self.device = device
        self._trace = trace
        region = self._regions.io
        self.tell("Q1", f"the I/O region has {region.size} bytes at offset {region.offset:#x}")
        self.io_irq = self._regions.io_irq
        self.crw_irq = self._regions.crw_irq()
        self.request_irq = device.request
        self._enabled: list[Irq] = []
        try:
            for irq in self.irqs():
                irq.enable()
                self._enabled.append(irq)
        except BaseException:
            self.release()
            raise
        self.tell("Q2", "an eventfd awaits the end of I/O")

    def irqs(self) -> list[Irq]:
        """The interrupts that this kernel's vfio-ccw has."""
        return [irq for irq in (self.io_irq, self.crw_irq, self.request_irq) if irq is not None]

    def tell(self, name: str, text: str, **details: Unpack[StepDetails]) -> None:
        """Tell the listener of a step."""
        if self._trace is not None:
            self._trace(Step(name, self.device.name, text, **details))

    # requests

    def start(self, orb: Orb) -> int:
        """START SUBCHANNEL; the errno, 0 when it is accepted."""
        self.tell("Q4", "the ORB is written to the I/O region", orb=orb)
        image = orb.to_bytes()
        return _request(lambda: self._regions.start(image))

    def halt(self) -> int:
        """HALT SUBCHANNEL; the errno, ENOSYS when this kernel's vfio-ccw has no such request."""
        return self._command(abi.VFIO_CCW_ASYNC_CMD_HSCH)

    def clear(self) -> int:
        """CLEAR SUBCHANNEL; as `halt`."""
        return self._command(abi.VFIO_CCW_ASYNC_CMD_CSCH)

    def _command(self, command: int) -> int:
        if not self._regions.has_async:
            return errno.ENOSYS
        return _request(lambda: self._regions.command(command, "stop subchannel"))

    # what the host says

    def irb(self) -> Irb:
        """The interruption response that came last, with the guest's addresses.  Raise the class for the errno."""
        irb = self._regions.irb()
        self.tell("Q6", "the event came; the IRB is read from the I/O region", irb=irb)
        return irb

    def schib(self) -> Schib:
        """The host's SCHIB of now.

        Raise the class for the errno (ENODEV: the subchannel or its device is gone), or `NotAvailable` when this
        kernel's vfio-ccw does not tell it (before Linux 5.8).
        """
        return self._regions.schib()

    def crw(self) -> Crw | None:
        """The next channel report, None when there is no more.  Raise the class for the errno."""
        return self._regions.crw() if self._regions.has_crw else None

    def path_type(self, chpid: int) -> int:
        """The type of a channel path of the host as its sysfs tells it, 0 when it does not."""
        backend = self.device.backend
        try:
            fd = backend.open(_PATH.format(chpid), os.O_RDONLY)
            try:
                return int(backend.read(fd, _LONGEST), 16)
            finally:
                backend.close(fd)
        except (OSError, ValueError):
            return 0

    def reset(self) -> None:
        """Stop what is under way and forget what was signalled.  Raise the class for the errno."""
        self.device.reset()
        self.io_irq.poll()

    def release(self) -> None:
        """Give up the interrupts; the device stays open."""
        while self._enabled:
            self._enabled.pop().disable()

    def close(self) -> None:
        """Close the device; a second call does nothing."""
        self.device.close()


def _request(request: Callable[[], None]) -> int:
    """Make a request, again as long as it meets another that is being worked on; the errno, 0 when it is accepted."""
    code = 0
    for _ in range(_AGAIN):
        try:
            request()
        except PyvfioError as error:
            code = error.errno or errno.EIO
            if code != errno.EAGAIN:
                return code
        else:
            return 0
    return code
