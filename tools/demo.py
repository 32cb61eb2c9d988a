"""``pyvfio demo``: the main job on the software machine, shown as it happens, every step verified."""

from __future__ import annotations

import os
import stat
import threading
from typing import Any

import click
from rich.console import Console

from pyvfio.address import DeviceNumber, MdevUuid, PciAddress
from pyvfio.backend import Backend
from pyvfio.binding import Event, Phase, Plan, bind, ccw_give_back, ccw_take, release
from pyvfio.ccw import CcwDevice
from pyvfio.channel_program import Read, Tic, Write
from pyvfio.css.ccw import CcwFlag
from pyvfio.css.trace import Step
from pyvfio.errors import Misuse
from pyvfio.host import Host
from pyvfio.testing.bell import Bell
from pyvfio.vfio import open_device
from pyvfio_tools.complete import complete_machine
from pyvfio_tools.lscss import table
from pyvfio_tools.options import plugged_option
from pyvfio_tools.summary import summary

__all__ = ["demo"]

DASD = DeviceNumber(0, 0, 0x013F)
BELL = PciAddress(0x60, 0, 0, 0)
SEEK, SEARCH_ID_EQUAL, READ_DATA = 0x07, 0x31, 0x06
UUID = MdevUuid("6dfd3ec5-e8b3-4e18-a6fe-57bc9eceb920")
_EBCDIC = "cp037"
_DEBUGFS = "/sys/kernel/debug"
_MESSAGE = b"data through the IOMMU, " * 40


class Demo:
    """One run: prints what happens and counts what was verified."""

    def __init__(self, console: Console, host: Host) -> None:
        self.console = console
        self.host = host
        self.verified = 0
        self.failed: list[str] = []
        self._one_step = threading.Lock()

    def title(self, text: str) -> None:
        """A heading."""
        self.console.print()
        self.console.rule(text, align="left", style="bold")

    def say(self, text: str, style: str = "") -> None:
        """A line of text as it stands (no markup)."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def verify(self, what: str, good: bool) -> None:
        """Say whether something expected is so, and remember it."""
        if good:
            self.verified += 1
            self.say(f"  verified: {what}", "green")
        else:
            self.failed.append(what)
            self.say(f"  NOT SO: {what}", "bold red")

    def progress(self, event: Event) -> None:
        """Print the steps of a plan as they are done."""
        if event.phase is Phase.DONE:
            self.say(f"  [{event.index + 1}/{event.total}] {event.step.text}")
        elif event.phase is not Phase.START:
            self.say(f"  [{event.index + 1}/{event.total}] {event.phase.name}: {event.step.text}", "red")

    def step(self, step: Step) -> None:
        """Print a step of the vfio-ccw flow, the user's side to the left, the kernel's indented."""
        kernel = step.name.startswith("K")
        indent = "      " if kernel else "  "
        with self._one_step:  # the kernel's steps come from another thread; a step's lines stay together
            self.say(f"{indent}{step.name}  {step.text}", "cyan" if kernel else "bold")
            for text in step.lines()[1:]:
                self.say(f"{indent}    {text.strip()}", "dim")


_CLOCKS = ("/power/runtime_active_time", "/power/runtime_suspended_time")
"""Files that say how long something has been so."""


def snapshot(backend: Backend, root: str = "/sys") -> dict[str, str]:
    """Every name below `root` with its kind, link target or text: the state of the host as people see it."""
    found: dict[str, str] = {}
    waiting = [root, "/dev"]
    while waiting:
        folder = waiting.pop()
        for name in backend.listdir(folder):
            path = f"{folder}/{name}"
            mode = backend.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[path] = f"-> {backend.readlink(path)}"
            elif stat.S_ISDIR(mode):
                found[path] = "directory"
                if path != _DEBUGFS:  # what the kernel notes and counts is no state
                    waiting.append(path)
            elif path.endswith(_CLOCKS):
                found[path] = "a clock"
            elif stat.S_ISREG(mode) and mode & 0o444:
                found[path] = _text(backend, path)
            else:
                found[path] = oct(mode)
    return found


def _is_counter(path: str, before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether only a number differs that the kernel never gives out twice (of a disk, of an event)."""
    if path not in before or path not in after:
        return False
    if path.endswith(("/diskseq", "/uevent_seqnum")):
        return True
    if not path.endswith("/uevent"):
        return False
    old, new = (bytes.fromhex(state[path]).decode().splitlines() for state in (before, after))
    return [line for line in old if not line.startswith("DISKSEQ=")] == [
        line for line in new if not line.startswith("DISKSEQ=")
    ]


def _text(backend: Backend, path: str) -> str:
    try:
        fd = backend.open(path, os.O_RDONLY)
        try:
            return backend.read(fd, 1 << 16).hex()
        finally:
            backend.close(fd)
    except OSError as error:
        return f"errno {error.errno}"


def _list(show: Demo) -> None:
    show.title("1. The devices of this host")
    for function in show.host.functions():
        show.say(f"  {function.address}  {summary(function)}  driver {function.driver or 'none'}")
    show.say("")
    for line in table(show.host):
        show.say(f"  {line.rstrip()}")
    show.verify(f"{DASD} is there, online, in the hands of the kernel's DASD driver", show.host.ccw_device(DASD).online)


