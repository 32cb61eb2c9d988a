"""``pyvfio edu``: use an edu, QEMU's device to learn on, through vfio-pci."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from functools import partial

import click

from pyvfio.drivers.edu import Edu
from pyvfio.drivers.failures import DeviceWrong
from pyvfio.errors import PyvfioError
from pyvfio.host import Host
from pyvfio.pci.edu import BUFFER_SIZE
from pyvfio.vfio import Device
from pyvfio_tools.commands import Commands
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json, print_pairs, print_table
from pyvfio_tools.pci_open import interrupts_option, opened_function, take_option

__all__ = ["edu"]

_KINDS = ("msi", "intx", "poll")
_WHAT = "edu"


@click.group(cls=Commands)
def edu() -> None:
    """Use an edu that was taken from the kernel: QEMU's PCI device to learn on, here driven by this program.

    \b
    Examples:
      pyvfio edu test 0000:00:02.0 --take --machine q35-switch
      pyvfio edu factorial 0000:00:06.0 10
    """


@contextlib.contextmanager
def _started(host: Host, device: str, take: bool, interrupts: str = "auto") -> Iterator[Edu]:
    with opened_function(host, device, _WHAT, take) as opened, Edu(opened, interrupts=interrupts) as driver:
        yield driver


@edu.command("id")
@device_argument("device", metavar="DEV")
@take_option
@host_options
def id_(host: Host, as_json: bool, device: str, take: bool) -> None:
    """Show what the device says it is, and how this program reaches it.

    \b
    Examples:
      pyvfio edu id 0000:00:06.0
      pyvfio edu id 0000:00:02.0 --take --machine q35-switch --json
    """
    with _started(host, device, take) as driver:
        opened = driver.work.device
        facts = {
            "device": opened.name,
            "version": f"{driver.identity.major}.{driver.identity.minor}",
            "alive": driver.alive(),
            "interrupts": driver.interrupts,
            "registers": driver.access,
            "way": opened.way,
        }
    if as_json:
        print_json(facts)
    else:
        print_pairs([*facts.items()])


@edu.command()
@device_argument("device", metavar="DEV")
@click.argument("number", type=click.IntRange(0, 0xFFFFFFFF))
@interrupts_option(*_KINDS)
@take_option
@host_options
def factorial(host: Host, as_json: bool, device: str, number: int, interrupts: str, take: bool) -> None:
    """Have the device compute the factorial of NUMBER, modulo 2**32.

    \b
    Examples:
      pyvfio edu factorial 0000:00:06.0 10
      pyvfio edu factorial 0000:00:02.0 12 --interrupts intx --take --machine q35-switch
    """
    with _started(host, device, take, interrupts) as driver:
        result = driver.factorial(number)
        if as_json:
            print_json({"number": number, "factorial": result, "interrupts": driver.interrupts})
        else:
            click.echo(result)


@edu.command()
@device_argument("device", metavar="DEV")
@click.option("--offset", type=click.IntRange(0, BUFFER_SIZE - 1), default=0, show_default=True, help="In its buffer.")
@click.option("--put", metavar="TEXT", help="Put these characters into the buffer.")
@click.option("--get", type=click.IntRange(1, BUFFER_SIZE), metavar="COUNT", help="Print so many bytes of it.")
@interrupts_option(*_KINDS)
@take_option
@host_options
def dma(
    host: Host,
    as_json: bool,
    device: str,
    offset: int,
    put: str | None,
    get: int | None,
    interrupts: str,
    take: bool,
) -> None:
    """Move bytes between memory and the device's buffer of 4 KiB, by DMA in either direction; first --put, then --get.

    \b
    Examples:
      pyvfio edu dma 0000:00:06.0 --put hello --get 5
      pyvfio edu dma 0000:00:02.0 --put hello --offset 64 --get 16 --take --machine q35-switch --json
    """
    if put is None and get is None:
        raise click.UsageError("Say what to do: --put TEXT, --get COUNT, or both.")
    given = (put or "").encode("utf-8", "surrogateescape")  # as it was typed, text or not
    with _started(host, device, take, interrupts) as driver:
        if given:
            driver.put(given, offset)
        data = driver.get(get, offset) if get is not None else b""
    if as_json:
        print_json({"device": driver.work.device.name, "offset": offset, "put": len(given), "got": data.hex()})
    elif get is not None:
        click.echo(data.decode("utf-8", "backslashreplace"))


@edu.command()
@device_argument("device", metavar="DEV")
@take_option
@host_options
def test(host: Host, as_json: bool, device: str, take: bool) -> None:
    """Test the way to a device and back: registers, interrupts of each kind, DMA in both directions.

    When something fails, the exit code is that of the first failure: 8 for other data than were sent, 9 for what did
    not come in time.

    \b
    Examples:
      pyvfio edu test 0000:00:06.0
      pyvfio edu test 0000:00:02.0 --take --machine q35-switch --json
    """
    with opened_function(host, device, _WHAT, take) as opened:
        rows = [_row("registers", partial(_registers, opened))]
        rows += [_row(f"interrupt by {kind}", partial(_interrupt, opened, kind)) for kind in _KINDS[:2]]
        rows += [_row(f"DMA, {kind}", partial(_transfers, opened, kind)) for kind in _KINDS]
    if as_json:
        print_json([{"test": what, "ok": not code, "detail": detail} for what, code, detail in rows])
    else:
        print_table(
            ("TEST", "RESULT", "DETAIL"), [(what, "FAILED" if code else "ok", detail) for what, code, detail in rows]
        )
    click.get_current_context().exit(next((code for _, code, _ in rows if code), 0))


def _row(what: str, do: Callable[[], str]) -> tuple[str, int, str]:
    """The name of a test, the exit code for how it ended, and what it says."""
    try:
        return what, 0, do()
    except PyvfioError as error:
        return what, error.exit_code, f"{error.operation}: {error.cause or error.errno_name}"


def _registers(device: Device) -> str:
    with Edu(device, interrupts="poll") as driver:
        if not driver.alive():
            raise DeviceWrong(
                "test registers", device.name, cause="it does not give the complement of what it was given"
            )
        return f"{driver.identity}, by {driver.access}"


def _interrupt(device: Device, kind: str) -> str:
    with Edu(device, interrupts=kind) as driver:
        for bits in (0x1, 0x80000000):
            driver.interrupt(bits)
        return f"factorial of 10 is {driver.factorial(10)}"


def _transfers(device: Device, kind: str) -> str:
    data = random.Random(device.name).randbytes(BUFFER_SIZE)
    with Edu(device, interrupts=kind) as driver:
        driver.put(data)
        if driver.get(BUFFER_SIZE) != data:
            raise DeviceWrong("test DMA", device.name, cause="what came back is not what went there")
        return f"{BUFFER_SIZE} bytes both ways"
