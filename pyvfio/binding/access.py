"""Give the VFIO nodes of a device to a user or a group, now and for good.

A node that is made anew (at boot, or when the device is bound again) belongs to root; a udev rule gives it away each
time.  The rule goes by the device, never by the number of its group, which is another one after the next boot::

    SUBSYSTEM=="vfio", TEST=="/sys/kernel/iommu_groups/%k/devices/0000:3b:00.0", OWNER="alice", MODE="0660"
    SUBSYSTEM=="vfio-dev", KERNELS=="0000:3b:00.0", OWNER="alice", MODE="0660"

Sources: ``udev(7)``; `pyvfio` itself never becomes root.
"""

from __future__ import annotations

import grp
import pwd
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pyvfio.binding.facts import facts
from pyvfio.binding.plan import Plan
from pyvfio.binding.running import run
from pyvfio.binding.step import Progress, Step
from pyvfio.binding.steps_access import set_owner
from pyvfio.binding.steps_files import write_file
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.host import Host
from pyvfio.sysfs_device import SysfsDevice
from pyvfio.vfio.opening import vfio_target

__all__ = ["Grantee", "grant", "grantee", "limits_line", "nodes_of", "plan_grant", "rule_path", "udev_rule"]

_CONTAINER, _IOMMU = "/dev/vfio/vfio", "/dev/iommu"
_EVERYBODY = stat.S_IROTH | stat.S_IWOTH
_MOST_MODE = 0o777
_ID_LIMIT = 1 << 32


@dataclass(frozen=True, slots=True)
class Grantee:
    """Who gets a node: the `user` and the `group` as they were named, and their numbers (None: not named)."""

    user: str | None
    uid: int | None
    group: str | None
    gid: int | None

    def __str__(self) -> str:
        words = [f"user {self.user}"] if self.user is not None else []
        return " and ".join([*words, *([f"group {self.group}"] if self.group is not None else [])])


def _number(kind: str, name: str, look: Callable[[str], int]) -> int:
    if name.isdecimal() and int(name) < _ID_LIMIT - 1:
        return int(name)
    try:
        return look(name)
    except (KeyError, ValueError):
        raise Misuse(
            f"find {kind}",
            name,
            cause=f"this computer has no {kind} {name!r}",
            next_step=f"getent {'passwd' if kind == 'user' else 'group'} lists them; a number is taken as it is",
        ) from None


def grantee(user: str | None, group: str | None) -> Grantee:
    """Find a user and a group by name or number, in the databases of this computer.  Raise `Misuse`."""
    if user is None and group is None:
        raise Misuse("grant access", cause="neither a user nor a group was named", next_step="--user or --group")
    uid = None if user is None else _number("user", user, lambda name: pwd.getpwnam(name).pw_uid)
    gid = None if group is None else _number("group", group, lambda name: grp.getgrnam(name).gr_gid)
    return Grantee(user, uid, group, gid)


def nodes_of(device: SysfsDevice) -> list[str]:
    """The VFIO nodes of a device that are there: its group's and its own."""
    found = []
    group = device.group
    if group is not None and device.sysfs.exists(group.node):
        found.append(group.node)
    name = device.vfio_name
    if name is not None and device.sysfs.exists(f"/dev/vfio/devices/{name}"):
        found.append(f"/dev/vfio/devices/{name}")
    return found


def udev_rule(device: SysfsDevice, to: Grantee, mode: int, *, iommu: bool = False) -> str:
    """The text of a udev rule that gives the nodes of a device away whenever they appear."""
    words = [f'OWNER="{to.user}"'] if to.user is not None else []
    words += [f'GROUP="{to.group}"'] if to.group is not None else []
    given = ", ".join([*words, f'MODE="{mode:04o}"'])
    lines = [
        f"# Written by pyvfio grant: {to} may use {device.name}.",
        f'SUBSYSTEM=="vfio", TEST=="/sys/kernel/iommu_groups/%k/devices/{device.name}", {given}',
        f'SUBSYSTEM=="vfio-dev", KERNELS=="{device.name}", {given}',
    ]
    if iommu:
        lines.append(f'SUBSYSTEM=="misc", KERNEL=="iommu", {given}')
    return "\n".join(lines) + "\n"


