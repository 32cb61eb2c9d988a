"""In-use probes: reasons why a device should not be taken away now, one module per reason, each with evidence.

`look` asks all probes that apply to a device.  It starts at the device and descends: what it costs does not depend on
how many other devices the host has.  What could not be seen (no permission, no such file) is never taken for "free";
it is listed in `Outlook.blind`.

``docs/probes.md`` says what each probe looks at, what counts as evidence and what it does not see.
"""

from __future__ import annotations

from collections.abc import Collection

from pyvfio.binding.findings import Evidence, Finding
from pyvfio.binding.probes.probe import Outlook, Probe
from pyvfio.binding.probes.subject import Subject, failure
from pyvfio.binding.probes.surroundings import Surroundings
from pyvfio.errors import Misuse, PyvfioError
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["PROBES", "Outlook", "Probe", "Surroundings", "look"]

_BLOCK = frozenset({"block"})
_NET = frozenset({"net"})
_CHANNEL = frozenset({"css", "ccw"})
_TERMINALS = frozenset({"tty", "virtio", "ccw"})

PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (
        Probe(
            "session",
            "your own remote session or terminal goes through it",
            "log in another way, such as by a console",
            _NET | _TERMINALS,
        ),
        Probe(
            "boot",
            "the system was started from it, or its root or boot file system is on it",
            "nothing ends that while this system runs",
        ),
        Probe(
            "mounted",
            "a file system on it is mounted",
            "umount what the evidence names",
            _BLOCK | frozenset({"virtio"}),
        ),
        Probe(
            "swap",
            "the system swaps to it",
            "swapoff what the evidence names",
            _BLOCK,
        ),
        Probe(
            "holders",
            "a part of the kernel (LVM, md, ZFS, multipath, ...) uses a disk of it",
            "vgchange -an, mdadm --stop, zpool export, losetup -d, as the evidence says",
            _BLOCK,
        ),
        Probe(
            "network",
            "an interface of it has addresses or routes",
            "take its addresses and routes away (ip address, ip route), and from the network configuration",
            _NET,
        ),
        Probe(
            "bond",
            "an interface of it is a member of a bond, bridge or team, or carries a VLAN",
            "take it out of what stands on it (ip link set IFACE nomaster, ip link delete)",
            _NET,
        ),
        Probe(
            "console",
            "the kernel's console is on it",
            "nothing ends that while this system runs; console= on the kernel command line chooses another",
        ),
        Probe(
            "keyboard",
            "a keyboard of the console is attached to it",
            "attach another keyboard, or log in another way",
            frozenset({"input"}),
        ),
        Probe(
            "vfio",
            "a program has it, or a device of its IOMMU group, open through VFIO",
            "end the program that is named",
        ),
        Probe(
            "mdev",
            "mediated devices are made from it",
            "pyvfio mdev remove",
        ),
        Probe(
            "sriov",
            "its SR-IOV virtual functions are enabled",
            "pyvfio sriov DEV 0",
            frozenset({"pci"}),
        ),
        Probe(
            "online",
            "the channel device is online, or grouped for the network",
            "chccwdev -d; pyvfio ccw take does it by itself",
            _CHANNEL,
        ),
        Probe(
            "open",
            "a program has a node of it open",
            "end the program that is named",
        ),
        Probe(
            "signature",
            "a disk of it has a partition table or a file system, which may be a leftover",
            "wipefs -a, when nobody wants the content any more",
            _BLOCK,
        ),
    )
}
"""The probes by name, in the order in which findings are shown; ``--force`` takes these names."""


def look(
    device: SysfsDevice, surroundings: Surroundings | None = None, *, probes: Collection[str] | None = None
) -> Outlook:
    """Ask the probes that apply to `device` (all, or those called `probes`) and return what they found.

    `surroundings` keeps what is known of the whole host; share one among the devices of a plan.  Nothing is changed.
    A probe that fails to look is named in `Outlook.blind`.  Raise `NoSuchDevice` when the device is not there and
    `Misuse` for a probe that there is not.
    """
    for name in probes or ():
        if name not in PROBES:
            raise Misuse("look at device", device.name, cause=f"no probe {name!r}; there is {', '.join(PROBES)}")
    subject = Subject(device, surroundings or Surroundings(device.sysfs))
    findings: list[Finding] = []
    for probe in PROBES.values():
        if (probes is not None and probe.name not in probes) or not probe.applies(subject.kinds):
            continue
        module = probe.load()
        seen: dict[Evidence, None] = {}  # in order, each once
        subject.probe = probe.name
        try:
            for evidence in module.look(subject):
                seen[evidence] = None
        except (PyvfioError, OSError) as error:
            subject.blind(failure(error))
        if seen:
            findings.append(Finding(probe.name, device.name, module.SUMMARY, tuple(seen)))
    return Outlook(tuple(findings), tuple(subject.blind_spots))
