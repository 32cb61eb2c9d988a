"""What the commands of ``pyvfio nvme`` share: the controller, its namespaces, and who may be written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click

from pyvfio.binding.findings import Evidence, Finding
from pyvfio.binding.probes.magics import signatures
from pyvfio.drivers.nvme import Nvme
from pyvfio.errors import DeviceInUse, Misuse
from pyvfio.host import Host
from pyvfio_tools.pci_open import opened_function

__all__ = ["KINDS", "Confirmation", "blocks_option", "nsid_option", "started"]

KINDS = ("msix", "msi", "intx", "poll")

nsid_option = click.option("--nsid", type=click.IntRange(1), metavar="N", help="The namespace. Default: the first.")
blocks_option = click.option("--blocks", metavar="FIRST[-LAST]", help="These logical blocks, from 0 on. Default: all.")


@contextlib.contextmanager
def started(host: Host, device: str, take: bool, interrupts: str = "auto") -> Iterator[Nvme]:
    """The controller of the function called `device`, started."""
    with opened_function(host, device, "NVMe controller", take) as opened, Nvme(opened, interrupts=interrupts) as disk:
        yield disk


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Which controller may be written: the one with `serial`; with `force` also a namespace that has content."""

    serial: str | None = None
    force: bool = False

    def check(self, disk: Nvme, nsid: int) -> None:
        """Raise `Misuse` for another controller, `DeviceInUse` for content.  A person who did not say is asked."""
        there, wanted = disk.identity.serial, self.serial
        if wanted is None:
            if sys.stdin is None or not sys.stdin.isatty():
                cause = "the serial number of the controller to be written is not given"
                step = f"say --serial {there!r} if that is the one you mean"
                raise Misuse("write NVMe namespace", disk.name, cause=f"{cause}; nothing was written", next_step=step)
            wanted = click.prompt(
                f"Type the serial number ({there}) to go on", err=True, default="", show_default=False
            )
        if wanted.strip() != there:
            cause = f"the serial number of the controller is {there!r}, not {wanted!r}; nothing was written"
            raise Misuse("write NVMe namespace", disk.name, cause=cause)
        if not self.force:
            self._check_content(disk, nsid)

    def _check_content(self, disk: Nvme, nsid: int) -> None:
        space = disk.namespaces[nsid]

        def read(at: int, count: int) -> bytes:
            first, end = at >> space.order, min(-(-(at + count) >> space.order), space.blocks)
            skip = at - (first << space.order)
            return disk.read(first, end - first, nsid)[skip : skip + count] if end > first else b""

        found = signatures(read, space.blocks << space.order)
        if found:
            evidence = tuple(Evidence(f"namespace {nsid} has a signature: {one}") for one in found)
            finding = Finding("signature", disk.name, "the namespace has content, which may be stale", evidence)
            raise DeviceInUse(
                "write NVMe namespace",
                disk.name,
                [finding],
                cause="; ".join(one.what for one in evidence),
                next_step="say --force if nobody wants it any more",
            )
