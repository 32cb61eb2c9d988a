"""Events of PCI functions: the machine tells that some come, go or fail (``arch/s390/pci/pci_event.c``, 6.12).

They are taken one after the other, as the kernel's thread for machine checks does.  One that has to wait - for the user
of a device that is to go - keeps those after it waiting, whatever function they are about.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

from pyvfio.errors import NotModelled
from pyvfio.zpci.event_code import AvailabilityCode, ErrorCode
from pyvfio.zpci.handle import FH_ENABLED
from pyvfio_backends.software.hardware.zpci import FunctionState, Refused, ZpciFunction
from pyvfio_backends.software.linux.pci_device import ErrorState
from pyvfio_backends.software.linux.zpci import ZpciDev, ZpciState

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.zpci.facility import ZpciEvent
    from pyvfio_backends.software.linux.zpci_host import ZpciHost

__all__ = ["ZpciEvents"]

_MEASUREMENT: Final = (ErrorCode.MEASUREMENT_ADDRESS, ErrorCode.MEASUREMENT_UPDATE, ErrorCode.MEASUREMENT_PROTECTED)
_HOPELESS: Final = (ErrorCode.PERMANENT_ERROR, ErrorCode.RECOVERY_FAILED)


class ZpciEvents:
    """The events of the functions of `host`."""

    def __init__(self, host: ZpciHost) -> None:
        self._host = host
        self._queue: deque[ZpciEvent] = deque()
        self._works = False
        self._not_modelled: NotModelled | None = None

    def put(self, event: ZpciEvent) -> None:
        """Take an event, after those that wait.  What it makes wait goes on without the caller.

        Raise `NotModelled` when what it led to is not.
        """
        self._queue.append(event)
        if self._works:
            return
        self._works = True
        self._host.kernel.clock.run_apart(self._work, "zpci-events")
        error, self._not_modelled = self._not_modelled, None
        if error is not None:
            raise error

    def _work(self) -> None:
        try:
            while self._queue:
                event = self._queue.popleft()
                with contextlib.suppress(OSError):
                    self._take(event)
        except NotModelled as error:
            self._not_modelled = error
        finally:
            self._works = False

    def _take(self, event: ZpciEvent) -> None:
        kind = "avl" if isinstance(event.code, AvailabilityCode) else "err"
        self._host.notes.note(3, f"{kind} fid:{event.fid:x}, fh:{event.fh:x}, pec:{event.code:x}")
        zdev = self._host.zdevs.get(event.fid)
        take = self._availability if isinstance(event.code, AvailabilityCode) else self._error
        if zdev is None:
            take(event, None)
            return
        with zdev.held(), zdev.state_lock():
            function = self._function(event.fid)
            if function is not None:
                zdev.function = function  # its handle is the new one
            take(event, zdev)

    def _function(self, fid: int) -> ZpciFunction | None:
        """The function that the machine lists (``clp_find_pci``)."""
        function = self._host.facility.functions.get(fid)
        return None if function is None or function.state is FunctionState.RESERVED else function

    # availability

    def _availability(self, event: ZpciEvent, zdev: ZpciDev | None) -> None:
        match event.code:
            case AvailabilityCode.CONFIGURED:
                self._configured(event, zdev)
            case AvailabilityCode.STANDBY if zdev is None:
                self._create(event.fid, ZpciState.STANDBY, event.fh)
            case AvailabilityCode.STANDBY if zdev is not None and zdev.state is ZpciState.RESERVED:
                zdev.state = ZpciState.STANDBY  # zpci_event_reappear
            case AvailabilityCode.DECONFIGURE_REQUESTED if zdev is not None:
                zdev.deconfigure()
            case AvailabilityCode.DECONFIGURED if zdev is not None:
                self._deconfigured(zdev)
            case AvailabilityCode.SEVERAL_CHANGED:
                self._look_around()
            case AvailabilityCode.RESERVED if zdev is not None:
                zdev.reserved()

    def _configured(self, event: ZpciEvent, zdev: ZpciDev | None) -> None:
        if zdev is None:
            zdev = self._create(event.fid, ZpciState.CONFIGURED, event.fh)
        elif zdev.state is ZpciState.CONFIGURED:
            return  # the event is late
        if zdev is not None:
            zdev.state = ZpciState.CONFIGURED
            zdev.scan_configured()

    def _create(self, fid: int, state: ZpciState, fh: int) -> ZpciDev | None:
        """Get to know a function; None when it is gone already, or its handle is another one by now."""
        function = self._function(fid)
        if function is None or function.fh != fh:
            return None
        zdev = ZpciDev(self._host, function, state)
        zdev.add(quiet=False)  # what fails here ends the event
        return zdev

    def _deconfigured(self, zdev: ZpciDev) -> None:
        if zdev.state is ZpciState.CONFIGURED:
            if zdev.pdev is not None:
                zdev.pdev.error_state = ErrorState.LOST
                zdev.bus.remove_device_locked(zdev.pdev)
            if zdev.function.fh & FH_ENABLED:
                with contextlib.suppress(Refused):
                    zdev.disable_function()
            zdev.state = ZpciState.STANDBY
        if self._function(zdev.fid) is None:
            zdev.reserved()

    def _look_around(self) -> None:
        """Forget those that are gone, and find new ones (``zpci_remove_reserved_devices``, ``zpci_scan_devices``)."""
        host = self._host
        for zdev in tuple(host.zdevs.values()):
            if zdev.state is ZpciState.STANDBY and self._function(zdev.fid) is None:
                zdev.reserved()
        host.find_functions(quiet=False)

    # errors

    def _error(self, event: ZpciEvent, zdev: ZpciDev | None) -> None:
        if zdev is None or zdev.pdev is None or event.code in _MEASUREMENT:
            return
        function = self._function(event.fid)
        if function is None or function.fh != event.fh:
            return  # the handle is stale
        device = zdev.pdev
        from pyvfio_backends.software.linux.zpci_recovery import attempt_recovery, report_loss  # few functions fail

        if event.code in _HOPELESS or not attempt_recovery(device):
            report_loss(device)
