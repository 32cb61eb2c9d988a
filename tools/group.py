"""``pyvfio group``: who is in an IOMMU group, who blocks it, and why they are together."""

from __future__ import annotations

import re

import click

from pyvfio import causes
from pyvfio.devices import ChannelDevice, Subchannel
from pyvfio.errors import NotAvailable
from pyvfio.groups import IommuGroup, Member
from pyvfio.host import Host
from pyvfio.pci.classes import class_name
from pyvfio.pci.fabric import Link
from pyvfio.pci.grouping import Account, explain
from pyvfio.selection import Selection, select
from pyvfio.sysfs_device import SysfsDevice
from pyvfio_tools.options import bus_option, device_argument, host_options
from pyvfio_tools.output import print_json, print_pairs

__all__ = ["group"]

_NUMBER = re.compile(r"(?:0|[1-9]\d*)\Z")
_OVERRIDE = (
    "an ACS override would make the kernel believe in an isolation that the hardware does not promise: whoever is "
    "given one of these devices could then reach the others, and what they reach, by DMA that no IOMMU sees"
)


@click.command()
@device_argument("names", metavar="DEV|GROUP...", nargs=-1, required=True)
@bus_option
@click.option("--acs-override", is_flag=True, help="Say what splitting the group by an ACS override would give up.")
@host_options
def group(host: Host, as_json: bool, names: tuple[str, ...], bus: str | None, acs_override: bool) -> None:
    """Explain an IOMMU group: its members and who blocks it, and which bridge or which missing ACS bits join them.

    DEV is a device in any spelling, GROUP the number of a group (a decimal number without leading zeros, so a channel
    device is written in full: 0.0.1234). The group is the unit that VFIO gives away: every member must be free or have
    a VFIO driver. An ordinary user cannot read the ACS bits; what is unknown is then said to be unknown.

    \b
    Examples:
      pyvfio group 3b:00.0
      pyvfio group 5 6 --json
      pyvfio group 0011:00:00.0 --machine z15-lpar
    """
    documents: list[dict[str, object]] = []
    for number, (found, origin) in enumerate(_groups(host, names, bus)):
        account = explain(found, origin)
        if as_json:
            documents.append(_document(found, account, acs_override))
        else:
            if number:
                click.echo()
            _print(found, account, acs_override)
    if as_json:
        print_json(documents)


def _groups(host: Host, names: tuple[str, ...], bus: str | None) -> list[tuple[IommuGroup, str | None]]:
    """The groups that are named, each once, with the first device through which each was named."""
    found: dict[IommuGroup, str | None] = {}
    for name in names:
        if bus is None and _NUMBER.match(name):
            found.setdefault(host.group(int(name)))
            continue
        for device in select(host, Selection((name,), bus)):
            group, member = _group_of(device)
            if group is None:
                raise _no_group(host, device)
            if found.get(group) is None:
                found[group] = member
    return list(found.items())


def _group_of(device: SysfsDevice) -> tuple[IommuGroup | None, str]:
    """The group of a device and who it is there: at a subchannel, its mediated device."""
    place = device.subchannel if isinstance(device, ChannelDevice) else device
    if isinstance(place, Subchannel):
        for mdev in place.mdevs:
            if mdev.group is not None:
                return mdev.group, mdev.name
    return place.group, place.name


def _no_group(host: Host, device: SysfsDevice) -> NotAvailable:
    if device.bus in ("css", "ccw"):
        cause = "channel I/O does not go through an IOMMU; only the mediated device that vfio_ccw makes has a group"
        step = f"pyvfio ccw take {device}"
    elif device.has_vfio_driver:
        cause = "VFIO has the device without a group of the IOMMU's"
        step = ""
    elif host.groups():
        cause = "the kernel gave it no group: it does no DMA, or no IOMMU of this host covers it"
        step = "without an IOMMU VFIO takes it only in no-IOMMU mode, which protects nothing"
    else:
        cause = "this host has no IOMMU groups: the IOMMU is off, or there is none"
        step = (
            "turn it on in the firmware and, on Intel, with intel_iommu=on on the kernel's command line; pyvfio doctor"
        )
    return NotAvailable("find IOMMU group", device.name, cause=cause, next_step=step)


