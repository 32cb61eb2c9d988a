"""Events of PCI functions as STORE EVENT INFORMATION tells them: notification type 2 (``chsc_process_sei_nt2``)."""

from __future__ import annotations

from pyvfio.css.sei import FunctionContent, Sei
from pyvfio.errors import Misuse
from pyvfio.zpci.event import EVENT_SIZE, AvailabilityEvent, ErrorEvent
from pyvfio.zpci.event_code import AvailabilityCode, ErrorCode
from pyvfio_backends.software.hardware.zpci.facility import ZpciEvent

__all__ = ["event_information", "told_event"]


def event_information(event: ZpciEvent) -> Sei:
    """An event, as the channel subsystem keeps it for the program."""
    if isinstance(event.code, AvailabilityCode):
        field = AvailabilityEvent(event.fh, event.fid, event.code).to_bytes()
        return Sei.of_function(FunctionContent.AVAILABILITY, field)
    error = ErrorEvent(
        event.fh, event.fid, vector=event.vector, write=int(event.write), address=event.address, pec=event.code
    )
    return Sei.of_function(FunctionContent.ERROR, error.to_bytes())


def told_event(sei: Sei) -> ZpciEvent | None:
    """What an event information is about; None for what is no event of a function, or none that has a name.

    An error of an unknown code is one from which recovery may help, as the kernel takes it (``__zpci_event_error``).
    """
    field = sei.function_event[:EVENT_SIZE]
    try:
        if sei.cc == FunctionContent.AVAILABILITY:
            found = AvailabilityEvent.from_bytes(field)
            known = found.pec in list(AvailabilityCode)
            return ZpciEvent(AvailabilityCode(found.pec), found.fid, found.fh) if known else None
        if sei.cc == FunctionContent.ERROR:
            error = ErrorEvent.from_bytes(field)
            code = ErrorCode(error.pec) if error.pec in list(ErrorCode) else ErrorCode.SERVICE_ERROR
            return ZpciEvent(code, error.fid, error.fh, error.address, error.vector, bool(error.write))
    except Misuse:  # it is too short
        pass
    return None
