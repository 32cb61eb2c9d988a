"""``pyvfio list``: the devices that VFIO can take."""

from __future__ import annotations

import click

from pyvfio.host import Host
from pyvfio.sysfs_device import SysfsDevice
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json, print_table
from pyvfio_tools.summary import summary

__all__ = ["list_"]

_BUSES = ("pci", "css", "ccw", "mdev")


def _rows(host: Host, buses: tuple[str, ...]) -> list[SysfsDevice]:
    rows: list[SysfsDevice] = []
    if "pci" in buses:
        rows += host.functions()
    if "css" in buses:
        rows += host.subchannels()
    if "ccw" in buses:
        rows += host.ccw_devices()
    if "mdev" in buses:
        rows += host.mdevs()
    return rows


@click.command("list")
@click.option(
    "--bus",
    "buses",
    type=click.Choice(_BUSES),
    multiple=True,
    help="Only this bus; may be given more than once. Default: pci, ccw and mdev.",
)
@host_options
def list_(host: Host, as_json: bool, buses: tuple[str, ...]) -> None:
    """List the devices that VFIO can take, with their drivers and IOMMU groups.

    \b
    Examples:
      pyvfio list
      pyvfio list --bus pci --json
      pyvfio list --machine z15-lpar
    """
    chosen = buses or ("pci", "ccw", "mdev")
    devices = _rows(host, chosen)
    if as_json:
        print_json(
            [
                {
                    "bus": device.bus,
                    "address": str(device.address),
                    "driver": device.driver,
                    "group": None if device.group is None else device.group.number,
                    "description": summary(device),
                }
                for device in devices
            ]
        )
        return
    print_table(
        ("BUS", "DEVICE", "DRIVER", "GROUP", "WHAT"),
        [
            (
                device.bus,
                str(device.address),
                device.driver or "-",
                "-" if device.group is None else str(device.group.number),
                summary(device),
            )
            for device in devices
        ],
        empty=f"no devices on {', '.join(chosen)}",
    )
