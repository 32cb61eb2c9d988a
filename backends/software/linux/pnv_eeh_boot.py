"""EEH at boot of bare-metal POWER: its host bridges, its functions, its files, and who asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.debugfs import DebugDirectory
from pyvfio_backends.software.linux.eeh import EEH, Eeh
from pyvfio_backends.software.linux.eeh_files import debug_files, host_debug_files, proc_file
from pyvfio_backends.software.linux.eeh_pe import EehHost
from pyvfio_backends.software.linux.eeh_recovery import EehRecovery
from pyvfio_backends.software.linux.eeh_reset import EehReset
from pyvfio_backends.software.linux.nodes import Node, StaticDirectory
from pyvfio_backends.software.linux.pnv_debug import bridge_debug_files
from pyvfio_backends.software.linux.pnv_eeh import PnvEeh
from pyvfio_backends.software.linux.vfio_state import vfio_core

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.opal import Opal
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pnv_host import PnvHostBridge

__all__ = ["start_eeh"]


def start_eeh(kernel: Kernel, opal: Opal, bridges: Sequence[PnvHostBridge]) -> Eeh:
    """Have EEH for these host bridges, before functions get their endpoints (``eeh_powernv_init``)."""
    eeh = Eeh(kernel)
    eeh.platform, eeh.recovery, eeh.resets = PnvEeh(eeh, opal), EehRecovery(eeh), EehReset(eeh)
    kernel.subsystems[EEH] = eeh
    vfio_core(kernel).eeh = eeh
    for bridge in bridges:
        host = EehHost(bridge.domain, bridge.opal_id, bridge.root, bridge.endpoints)
        eeh.hosts.append(host)
        bridge.eeh = eeh
        bridge.phb.on_error = eeh.recovery.interrupt
    kernel.proc.add("powerpc", StaticDirectory({"eeh": proc_file(eeh)}))
    files = debug_files(eeh)
    for host, bridge in zip(eeh.hosts, bridges, strict=True):
        inside = {**bridge_debug_files(bridge), **host_debug_files(eeh, host)}
        files[f"PCI{host.number:04x}"] = partial(_directory, inside)
    kernel.debug["powerpc"] = lambda: DebugDirectory(lambda: files)
    return eeh


def _directory(files: dict[str, Callable[[], Node]]) -> DebugDirectory:
    return DebugDirectory(lambda: files)
