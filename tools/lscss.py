"""``pyvfio lscss``: the subchannels, in the table format of s390-tools."""

from __future__ import annotations

import click

from pyvfio.devices import Subchannel
from pyvfio.host import Host
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json

__all__ = ["lscss"]

HEADING = "Device   Subchan.  DevType CU Type Use  PIM PAM POM  CHPIDs"
RULE = "-" * 70


def row(subchannel: Subchannel) -> dict[str, object]:
    """The facts of one line as plain data."""
    device = subchannel.ccw_device
    return {
        "device": None if subchannel.device_number is None else str(subchannel.device_number),
        "subchannel": str(subchannel.address),
        "driver": subchannel.driver,
        "devtype": None if device is None else ("0000/00" if device.devtype == "n/a" else device.devtype),
        "cutype": None if device is None else device.cutype,
        "online": None if device is None else device.online,
        "pim": f"{subchannel.pim:02x}",
        "pam": f"{subchannel.pam:02x}",
        "pom": f"{subchannel.pom:02x}",
        "chpids": "".join(f"{chpid:02x}" for chpid in subchannel.chpids),
        "mdevs": [str(mdev.address) for mdev in subchannel.mdevs],
    }


def line(facts: dict[str, object]) -> str:
    """One line of the table; a subchannel without a ccw device names its driver and its mediated devices at the end."""
    chpids = str(facts["chpids"])
    use = "yes" if facts["online"] else ""
    types = f"{facts['devtype'] or '':<7} {facts['cutype'] or '':<7}"
    text = (
        f"{facts['device'] or 'none':<8} {facts['subchannel']:<8}  {types} {use:<4} "
        f"{facts['pim']:<3} {facts['pam']:<3} {facts['pom']:<4} {chpids[:8]} {chpids[8:]}"
    )
    if facts["devtype"] is None and facts["driver"]:
        mdevs = facts["mdevs"]
        names = " ".join(map(str, mdevs)) if isinstance(mdevs, list) else ""
        text += f" {facts['driver']}" + (f" {names}" if names else "")
    return text


@click.command()
@host_options
def lscss(host: Host, as_json: bool) -> None:
    """List the subchannels with their devices, types, paths and use.

    \b
    Examples:
      pyvfio lscss
      pyvfio lscss --machine z15-lpar
    """
    rows = [row(subchannel) for subchannel in host.subchannels() if subchannel.type == 0]
    if as_json:
        print_json(rows)
        return
    if not host.sysfs.exists("/sys/bus/css"):
        click.echo("this host has no channel subsystem (no /sys/bus/css)", err=True)
        return
    click.echo(HEADING)
    click.echo(RULE)
    for facts in rows:
        click.echo(line(facts))