def _what(found: IommuGroup, member: Member) -> str:
    for path in found.device_paths:
        if path.endswith(f"/{member.name}"):
            code = found.sysfs.attribute(f"{path}/class")
            if code is not None:
                return class_name(int(code, 16))
            return f"on bus {found.sysfs.link_name(f'{path}/subsystem') or 'unknown'}"
    return ""


def _verdict(members: list[Member], kept: str) -> str:
    """`kept`: why firmware keeps the group from user space."""
    blockers = [member for member in members if member.blocks]
    if not blockers:
        return f"yes; but the kernel gives it to no program: {kept}" if kept else "yes"
    names = ", ".join(f"{member.name} ({member.driver})" for member in blockers)
    return f"no: {names} {'blocks' if len(blockers) == 1 else 'block'}; each must be freed, or be given to VFIO too"


def _document(found: IommuGroup, account: Account, acs_override: bool) -> dict[str, object]:
    members = found.members()
    document: dict[str, object] = {
        "group": found.number,
        "name": found.name,
        "type": found.type,
        "node": found.node,
        "reserved_regions": [
            {"start": region.start, "last": region.last, "kind": region.kind} for region in found.reserved_regions
        ],
        "viable": not any(member.blocks for member in members),
        "firmware_memory": [{"start": region.start, "last": region.last} for region in found.firmware_memory],
        "members": [
            {
                "device": member.name,
                "what": _what(found, member),
                "driver": member.driver,
                "blocks": member.blocks,
                "reason": member.reason,
            }
            for member in members
        ],
        "explanation": {
            "from": account.origin,
            "rule": account.rule,
            "agrees": account.agrees,
            "joins": [
                {"device": join.member, "note": join.note, "links": [_link(link) for link in join.links]}
                for join in account.joins
            ],
            "apart": list(account.apart),
            "notes": list(account.notes),
        },
    }
    if acs_override:
        document["acs_override"] = _OVERRIDE
    return document


def _link(link: Link) -> dict[str, object]:
    return {
        "rule": link.kind.value,
        "devices": [link.one, link.other],
        "at": link.at,
        "certain": link.certain,
        "lacks": [
            {"device": one.name, "kind": one.kind, "missing": list(one.missing), "reason": one.reason}
            for one in link.lacks
        ],
        "text": link.text,
    }


def _print(found: IommuGroup, account: Account, acs_override: bool) -> None:
    members = found.members()
    regions = [f"{region.start:#x} to {region.last:#x} {region.kind}" for region in found.reserved_regions]
    pairs: list[tuple[str, object]] = [
        ("IOMMU group", found.number),
        ("name", found.name),
        ("type", found.type),
        ("reserved", "\n".join(regions)),
        ("viable", _verdict(members, causes.firmware_memory(found.number, found.firmware_memory).sentence)),
    ]
    print_pairs(pairs)
    click.echo(click.style("members", bold=True))
    cells = [(member.name, member.driver or "no driver", _what(found, member), member.reason) for member in members]
    widths = [max((len(cell[place]) for cell in cells), default=0) for place in range(3)]
    for *head, reason in cells:
        line = "  ".join(text.ljust(width) for text, width in zip(head, widths, strict=True))
        click.echo(f"  {line}  {reason}")
    _print_reasons(account)
    if acs_override:
        click.echo(f"ACS override: {_OVERRIDE}")


def _print_reasons(account: Account) -> None:
    if account.joins:
        click.echo(click.style(f"why they are together, seen from {account.origin}", bold=True))
        for join in account.joins:
            # The links before the last are told at the members that they lead to.
            click.echo(f"  {join.links[-1].text if join.links else f'{join.member}: {join.note}'}")
    elif account.agrees is None and not account.notes:
        click.echo(f"why: {account.rule}")
    elif account.agrees:
        click.echo(f"why: by {account.rule} nothing else belongs to it")
    for note in account.notes:
        click.echo(f"note: {note}")
