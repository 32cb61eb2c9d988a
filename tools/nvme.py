"""``pyvfio nvme``: look at, read and write an NVMe disk that was taken from the kernel, through vfio-pci."""

from __future__ import annotations

import click

from pyvfio.drivers.nvme import Nvme
from pyvfio.drivers.nvme_failures import status_words
from pyvfio.host import Host
from pyvfio.nvme.commands import Completion
from pyvfio.nvme.identity import OptionalCommand
from pyvfio_tools.commands import Commands
from pyvfio_tools.nvme_data import read, write
from pyvfio_tools.nvme_open import nsid_option, started
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json, print_pairs, print_table
from pyvfio_tools.pci_open import take_option

__all__ = ["nvme"]

_KELVIN = 273
_WARNINGS = ("little spare", "temperature", "unreliable", "read-only", "backup failed")


@click.group(cls=Commands)
def nvme() -> None:
    """Look at, read and write NVMe disks that were taken from the kernel (pyvfio bind).

    \b
    Examples:
      pyvfio nvme identify 0000:01:00.0 --take --machine q35-switch
      pyvfio nvme read 0000:01:00.0 --blocks 0-7 -o start.bin
      pyvfio nvme write 0000:01:00.0 --serial S4EVNX0 -i disk.img
    """


nvme.add_command(read)
nvme.add_command(write)


@nvme.command()
@device_argument("device", metavar="DEV")
@take_option
@host_options
def identify(host: Host, as_json: bool, device: str, take: bool) -> None:
    """Show what a controller is, its namespaces, and how this program reaches it.

    \b
    Examples:
      pyvfio nvme identify 0000:01:00.0
      pyvfio nvme identify 0000:01:00.0 --take --machine q35-switch --json
    """
    with started(host, device, take) as disk:
        facts = _facts(disk)
        spaces = [
            {
                "nsid": nsid,
                "blocks": space.blocks,
                "block_size": 1 << space.order,
                "bytes": space.blocks << space.order,
                "eui64": space.eui64.hex() if any(space.eui64) else None,
            }
            for nsid, space in disk.namespaces.items()
        ]
    if as_json:
        print_json({**facts, "namespaces": spaces})
        return
    print_pairs([(name, ", ".join(value) if isinstance(value, list) else value) for name, value in facts.items()])
    click.echo()
    rows = [[str(one[key] or "-") for key in ("nsid", "blocks", "block_size", "bytes", "eui64")] for one in spaces]
    print_table(("NAMESPACE", "BLOCKS", "BLOCK SIZE", "BYTES", "EUI64"), rows, empty="no active namespace")


def _facts(disk: Nvme) -> dict[str, object]:
    found, able = disk.identity, disk.work.capabilities
    return {
        "device": disk.name,
        "model": found.model,
        "serial": found.serial,
        "firmware": found.firmware,
        "vendor": f"{found.vendor:04x}",
        "subsystem_vendor": f"{found.subsystem_vendor:04x}",
        "subsystem": found.subsystem,
        "version": f"{found.version >> 16}.{found.version >> 8 & 0xFF}",
        "optional": [str(one.name).lower().replace("_", " ") for one in OptionalCommand if found.optional & one],
        "write_cache": found.write_cache,
        "queue_entries": able.entries,
        "transfer": disk.transfer,
        "interrupts": disk.interrupts,
        "registers": disk.access,
        "way": disk.work.device.way,
    }


@nvme.command()
@device_argument("device", metavar="DEV")
@take_option
@host_options
def log(host: Host, as_json: bool, device: str, take: bool) -> None:
    """Show the health log (SMART) and the error log of a controller.

    \b
    Examples:
      pyvfio nvme log 0000:01:00.0
      pyvfio nvme log 0000:01:00.0 --take --machine q35-switch --json
    """
    with started(host, device, take) as disk:
        health, errors = disk.health(), disk.errors()
    warnings = [word for bit, word in enumerate(_WARNINGS) if health.warnings >> bit & 1]
    facts: dict[str, object] = {
        "warnings": warnings,
        "temperature": health.temperature - _KELVIN,
        "spare": health.spare,
        "used": health.used,
        "bytes_read": health.bytes_read,
        "bytes_written": health.bytes_written,
        "reads": health.reads,
        "writes": health.writes,
        "power_cycles": health.power_cycles,
        "media_errors": health.media_errors,
        "errors": health.errors,
    }
    entries = [
        {
            "count": one.count,
            "queue": one.queue,
            "command": one.command,
            "status": status_words(Completion(0, one.status).code),
            "lba": one.lba,
            "nsid": one.nsid,
        }
        for one in errors
    ]
    if as_json:
        print_json({**facts, "error_log": entries})
        return
    units = {"temperature": " degrees Celsius", "spare": " %", "used": " %"}
    shown = [(name, f"{value}{units.get(name, '')}") for name, value in facts.items() if name != "warnings"]
    print_pairs([("warnings", ", ".join(warnings) or "none"), *shown])
    if entries:
        click.echo()
        headings = ("ERROR", "QUEUE", "COMMAND", "STATUS", "LBA", "NAMESPACE")
        print_table(headings, [[str(value) for value in one.values()] for one in entries])


@nvme.command()
@device_argument("device", metavar="DEV")
@nsid_option
@take_option
@host_options
def flush(host: Host, as_json: bool, device: str, nsid: int | None, take: bool) -> None:
    """Have everything that was written to a namespace outlast a loss of power.

    \b
    Examples:
      pyvfio nvme flush 0000:01:00.0
      pyvfio nvme flush 0001:01:00.0 --nsid 1 --take --machine q35-switch --json
    """
    with started(host, device, take) as disk:
        number, _ = disk.work.namespace(nsid)
        disk.flush(number)
    if as_json:
        print_json({"device": disk.name, "nsid": number, "flushed": True})
    else:
        click.echo(f"{disk.name}: namespace {number} flushed")
