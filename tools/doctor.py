"""``pyvfio doctor``: is this host ready for VFIO?"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import click

from pyvfio.host import Host
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json

__all__ = ["CHECKS", "Finding", "doctor"]

OK, WARNING, PROBLEM = "OK", "warning", "problem"
_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
_SMALL_MEMLOCK = 64 << 20
_PROBLEM_EXIT = 13


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `next_step` is empty where nothing is to be done."""

    check: str
    status: str
    detail: str
    next_step: str = ""


def _exists(host: Host, path: str) -> bool:
    try:
        host.backend.stat(path)
    except OSError:
        return False
    return True


def _node(host: Host, path: str) -> str:
    """An empty string when the node opens, else why not."""
    try:
        host.backend.close(host.backend.open(path, os.O_RDWR))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    return ""


def _names(host: Host, path: str) -> list[str]:
    try:
        return sorted(host.backend.listdir(path))
    except OSError:
        return []


def groups(host: Host) -> Iterator[Finding]:
    """IOMMU groups are there, so an IOMMU is on."""
    count = len(_names(host, "/sys/kernel/iommu_groups"))
    if count:
        yield Finding("IOMMU", OK, f"{count} IOMMU groups")
    elif _names(host, "/sys/bus/pci/devices"):
        yield Finding(
            "IOMMU",
            PROBLEM,
            "PCI functions but no IOMMU groups: the IOMMU is off",
            "turn it on in the firmware and on the kernel command line (intel_iommu=on; AMD and s390x have it on); "
            "a virtual machine must be given a virtual IOMMU",
        )
    else:
        yield Finding("IOMMU", OK, "no PCI functions; mediated devices need no IOMMU")


def container(host: Host) -> Iterator[Finding]:
    """The group way in: ``/dev/vfio/vfio`` and a type 1 IOMMU driver."""
    why = _node(host, "/dev/vfio/vfio")
    if not why:
        yield Finding("VFIO container", OK, "/dev/vfio/vfio opens")
    elif why == "ENOENT":
        yield Finding("VFIO container", PROBLEM, "/dev/vfio/vfio is missing", "modprobe vfio")
    else:
        yield Finding("VFIO container", PROBLEM, f"/dev/vfio/vfio: {why}", "check the node's owner and mode")
    if _exists(host, "/sys/module/vfio_iommu_type1"):
        yield Finding("type 1 IOMMU driver", OK, "loaded")
    else:
        yield Finding("type 1 IOMMU driver", WARNING, "not loaded (or built in)", "modprobe vfio_iommu_type1")


def iommufd(host: Host) -> Iterator[Finding]:
    """The device way in: ``/dev/iommu``."""
    why = _node(host, "/dev/iommu")
    if not why:
        yield Finding("iommufd", OK, "/dev/iommu opens")
    else:
        text = "not there; devices are opened by group" if why == "ENOENT" else f"/dev/iommu: {why}"
        yield Finding("iommufd", WARNING, text, "modprobe iommufd (kernel option CONFIG_IOMMUFD)")


def drivers(host: Host) -> Iterator[Finding]:
    """The VFIO bus drivers for the buses that are there."""
    for bus, driver, module in (("pci", "vfio-pci", "vfio-pci"), ("css", "vfio_ccw", "vfio_ccw")):
        if not _exists(host, f"/sys/bus/{bus}"):
            continue
        if _exists(host, f"/sys/bus/{bus}/drivers/{driver}"):
            yield Finding(f"driver {driver}", OK, f"on bus {bus}")
        else:
            used = bool(_names(host, f"/sys/bus/{bus}/devices"))
            status = PROBLEM if used else WARNING
            yield Finding(f"driver {driver}", status, f"not on bus {bus}", f"modprobe {module}")


def memory(host: Host) -> Iterator[Finding]:
    """The limit of locked memory, which DMA mappings count against."""
    limit = host.memlock
    if limit < 0:
        yield Finding("locked memory", OK, "unlimited")
    elif limit < _SMALL_MEMLOCK:
        yield Finding(
            "locked memory",
            WARNING,
            f"{limit} bytes for a process without CAP_IPC_LOCK; a DMA mapping beyond it fails with ENOMEM",
            "ulimit -l, or LimitMEMLOCK= in the unit",
        )
    else:
        yield Finding("locked memory", OK, f"{limit} bytes")


def parameters(host: Host) -> Iterator[Finding]:
    """Parameters of the type 1 driver."""
    base = "/sys/module/vfio_iommu_type1/parameters"
    if not _exists(host, base):
        return
    limit = host.sysfs.attribute(f"{base}/dma_entry_limit")
    yield Finding("DMA mappings", OK, f"at most {limit} for a container (dma_entry_limit)")
    if host.sysfs.attribute(f"{base}/allow_unsafe_interrupts") == "Y":
        yield Finding(
            "unsafe interrupts",
            WARNING,
            "allowed: a device may raise any interrupt of the host",
            "echo N > " + f"{base}/allow_unsafe_interrupts, unless this host has no interrupt remapping",
        )


def zpci(host: Host) -> Iterator[Finding]:
    """Facts of PCI on IBM Z."""
    functions = [function for function in host.functions() if function.uid is not None]
    if not functions:
        return
    unique = all(function.attribute("uid_is_unique") == "1" for function in functions)
    if unique:
        yield Finding("UID checking", OK, "on: PCI domains are the UIDs and stay the same")
    else:
        yield Finding(
            "UID checking",
            WARNING,
            "off: PCI domains may change at the next boot",
            "name functions by fid, or turn UID checking on in the partition's profile",
        )
    mio = functions[0].attribute("mio_enabled") == "1"
    yield Finding("memory I/O (MIO)", OK, "on" if mio else "off: BARs are read and written, not mapped")


CHECKS: tuple[Callable[[Host], Iterator[Finding]], ...] = (
    groups,
    container,
    iommufd,
    drivers,
    memory,
    parameters,
    zpci,
)
"""The checks, in the order of the report."""


@click.command()
@host_options
def doctor(host: Host, as_json: bool) -> int:
    """Check whether this host is ready for VFIO; each line is OK, warning or problem, with the next step.

    Exit code 13 when there is a problem.

    \b
    Examples:
      pyvfio doctor
      pyvfio doctor --json
    """
    findings = [finding for check in CHECKS for finding in check(host)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            status = click.style(f"{finding.status:<8}", fg=_COLOURS[finding.status])
            click.echo(f"{status} {finding.check}: {finding.detail}")
            if finding.next_step:
                click.echo(f"         next: {finding.next_step}")
    return _PROBLEM_EXIT if any(finding.status == PROBLEM for finding in findings) else 0