def rule_path(device: SysfsDevice, root: str = "") -> str:
    """Where the rule of a device belongs, below `root`."""
    return f"{root.rstrip('/')}/etc/udev/rules.d/72-pyvfio-{device.name}.rules"


def limits_line(to: Grantee) -> str:
    """The line for ``/etc/security/limits.d`` that lets whoever it is lock memory for DMA (``limits.conf(5)``)."""
    name = to.user if to.user is not None else to.group or ""
    who = f":{name}" if name.isdecimal() else name  # a number alone would be taken for a name
    return f"{'@' if to.user is None else ''}{who} - memlock unlimited"


def plan_grant(
    host: Host,
    device: str | SysfsDevice,
    to: Grantee,
    *,
    mode: int = 0o660,
    iommu: bool = False,
    install: bool = False,
    root: str = "",
) -> Plan:
    """Plan to give the nodes of a device to `to`, with `mode`.

    With `iommu` also ``/dev/iommu``, without which the device's own node is of no use; with `install` a udev rule
    below `root` makes it last.  With another `root` only the rule is written: it is not this system that is meant.
    Raise `NoSuchDevice`, `NotAvailable` (no VFIO driver has the device), `Misuse` for a mode that is none.
    """
    target = vfio_target(host.device(device) if isinstance(device, str) else device)
    if not 0 <= mode <= _MOST_MODE:
        raise Misuse("grant access", target.name, cause=f"a mode is 0 to {_MOST_MODE:04o}, not {mode:04o}")
    if root and not install:
        raise Misuse("grant access", target.name, cause="another root is only for a rule that is installed")
    sysfs = host.sysfs
    nodes = nodes_of(target)
    if not nodes and not install:
        raise NotAvailable(
            "grant access",
            target.name,
            cause=f"no VFIO driver has it (driver: {target.driver or 'none'}), so it has no node",
            next_step=f"pyvfio bind {target}; or --install, for when it has one",
        )
    steps: list[Step] = []
    if not root:
        for node in [*nodes, *([_IOMMU] if iommu else [])]:
            step = set_owner(sysfs, node, uid=to.uid, gid=to.gid, mode=mode)
            steps += [] if step is None else [step]
    if install:
        written = write_file(
            sysfs, rule_path(target, root), udev_rule(target, to, mode, iommu=iommu), what="a rule of udev"
        )
        steps += [] if written is None else [written]
    return Plan(
        f"let {to} use {target.name}",
        (target.name,),
        tuple(steps),
        tuple(_notes(host, target, to, iommu=iommu, install=install)),
        (),
        tuple((f"{target.name}: node", node) for node in nodes),
        sysfs,
    )


def _notes(host: Host, device: SysfsDevice, to: Grantee, *, iommu: bool, install: bool) -> Iterable[str]:
    others = [member.name for member in facts(device).members if member.name != device.name]
    if others:
        yield f"the node is that of the whole IOMMU group: {', '.join(others)} go with it"
    if not install:
        yield "the next boot or bind makes the nodes anew, for root: --install writes a udev rule that makes it last"
    if not iommu and host.sysfs.exists(_IOMMU) and not _open_to_all(host, _IOMMU):
        yield f"the device's own node needs {_IOMMU} too, which is not given away: --iommu"
    if host.sysfs.exists(_CONTAINER) and not _open_to_all(host, _CONTAINER):
        yield f"the group needs {_CONTAINER} too, which only its owner may open (mode 0666 is usual)"
    line = limits_line(to)
    yield f"DMA locks memory: a login may need {line!r} in a file of /etc/security/limits.d (pyvfio doctor --need SIZE)"


def _open_to_all(host: Host, path: str) -> bool:
    try:
        return host.backend.stat(path).st_mode & _EVERYBODY == _EVERYBODY
    except OSError:
        return True  # nothing is said of what was not seen


def grant(
    host: Host,
    device: str | SysfsDevice,
    to: Grantee,
    *,
    mode: int = 0o660,
    iommu: bool = False,
    install: bool = False,
    root: str = "",
    progress: Progress | None = None,
) -> Plan:
    """Give the nodes of a device away.  Raise what `plan_grant` and `run` raise."""
    return run(plan_grant(host, device, to, mode=mode, iommu=iommu, install=install, root=root), progress)
