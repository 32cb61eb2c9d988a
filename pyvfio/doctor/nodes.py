"""Nodes below ``/dev``: the ways in, and those of devices."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from pyvfio.doctor.remark import OK, PROBLEM, WARNING, Patient, Remark
from pyvfio.refusal import permission_of

__all__ = ["container", "devices", "iommufd"]

_ABSENT = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
_MOST = 8


def _owner(patient: Patient, path: str) -> str:
    status = patient.status(path)
    if status is None:
        return "?"
    return f"uid {status.st_uid} gid {status.st_gid} mode {stat.S_IMODE(status.st_mode):04o}"


def container(patient: Patient) -> Iterator[Remark]:
    """The group way in: ``/dev/vfio/vfio``."""
    path, check = "/dev/vfio/vfio", "VFIO container"
    number = patient.opens(path)
    if not number:
        yield Remark(check, OK, f"{path} opens ({_owner(patient, path)})")
    elif number in _ABSENT:
        if patient.exists("/dev/iommu"):
            yield Remark(check, WARNING, f"{path} is missing; devices are opened by their own nodes", "modprobe vfio")
        else:
            yield Remark(check, PROBLEM, f"{path} is missing", "modprobe vfio")
    elif number in (errno.EACCES, errno.EPERM):
        why = permission_of(patient.host.backend, path)
        yield Remark(check, PROBLEM, why.sentence, "as root: chmod 0666 /dev/vfio/vfio (it gives no device away)")
    else:
        yield Remark(check, PROBLEM, f"{path}: {errno.errorcode.get(number, number)}", "look at the kernel log (dmesg)")


def iommufd(patient: Patient) -> Iterator[Remark]:
    """The device way in: ``/dev/iommu``."""
    path, check = "/dev/iommu", "iommufd"
    number = patient.opens(path)
    if not number:
        yield Remark(check, OK, f"{path} opens ({_owner(patient, path)})")
    elif number in _ABSENT:
        detail = "not there; devices are opened by group"
        if patient.is_power:  # drivers/vfio/Kconfig: device nodes are not beside SPAPR_TCE_IOMMU
            yield Remark(check, OK, detail + ", as on every POWER machine")
            return
        yield Remark(check, WARNING, detail, "modprobe iommufd (kernel option CONFIG_IOMMUFD)")
    elif number in (errno.EACCES, errno.EPERM):
        why = permission_of(patient.host.backend, path)
        yield Remark(check, WARNING, why.sentence, "pyvfio grant DEV --user NAME --iommu, as root")
    else:
        detail = f"{path}: {errno.errorcode.get(number, number)}"
        yield Remark(check, WARNING, detail, "look at the kernel log (dmesg)")


def _device_nodes(patient: Patient) -> Iterator[tuple[str, str]]:
    """The nodes that sysfs promises, with their device numbers (``major:minor``)."""
    for name in patient.names("/sys/class/vfio"):
        number = patient.read(f"/sys/class/vfio/{name}/dev")
        if number is not None:
            yield f"/dev/vfio/{name}", number
    for name in patient.names("/sys/class/vfio-dev"):
        number = patient.read(f"/sys/class/vfio-dev/{name}/dev")
        if number is not None:
            yield f"/dev/vfio/devices/{name}", number


def devices(patient: Patient) -> Iterator[Remark]:
    """The nodes of groups and devices: there, with the right number, and not open to all."""
    missing, wrong, everybody, good = [], [], [], []
    for path, number in _device_nodes(patient):
        status = patient.status(path)
        if status is None:
            missing.append(path)
        elif f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" != number:
            wrong.append(f"{path} ({os.major(status.st_rdev)}:{os.minor(status.st_rdev)} instead of {number})")
        elif status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
            everybody.append(f"{path} ({_owner(patient, path)})")
        else:
            good.append(f"{path} ({_owner(patient, path)})")
    step = "look at udev; a container must be given the nodes that its host has now"
    if missing:
        yield Remark("VFIO nodes", PROBLEM, f"the kernel has made, and /dev has not: {_list(missing)}", step)
    if wrong:
        yield Remark("VFIO nodes", PROBLEM, f"wrong device number: {_list(wrong)}", step)
    if everybody:
        fix = "chmod 0660, and pyvfio grant DEV --user NAME for who needs it"
        yield Remark("VFIO nodes", WARNING, f"every user may take the device: {_list(everybody)}", fix)
    if good:
        yield Remark("VFIO nodes", OK, _list(good))


def _list(words: list[str]) -> str:
    return ", ".join(words[:_MOST]) + (f" and {len(words) - _MOST} more" if len(words) > _MOST else "")
