"""``pyvfio nvme read`` and ``write``: what is in a namespace, to and from files."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click

from pyvfio.drivers.failures import VerifyFailed
from pyvfio.drivers.nvme import Nvme
from pyvfio.errors import Misuse
from pyvfio.host import Host
from pyvfio_tools.nvme_open import KINDS, Confirmation, blocks_option, nsid_option, started
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.pci_open import interrupts_option, take_option
from pyvfio_tools.transfers import chosen_range, progress_bar, sink, source_of, whole

__all__ = ["read", "write"]

_PIECE = 8 << 20
_FILE = click.Path(allow_dash=True)


def _chosen(disk: Nvme, nsid: int | None, blocks: str | None) -> tuple[int, int, int, int]:
    """Namespace, exponent of its block size, first block and count.  Raise `Misuse`, `NotAvailable`."""
    number, space = disk.work.namespace(nsid)
    first, count = (0, space.blocks) if blocks is None else chosen_range(blocks, "blocks", space.blocks)
    return number, space.order, first, count


@click.command()
@device_argument("device", metavar="DEV")
@nsid_option
@blocks_option
@click.option("-o", "--output", type=_FILE, metavar="FILE", default="-", help="Where to. Default: standard output.")
@interrupts_option(*KINDS)
@take_option
@host_options
def read(
    host: Host,
    as_json: bool,
    device: str,
    nsid: int | None,
    blocks: str | None,
    output: str,
    interrupts: str,
    take: bool,
) -> None:
    """Read logical blocks. Long runs of zeros become holes of a FILE.

    \b
    Examples:
      pyvfio nvme read 0000:01:00.0 --blocks 0-2047 -o start.bin
      pyvfio nvme read 0000:01:00.0 --take --machine q35-switch | sha256sum
    """
    if as_json and output == "-":
        raise click.UsageError("--json goes with -o FILE: blocks are bytes.")
    with started(host, device, take, interrupts) as disk:
        number, order, first, count = _chosen(disk, nsid, blocks)
        step = _PIECE >> order
        with sink(output) as put, progress_bar("read", count, as_json) as done:
            for at in range(first, first + count, step):
                put(disk.read(at, min(step, first + count - at), number, done))
        if as_json:
            print_json({"device": disk.name, "nsid": number, "first": first, "blocks": count, "block_size": 1 << order})


@click.command()
@device_argument("device", metavar="DEV")
@click.option(
    "--serial", metavar="SERIAL", help="The serial number of the controller that is written; else nothing is."
)
@click.option("--force", is_flag=True, help="Also when the namespace has a partition table or a file system.")
@nsid_option
@blocks_option
@click.option("-i", "--input", "source", type=_FILE, metavar="FILE", default="-", help="Default: standard input.")
@click.option("--verify", is_flag=True, help="Read what was written again, and compare.")
@interrupts_option(*KINDS)
@take_option
@host_options
def write(
    host: Host,
    as_json: bool,
    device: str,
    serial: str | None,
    force: bool,
    nsid: int | None,
    blocks: str | None,
    source: str,
    verify: bool,
    interrupts: str,
    take: bool,
) -> None:
    """Write logical blocks, and flush. The controller must have the serial number, else nothing is written.

    The input is written from the first block on, and must be whole blocks; more than were named are refused. A
    namespace with a partition table or a file system is refused, unless --force is said.

    \b
    Examples:
      pyvfio nvme write 0000:01:00.0 --serial S4EVNX0 --blocks 0- -i disk.img --verify
      head -c 4096 /dev/zero | pyvfio nvme write 0000:01:00.0 --serial Q35SWITCH0 --take --machine q35-switch
    """
    with started(host, device, take, interrupts) as disk:
        number, order, first, count = _chosen(disk, nsid, blocks)
        Confirmation(serial, force).check(disk, number)
        with source_of(source) as file:
            if source != "-":
                _check_input(disk, Path(source).stat().st_size, order, count, 0)
            written = _write_all(disk, file, number, order, first, count, as_json, verify)
        disk.flush(number)
    if as_json:
        print_json({"device": disk.name, "nsid": number, "first": first, "blocks": written, "block_size": 1 << order})
    else:
        click.echo(f"{disk.name}: {written} blocks written to namespace {number}, from block {first} on")


def _check_input(disk: Nvme, length: int, order: int, count: int, done: int) -> None:
    """Raise `Misuse` when the input is no whole blocks, or too many."""
    if length % (1 << order):
        why = f"the input is not whole blocks of {1 << order} bytes"
    elif length >> order > count:
        why = f"the input is more than the {count} blocks that were named"
    else:
        return
    written = f"{done} blocks were written" if done else "nothing was written"
    raise Misuse("write NVMe namespace", disk.name, cause=f"{why}; {written}")


def _write_all(
    disk: Nvme, file: BinaryIO, nsid: int, order: int, first: int, count: int, quiet: bool, verify: bool
) -> int:
    """Write all that comes; how many blocks it was."""
    written = 0
    with progress_bar("write", count, quiet) as done:
        while piece := whole(file, _PIECE):
            _check_input(disk, len(piece), order, count - written, written)
            disk.write(first + written, piece, nsid, done)
            blocks = len(piece) >> order
            if verify:
                _check_written(disk.read(first + written, blocks, nsid), piece, order, disk.name, first + written)
            written += blocks
    return written


def _check_written(found: bytes, wanted: bytes, order: int, name: str, first: int) -> None:
    """Raise `VerifyFailed` for the first block that is not what was written."""
    if found == wanted:
        return
    at = next(at for at, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other)
    raise VerifyFailed("write NVMe namespace", name, "block", first + (at >> order))
