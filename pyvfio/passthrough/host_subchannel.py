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
from typing import Unpack

from pyvfio.abi import vfio_ccw as abi
from pyvfio.css.crw import CRW_SIZE, Crw
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Schib
from pyvfio.css.scsw import Fctl, Scsw
from pyvfio.css.trace import Step, StepDetails, StepListener
from pyvfio.errors import Misuse, NotAvailable, PyvfioError
from pyvfio.vfio import Device, Region
from pyvfio.vfio.irq import Irq

__all__ = ["HostSubchannel"]

_IRB_AT = abi.ORB_AREA_SIZE + abi.SCSW_AREA_SIZE
_RETURN_CODE_SIZE = 4
#: How often a request is repeated that met another one being worked on (EAGAIN).
_AGAIN = 256


class HostSubchannel:
    """The subchannel behind an open vfio-ccw `device`, which is closed with it.

    `trace` is told the steps Q1, Q2, Q4 and Q6.  Raise `Misuse` when the device is of another kind, or when
    somebody else has its interrupts (`Device.on_request`, or ``let_go`` of `open_device`).
    """

    def __init__(self, device: Device, *, trace: StepListener | None = None) -> None:
        if device.kind != "ccw":
            raise Misuse("pass a channel device through", device.name, cause=f"it is a {device.kind} device")
        self.device = device
        self._trace = trace
        self._io = device.region(abi.VFIO_CCW_CONFIG_REGION_INDEX)
        self.tell("Q1", f"the I/O region has {self._io.size} bytes at offset {self._io.offset:#x}")
        self._async = self._find(abi.VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD)
        self._schib = self._find(abi.VFIO_REGION_SUBTYPE_CCW_SCHIB)
        self._crw = self._find(abi.VFIO_REGION_SUBTYPE_CCW_CRW)
        self.io_irq = device.irq(abi.VFIO_CCW_IO_IRQ_INDEX)
        self.crw_irq = device.irq(abi.VFIO_CCW_CRW_IRQ_INDEX) if self._crw is not None else None
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

    def _find(self, subtype: int) -> Region | None:
        return self.device.find_region(abi.VFIO_REGION_TYPE_CCW, subtype)

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
        image = orb.to_bytes() + Scsw(fctl=Fctl.START).to_bytes() + bytes(abi.IRB_AREA_SIZE + _RETURN_CODE_SIZE)
        self.tell("Q4", f"{len(image)} bytes with the ORB are written to the I/O region", orb=orb)
        return self._request(self._io, image)

    def halt(self) -> int:
        """HALT SUBCHANNEL; the errno, ENOSYS when this kernel's vfio-ccw has no such request."""
        return self._command(abi.VFIO_CCW_ASYNC_CMD_HSCH)

    def clear(self) -> int:
        """CLEAR SUBCHANNEL; as `halt`."""
        return self._command(abi.VFIO_CCW_ASYNC_CMD_CSCH)

    def _command(self, command: int) -> int:
        if self._async is None:
            return errno.ENOSYS
        return self._request(self._async, bytes(abi.CcwCmdRegion(command=command)))

    @staticmethod
    def _request(region: Region, image: bytes) -> int:
        code = 0
        for _ in range(_AGAIN):
            try:
                region.write(0, image)
            except PyvfioError as error:
                code = error.errno or errno.EIO
                if code != errno.EAGAIN:
                    return code
            else:
                return 0
        return code

    # what the host says

    def irb(self) -> Irb:
        """The interruption response that came last, with the guest's addresses.  Raise the class for the errno."""
        irb = Irb.from_bytes(self._io.read(_IRB_AT, abi.IRB_AREA_SIZE))
        self.tell("Q6", "the event came; the IRB is read from the I/O region", irb=irb)
        return irb

    def schib(self) -> Schib:
        """The host's SCHIB of now.

        Raise the class for the errno (ENODEV: the subchannel or its device is gone), or `NotAvailable` when this
        kernel's vfio-ccw does not tell it (before Linux 5.8).
        """
        if self._schib is None:
            raise NotAvailable("store subchannel", self.device.name, cause="this kernel's vfio-ccw has no SCHIB region")
        return Schib.from_bytes(self._schib.read(0, abi.SCHIB_AREA_SIZE))

    def crw(self) -> Crw | None:
        """The next channel report, None when there is no more.  Raise the class for the errno."""
        if self._crw is None:
            return None
        word = self._crw.read(0, self._crw.size)[:CRW_SIZE]
        return Crw.from_bytes(word) if any(word) else None

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
