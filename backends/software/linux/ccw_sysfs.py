"""The files that every ccw device has, and what users reach by writing to them.

Source: ``drivers/s390/cio/device.c`` (online_store, available_show), ``cmf.c`` (cmb_enable_store).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux import ccw_measurement
from pyvfio_backends.software.linux.ccw_state import CcwState, Todo
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.ccw import CcwDevice

__all__ = ["FILES"]

_FORCE = b"force\n"
_LOST: Final = frozenset({CcwState.DISCONNECTED, CcwState.DISCONNECTED_SENSE_ID, CcwState.NOT_OPERATIONAL})


def _cutype(device: CcwDevice) -> str:
    return f"{device.identity.cu_type:04x}/{device.identity.cu_model:02x}\n"


def _devtype(device: CcwDevice) -> str:
    ident = device.identity
    return f"{ident.dev_type:04x}/{ident.dev_model:02x}\n" if ident.dev_type else "n/a\n"


def _modalias(device: CcwDevice) -> str:
    return f"{device.modalias}\n"


def _show_cmb_enable(device: CcwDevice) -> str:
    return f"{int(device.measurement is not None)}\n"


def _show_online(device: CcwDevice) -> str:
    return f"{int(device.online)}\n"


def _availability(device: CcwDevice) -> str:
    sch = device.subchannel
    if sch is None:
        return "no device\n"
    if device.state is CcwState.BOXED:
        return "boxed\n"
    if device.state in _LOST:
        return "no device\n" if sch.lpm else "no path\n"
    return "good\n"


def _store_cmb_enable(device: CcwDevice, data: bytes) -> None:
    value = kstrtoul(data, 16)
    if value > 1:
        raise fail(errno.EINVAL)
    device.ccw_bus.await_lock(device)
    if value:
        ccw_measurement.enable(device)
    else:
        ccw_measurement.disable(device)


def _store_online(device: CcwDevice, data: bytes) -> None:
    if (not device.state.final and device.state is not CcwState.DISCONNECTED) or device.busy:
        raise fail(errno.EAGAIN)
    # strncmp with the written length: each beginning of "force\n" means force.
    force = _FORCE.startswith(data)
    value = 1 if force else kstrtoul(data, 16)
    if value > 1:
        raise fail(errno.EINVAL)
    device.ccw_bus.await_lock(device)
    if value:
        _online_by_user(device, force)
    else:
        _offline_by_user(device)


def _offline_by_user(device: CcwDevice) -> None:
    if device.state is CcwState.DISCONNECTED:
        device.fsm.schedule(Todo.UNREGISTER_EVALUATE)
        return
    driver = device.ccw_driver
    if driver is None or not driver.switchable:
        raise fail(errno.EINVAL)
    device.set_offline()


def _online_by_user(device: CcwDevice, force: bool) -> None:
    """See ``online_store_handle_online``: force takes a boxed device from whoever has reserved it."""
    try:
        _recognise_and_set_online(device)
    except OSError:
        if not force:
            raise
    if force and device.state is CcwState.BOXED:
        code = device.fsm.steal_lock()
        if code:
            raise fail(code)
        if not device.identity.cu_type:
            device.state = CcwState.NOT_OPERATIONAL
        _recognise_and_set_online(device)


def _recognise_and_set_online(device: CcwDevice) -> None:
    if device.state is CcwState.BOXED:
        device.fsm.recognition.start()
        device.fsm.wait(lambda: device.fsm.recognition.over)
        if not device.is_offline:
            raise fail(errno.EAGAIN)
    driver = device.ccw_driver
    if driver is None or not driver.switchable:
        raise fail(errno.EINVAL)
    device.set_online()


FILES: Final[Mapping[str, tuple[Callable[[CcwDevice], str], Callable[[CcwDevice, bytes], None] | None]]] = {
    "availability": (_availability, None),
    "cmb_enable": (_show_cmb_enable, _store_cmb_enable),
    "cutype": (_cutype, None),
    "devtype": (_devtype, None),
    "modalias": (_modalias, None),
    "online": (_show_online, _store_online),
}
"""What every ccw device shows, and how it is written."""
