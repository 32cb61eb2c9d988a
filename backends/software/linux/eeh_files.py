"""Files of EEH: in sysfs of each function, in ``/proc/powerpc`` and in debugfs (``eeh_sysfs.c``, ``eeh.c``, 6.12).

::

    eeh_mode, eeh_pe_config_addr     numbers (`EehDevMode`, the endpoint's)
    eeh_pe_state                     what firmware says (`EehPlatformState`), and Linux (`EehPeFlag`); written: thaw it
    /proc/powerpc/eeh                counters
    debugfs powerpc/eeh_*            switches, and errors on purpose
            powerpc/PCIxxxx/err_injct, err_injct_{outbound,inboundA,inboundB}: injection
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvfio.abi.eeh_state import EehDevMode, EehPeFlag
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.ioda.error_units import ErrorUnit
from pyvfio_backends.software.linux.debugfs import DebugFile
from pyvfio_backends.software.linux.kernel_log import ERROR, INFO, say
from pyvfio_backends.software.linux.kstrtox import kstrtobool, kstrtoul
from pyvfio_backends.software.linux.pci_driver import PciDriver
from pyvfio_backends.software.linux.procfs import ProcFile
from pyvfio_backends.software.linux.resource import ResourceFlag
from pyvfio_backends.software.linux.vfs import Attribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.phb import Phb
    from pyvfio_backends.software.linux.eeh import Eeh
    from pyvfio_backends.software.linux.eeh_pe import EehHost
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["debug_files", "device_files", "host_debug_files", "proc_file"]

_UNITS: Final = {
    ErrorUnit.INBOUND_A: "err_injct_inboundA",
    ErrorUnit.INBOUND_B: "err_injct_inboundB",
    ErrorUnit.OUTBOUND: "err_injct_outbound",
}
_USAGE = "input format: <domain>:<bus>:<dev>.<fn>\n"
_SPACE: Final = r"[ \t\n\v\f\r]*"
_HEX: Final = rf"{_SPACE}(0[xX][0-9a-fA-F]*|[0-9a-fA-F]+)"
_ADDRESS: Final = (_HEX, ":" + _HEX, ":" + _HEX, r"\." + _HEX)
_PE: Final = (_HEX, ":" + _HEX)
_INJECTION: Final = (_HEX, *(4 * (":" + _HEX,)))
_ADDRESS_BUFFER, _PE_BUFFER, _INJECTION_BUFFER = 19, 20, 50
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1
_ROM = 6


def _scan(data: bytes, parts: tuple[str, ...]) -> list[int]:
    """What the kernel's ``sscanf`` finds of ``%x`` with these between, up to the first that is not there.

    A number has no sign, and ``0x`` alone is 0 (a real kernel of POWER says so in ``eeh_dev_check``).
    """
    text, at, found = data.split(b"\0")[0].decode("latin-1"), 0, []
    for part in parts:
        match = re.compile(part).match(text, at)
        if match is None:
            break
        found.append(int("0" + match[1].lower().removeprefix("0x"), 16))
        at = match.end()
    return found


# sysfs


def device_files(eeh: Eeh, pdev: PciDevice) -> Mapping[str, Node]:
    """Those of a function that is under EEH."""
    dev = eeh.by_device.get(pdev)
    if dev is None or not dev.mode & EehDevMode.SYSFS:
        return {}

    def state() -> str:
        if dev.pe is None:
            raise fail(errno.ENODEV)
        return f"{eeh.platform.state(dev.pe):#010x} {dev.pe.flags:#010x}\n"

    def thaw(data: bytes) -> None:
        if dev.pe is None:
            raise fail(errno.ENODEV)
        if not dev.pe.flags & EehPeFlag.ISOLATED:
            return
        if eeh.unfreeze(dev.pe):
            raise fail(errno.EIO)
        dev.pe.clear(EehPeFlag.ISOLATED, passed=True)

    return {
        "eeh_mode": Attribute(lambda: f"{dev.mode:#x}\n"),
        "eeh_pe_config_addr": Attribute(lambda: f"{dev.address:#x}\n"),
        "eeh_pe_state": Attribute(state, thaw),
    }


# /proc


def proc_file(eeh: Eeh) -> Node:
    """``/proc/powerpc/eeh`` (``proc_eeh_show``)."""

    def show() -> str:
        stats = eeh.stats
        if not eeh.enabled:
            return f"EEH Subsystem is globally disabled\neeh_total_mmio_ffs={stats.total_mmio_ffs}\n"
        return (
            "EEH Subsystem is enabled\n"
            f"no device={stats.no_device}\n"
            f"no device node={stats.no_dn}\n"
            f"no config address={stats.no_cfg_addr}\n"
            f"check not wanted={stats.ignored_check}\n"
            f"eeh_total_mmio_ffs={stats.total_mmio_ffs}\n"
            f"eeh_false_positives={stats.false_positives}\n"
            f"eeh_slot_resets={stats.slot_resets}\n"
        )

    return ProcFile(show)


# debugfs


def _pdev(eeh: Eeh, data: bytes) -> PciDevice:
    """The device that is written into a file (``eeh_debug_lookup_pdev``).  Raise OSError EFAULT, EINVAL, ENODEV."""
    if not data:
        raise fail(errno.EFAULT)
    found = _scan(data[:_ADDRESS_BUFFER], _ADDRESS)
    if len(found) != len(_ADDRESS):
        eeh.kernel_line(ERROR, f"eeh_debug_lookup_pdev: expected 4 args, got {len(found)}")
        raise fail(errno.EINVAL)
    domain, bus, device, function = (value & _U32 for value in found)
    devfn = (device << 3 | function) & _U32
    pdev = eeh.lookup(f"{domain:04x}:{bus:02x}:{devfn >> 3:02x}.{devfn & 7:x}")
    if pdev is None:
        raise fail(errno.ENODEV)
    return pdev


def _check(eeh: Eeh, data: bytes) -> None:
    pdev = _pdev(eeh, data)
    dev = eeh.by_device.get(pdev)
    if dev is None:
        say(pdev, ERROR, "No eeh_dev for this device!")
        raise fail(errno.ENODEV)
    say(pdev, INFO, f"eeh_dev_check_failure({pdev.name}) = {int(eeh.check_failure(dev))}")


def _break(eeh: Eeh, data: bytes) -> None:
    pdev = _pdev(eeh, data)
    if not eeh.hosts:
        raise NotModelled("machine checks: a load of what decodes nothing freezes no endpoint of a guest")
    eeh.break_device(pdev)


def _can_recover(eeh: Eeh, data: bytes) -> None:
    driver = _pdev(eeh, data).driver
    if not isinstance(driver, PciDriver) or not driver.detects_errors or not driver.resets_slots:
        raise fail(errno.EOPNOTSUPP)


def _force(eeh: Eeh, data: bytes) -> None:
    """``eeh_force_recover_write``."""
    if not data:
        raise fail(errno.EFAULT)
    if data.startswith(b"hwcheck"):
        if not eeh.hosts:
            raise NotModelled("a guest's kernel that looks for errors: it has nobody to ask, and crashes")
        eeh.recovery.send_anyway(None)
        return
    found = _scan(data[:_PE_BUFFER], _PE)
    if len(found) != len(_PE):
        raise fail(errno.EINVAL)
    domain, number = (value & _U32 for value in found)
    host = next((one for one in eeh.hosts if one.number == domain), None)
    pe = host.get(number) if host is not None else None
    if pe is None:
        raise fail(errno.ENODEV)
    eeh.recovery.send_anyway(pe)


def _refuse() -> str:
    raise fail(errno.EINVAL)


def _addresses(eeh: Eeh) -> str:
    """``eeh_address_cache``: where the functions under EEH are (``eeh_cache.c``)."""
    ranges = sorted(
        (resource.start, resource.end, "i/o" if resource.flags & ResourceFlag.IO else "mem", pdev.name)
        for pdev in eeh.by_device
        for resource in pdev.resources[: _ROM + 1]
        if resource.flags & (ResourceFlag.IO | ResourceFlag.MEM) and resource.start and resource.end
    )
    return "".join(f"{kind} addr range [{first:#018x}-{last:#018x}]: {name}\n" for first, last, kind, name in ranges)


def _set(eeh: Eeh, name: str, value: object) -> None:
    setattr(eeh, name, value)


def debug_files(eeh: Eeh) -> dict[str, Callable[[], Node]]:
    """Those of debugfs' directory ``powerpc``."""

    def tool(work: Callable[[Eeh, bytes], None]) -> Callable[[], Node]:
        return lambda: DebugFile(lambda: _USAGE, partial(work, eeh), 0o600)

    return {
        "eeh_address_cache": lambda: DebugFile(lambda: _addresses(eeh), None, 0o400),
        "eeh_dev_break": tool(_break),
        "eeh_dev_can_recover": tool(_can_recover),
        "eeh_dev_check": tool(_check),
        "eeh_disable_recovery": lambda: DebugFile(
            lambda: "Y\n" if eeh.no_recover else "N\n",
            lambda data: _set(eeh, "no_recover", kstrtobool(data)),
            0o600,
        ),
        "eeh_enable": lambda: DebugFile(
            lambda: f"{int(eeh.enabled):#x}\n",
            lambda data: _set(eeh, "disabled", not kstrtoul(data, 0)),
            0o600,
        ),
        "eeh_force_recover": lambda: DebugFile(_refuse, partial(_force, eeh), 0o600),
        "eeh_max_freezes": lambda: DebugFile(
            lambda: f"{eeh.max_freezes}\n",
            lambda data: _set(eeh, "max_freezes", kstrtoul(data, 0) & _U32),
            0o600,
        ),
    }


