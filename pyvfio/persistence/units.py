"""What calls `pyvfio apply` at the right time: a udev rule and systemd units.

=================================  ================================================================================
file                               does
=================================  ================================================================================
``60-pyvfio.rules``                a device with a persistent driver appears: load the driver's module, start
                                   ``pyvfio-apply@BUS-ADDRESS``; a parent of mediated devices is there: start
                                   ``pyvfio-mdevs@PARENT``
``pyvfio-apply@.service``          applies the definition of one device
``pyvfio-mdevs@.service``          makes the mediated devices of one parent whose start is ``auto``
``pyvfio-apply.service``           applies all, once, before ``basic.target``: for what came before the disks were there
=================================  ================================================================================

The order is that of driverctl and mdevctl (``05-driverctl.rules``, ``driverctl@.service``, ``60-mdevctl.rules``).  The
templates do not remain after they ran, so a device that comes again is applied again.  Source: udev(7),
systemd.unit(5), systemd.device(5) (``SYSTEMD_WANTS``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyvfio.binding.plan import Plan
from pyvfio.binding.steps_files import remove_file, write_file
from pyvfio.errors import Misuse
from pyvfio.persistence.image import require_inside

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["BOOT_UNIT", "PROGRAM", "plan_install", "plan_uninstall", "unit_files"]

PROGRAM = "/usr/bin/pyvfio"
"""Where the command is, unless told otherwise."""

BOOT_UNIT = "pyvfio-apply.service"
_UNITS = "/etc/systemd/system"
_RULES = "/etc/udev/rules.d/60-pyvfio.rules"
_OTHERS = {
    "driverctl": ("05-driverctl.rules",),
    "mdevctl": ("60-mdevctl.rules",),
}
_RULE_DIRECTORIES = ("/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
_PLAIN = re.compile(r"/[\w./+@:-]+\Z")

_RULE_TEXT = """\
# Written by pyvfio install-units: applies the settings in /etc/driverctl.d and /etc/mdevctl.d.

# A device with a persistent driver: load the module, then let the unit change the driver.
ACTION=="add", SUBSYSTEM=="?*", TEST=="/etc/driverctl.d/$env{SUBSYSTEM}-$kernel", \
PROGRAM="/bin/cat /etc/driverctl.d/$env{SUBSYSTEM}-$kernel", RUN{builtin}+="kmod load $result", \
TAG+="systemd", ENV{SYSTEMD_WANTS}+="pyvfio-apply@$env{SUBSYSTEM}-$kernel.service"

# A parent of mediated devices: the kernel says when it is ready; older kernels only say that the device is there.
ACTION=="change", ENV{MDEV_STATE}=="registered", TEST=="/etc/mdevctl.d/$kernel", \
RUN+="/bin/systemctl --no-block start pyvfio-mdevs@$kernel.service"
ACTION=="add", TEST=="/etc/mdevctl.d/$kernel", RUN+="/bin/systemctl --no-block start pyvfio-mdevs@$kernel.service"
"""

_EARLY = """\
DefaultDependencies=no
After=systemd-remount-fs.service
RequiresMountsFor=/var/lib/pyvfio
Before=basic.target shutdown.target
Conflicts=shutdown.target
"""

_DEVICE_TEXT = """\
# Written by pyvfio install-units.
[Unit]
Description=Apply the persistent driver of %i
Documentation=man:pyvfio-apply(1)
{early}ConditionPathExists=/etc/driverctl.d/%i

[Service]
Type=oneshot
ExecStart={program} apply --boot %i
TimeoutStartSec=300
"""

_PARENT_TEXT = """\
# Written by pyvfio install-units.
[Unit]
Description=Make the persistent mediated devices of %i
Documentation=man:pyvfio-apply(1)
{early}ConditionPathIsDirectory=/etc/mdevctl.d/%i

[Service]
Type=oneshot
ExecStart={program} apply --boot --parent %i
TimeoutStartSec=300
"""

_BOOT_TEXT = """\
# Written by pyvfio install-units.
[Unit]
Description=Apply persistent drivers and mediated devices
Documentation=man:pyvfio-apply(1)
{early}After=local-fs.target systemd-udev-trigger.service systemd-modules-load.service
ConditionDirectoryNotEmpty=|/etc/driverctl.d
ConditionDirectoryNotEmpty=|/etc/mdevctl.d

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} apply --boot
TimeoutStartSec=300

[Install]
WantedBy=basic.target
"""


def unit_files(program: str = PROGRAM) -> Mapping[str, str]:
    """The files by path.  Raise `Misuse` when `program` is no absolute path without blanks and quotes."""
    if _PLAIN.match(program) is None:
        raise Misuse(
            "write units",
            program,
            cause="a unit names its program by an absolute path, here of plain characters",
            next_step="make a link without blanks, such as /usr/local/bin/pyvfio, and give that",
        )
    texts = {"pyvfio-apply@.service": _DEVICE_TEXT, "pyvfio-mdevs@.service": _PARENT_TEXT, BOOT_UNIT: _BOOT_TEXT}
    units = {f"{_UNITS}/{name}": text.format(program=program, early=_EARLY) for name, text in texts.items()}
    return {_RULES: _RULE_TEXT, **units}


def plan_install(host: Host, root: str = "", program: str = PROGRAM) -> Plan:
    """Plan to write the rule and the units below `root`."""
    top = root.rstrip("/")
    written = [write_file(host.sysfs, f"{top}{path}", text) for path, text in unit_files(program).items()]
    steps = tuple(step for step in written if step is not None)
    require_inside(host.sysfs, top, steps)
    enable = f"systemctl {f'--root={top} ' if top else ''}enable {BOOT_UNIT}"
    notes = [f"then: {enable}" + ("" if top else "; systemctl daemon-reload; udevadm control --reload")]
    for name in _others(host, top):
        notes.append(f"{name} is installed too and applies the same files by its own rule: both do the same work")
    return Plan(f"install units{f' in {top}' if top else ''}", ("units",), steps, tuple(notes), sysfs=host.sysfs)


def plan_uninstall(host: Host, root: str = "") -> Plan:
    """Plan to remove what `plan_install` wrote."""
    top = root.rstrip("/")
    removed = [remove_file(host.sysfs, f"{top}{path}") for path in unit_files()]
    steps = tuple(step for step in removed if step is not None)
    require_inside(host.sysfs, top, steps)
    notes = (f"first: systemctl {f'--root={top} ' if top else ''}disable {BOOT_UNIT}",) if steps else ()
    return Plan(f"remove units{f' from {top}' if top else ''}", ("units",), steps, notes, sysfs=host.sysfs)


def _others(host: Host, top: str) -> list[str]:
    """The ecosystem's own tools that apply the same files."""
    return [
        name
        for name, rules in _OTHERS.items()
        if any(host.sysfs.exists(f"{top}{directory}/{rule}") for directory in _RULE_DIRECTORIES for rule in rules)
    ]