def _channel(show: Demo) -> None:
    host = show.host
    show.title(f"2. Take {DASD} from its driver and make a mediated device of it")
    taken = ccw_take(host, DASD, uuid=UUID, progress=show.progress)
    show.verify(f"{taken.subchannel.address} is driven by vfio_ccw", taken.subchannel.driver == "vfio_ccw")
    with open_device(host, taken.mdev) as device, CcwDevice(device, trace=show.step) as channel:
        show.say(f"  opened by {device.way}: {device.why}")
        show.title("3. SENSE ID, step by step (Q: this program, K: the kernel)")
        sense = channel.sense_id()
        show.say(f"  device {sense}")
        show.verify("the control unit is a 3990/e9", (sense.cu_type, sense.cu_model) == (0x3990, 0xE9))
        show.verify("the device is a 3390/0c", (sense.dev_type, sense.dev_model) == (0x3390, 0x0C))
        show.title("4. Read the volume label: cylinder 0, head 0, record 3")
        result = channel.run(
            [
                Write(SEEK, bytes(6)),
                Write(SEARCH_ID_EQUAL, bytes([0, 0, 0, 0, 3])),
                Tic(1),
                Read(READ_DATA, 80, CcwFlag.SLI),
            ]
        )
        label = result.data.decode(_EBCDIC)
        printable = "".join(letter if letter.isprintable() else "." for letter in label)
        show.say(f"  80 bytes of data, from EBCDIC: {printable.rstrip()}")
        show.verify("the label begins VOL1", label[:4] == "VOL1")
        show.verify("the volume serial is 0X3F3F", label[4:10] == "0X3F3F")
    show.title(f"5. Give {DASD} back")
    ccw_give_back(host, DASD, online=taken.was_online, progress=show.progress)
    show.verify(f"{DASD} is online with its own driver again", host.ccw_device(DASD).online)


def _function(show: Demo) -> None:
    host = show.host
    function = host.function(BELL)
    show.title(f"6. Give PCI function {BELL} to vfio-pci and drive it")
    plan: Plan = bind(function, progress=show.progress)
    show.verify(f"{len(plan.steps)} steps done, the driver is vfio-pci", function.driver == "vfio-pci")
    with open_device(host, function) as device:
        show.say(f"  opened by {device.way}: {device.why}")
        base = None if device.zpci is None else device.zpci.base
        if base is not None:
            show.say(
                f"  zPCI capabilities: function handle {base.fh or 0:08x}, pchid {base.pchid:04x}, "
                f"group {base.gid:02x}, DMA addresses {base.start_dma:#x} to {base.end_dma:#x}"
            )
        identity = device.config.read_u32(0)
        show.say(f"  configuration space: vendor {identity & 0xFFFF:04x} device {identity >> 16:04x}")
        show.verify("sysfs says the same", identity == function.device_id << 16 | function.vendor_id)
        with (
            Bell(device) as bell,
            device.space.buffer(host.page_size) as source,
            device.space.buffer(host.page_size) as target,
        ):
            show.say(f"  mapped two pages for DMA at {source.iova:#x} and {target.iova:#x}")
            source.view[: len(_MESSAGE)] = _MESSAGE
            show.say(f"  ring the doorbell: copy {len(_MESSAGE)} bytes")
            interrupts = bell.copy(target.iova, source.iova, len(_MESSAGE))  # raises Timeout when no interrupt comes
            show.verify("an MSI-X interrupt arrived on the eventfd", interrupts == 1)
            show.verify("the device moved the data", bytes(target.view[: len(_MESSAGE)]) == _MESSAGE)
    show.title(f"7. Give {BELL} back")
    release(function, progress=show.progress)
    show.verify("it has no driver, as before", function.driver is None)


@click.command()
@click.option(
    "--machine",
    default="z15-lpar",
    show_default=True,
    shell_complete=complete_machine,
    help="The software machine.",
)
@plugged_option
@click.option("--seed", default=0, show_default=True, help="The seed of the machine's choices.")
def demo(machine: str, plugged: tuple[str, ...], seed: int) -> int:
    """Run the main job on a software machine: take, drive and give back a subchannel and a PCI function.

    Exit code 0 only if every step was verified.

    \b
    Examples:
      pyvfio demo
    """
    console = Console(highlight=False)
    with Host("software", machine=machine, devices=plugged, seed=seed, paced=True) as host:
        traces: list[Any] | None = getattr(getattr(host.backend, "machine", None), "ccw_trace", None)
        if traces is None:
            raise Misuse(
                "run demo", machine, cause="the demo needs the software backend, which shows the kernel's steps"
            )
        show = Demo(console, host)
        traces.append(show.step)
        before = snapshot(host.backend)
        _list(show)
        _channel(show)
        _function(show)
        show.title("8. Is the host as it was?")
        after = snapshot(host.backend)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        counted = [path for path in changed if _is_counter(path, before, after)]
        changed = [path for path in changed if path not in counted]
        for path in counted:
            show.say(f"  a number that only ever grows: {path}", "dim")
        for path in changed[:10]:
            show.say(f"  differs: {path}: {before.get(path)} is now {after.get(path)}", "red")
        same = len(before) - len(counted)
        besides = f", besides the {len(counted)} that only grow" if counted else ""
        show.verify(f"{same} files, links and directories of /sys and /dev are as before{besides}", not changed)
    console.print()
    if show.failed:
        show.say(f"{len(show.failed)} of {show.verified + len(show.failed)} checks failed", "bold red")
        return 1
    show.say(f"all {show.verified} checks verified", "bold green")
    return 0