def _inject(eeh: Eeh, host: EehHost, data: bytes) -> None:
    """``pnv_eeh_ei_write``: ``endpoint:type:function:address:mask``, all hexadecimal."""
    if not data:
        raise fail(errno.EFAULT)
    found = _scan(data[:_INJECTION_BUFFER], _INJECTION)
    if len(found) != len(_INJECTION):
        raise fail(errno.EINVAL)
    number, type_, function, address, mask = found
    pe = host.get(number & _U32)
    if pe is None:
        raise fail(errno.ENODEV)
    code = eeh.platform.inject(pe, type_ & _U32, function & _U32, address & _U64, mask & _U64)
    if code:
        raise fail(-code)


def host_debug_files(eeh: Eeh, host: EehHost) -> dict[str, Callable[[], Node]]:
    """Those of debugfs' directory of a host bridge, ``powerpc/PCIxxxx``."""

    found: dict[str, Callable[[], Node]] = {"err_injct": lambda: DebugFile(_refuse, partial(_inject, eeh, host), 0o200)}
    phb = eeh.platform.opal.phbs[host.opal_id]
    for unit, name in _UNITS.items():
        found[name] = partial(DebugFile, partial(_register, phb, unit), partial(_set_register, phb, unit), 0o600)
    return found


def _register(phb: Phb, unit: ErrorUnit) -> str:
    """``pnv_eeh_dbgfs_get``."""
    return f"{phb.unit_register(unit):#x}\n"


def _set_register(phb: Phb, unit: ErrorUnit, data: bytes) -> None:
    """``pnv_eeh_dbgfs_set``."""
    phb.inject_into(unit, kstrtoul(data, 0))
