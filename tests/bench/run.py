"""`make bench`: speed, as ratios within one run.

Each line compares a figure with a peer or a target measured or stated beside it; nothing here is a test.  Best of
several rounds is taken, so that a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from math import isnan
from pathlib import Path

from dasd import dasd_read, dasd_write
from inside import run_inside
from ioda import ioda
from measure import Line, best
from nvme import nvme
from pcie import pcie
from pcie_vfio import pcie_vfio
from sense_id import sense_id
from zpci import zpci

import pyvfio
from pyvfio.abi import vfio_type1 as abi
from pyvfio.abi.vfio import PciRegion
from pyvfio.backend import open_backend
from pyvfio.binding import bind
from pyvfio.pci import bell as regs
from pyvfio.testing.bell import Bell

PCI = "0020:00:00.0"
BELL = "0060:00:00.0"
MIB = 1 << 20
_MOST_MAPPINGS = 65_535
"""What ``dma_entry_limit`` of vfio_iommu_type1 allows."""


def seam_overhead() -> Line:
    """Kernel-backend pread of a sysfs attribute against os.pread."""
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    if not os.path.exists(path):
        path = "/sys/kernel/uevent_seqnum"
    with open_backend("kernel") as host:
        fd = host.open(path, os.O_RDONLY)
        plain = best(lambda: os.pread(fd, 64, 0), 20_000)
        ours = best(lambda: host.pread(fd, 64, 0), 20_000)
        host.close(fd)
    return Line("kernel backend pread / os.pread", f"{ours / plain:.2f}x", "at most 1.3x", 1.3 / (ours / plain))


def config_reads() -> Line:
    """Configuration-space reads through the vfio device of the software machine."""
    with pyvfio.Host("software", machine="lab-s390x") as host:
        bind(host.device(PCI))
        with pyvfio.open_device(host, PCI) as device:
            read, fd, offset = host.backend.pread, device.fileno(), device.region(PciRegion.CONFIG).offset
            rate = 1 / best(lambda: read(fd, 4, offset), 20_000)
    return Line("configuration-space reads", f"{rate:,.0f}/s", "100,000/s", rate / 100_000)


def map_pairs() -> list[Line]:
    """MAP_DMA and UNMAP_DMA pairs with few and with many live mappings."""
    with pyvfio.Host("software", machine="lab-s390x") as host:
        function = host.device(PCI)
        bind(function)
        group = function.group
        if group is None:
            raise RuntimeError(f"{PCI} has no IOMMU group")
        with (
            pyvfio.Container(host) as container,
            pyvfio.Group(host, group.number) as opened,
            pyvfio.AnonymousMemory(mmap.PAGESIZE) as memory,
        ):
            container.attach(opened)
            space = container.set_iommu()
            backend, fd, page = host.backend, container.fileno(), host.page_size
            first = space.ranges()[0].start

            def request(live: int) -> tuple[bytearray, bytearray]:
                at = first + live * 2 * page
                put = abi.IommuType1DmaMap(argsz=32, flags=3, vaddr=memory.address, iova=at, size=page)
                take = abi.IommuType1DmaUnmap(argsz=24, flags=0, iova=at, size=page)
                return bytearray(put), bytearray(take)

            def pair(live: int) -> Callable[[], None]:
                put, take = request(live)

                def work() -> None:
                    backend.ioctl(fd, abi.VFIO_IOMMU_MAP_DMA, put)
                    backend.ioctl(fd, abi.VFIO_IOMMU_UNMAP_DMA, take)

                return work

            def fill(start: int, end: int) -> None:
                for n in range(start, end):
                    backend.ioctl(fd, abi.VFIO_IOMMU_MAP_DMA, request(n)[0])

            fill(0, 100)
            few = best(pair(_MOST_MAPPINGS), 2_000)
            fill(100, _MOST_MAPPINGS - 1)
            many = best(pair(_MOST_MAPPINGS), 2_000)  # the last one that the kernel takes
    return [
        Line("map + unmap pairs, 100 live", f"{1 / few:,.0f}/s", "20,000/s", 1 / few / 20_000),
        Line(
            f"map + unmap cost, {_MOST_MAPPINGS - 1:,} live / 100 live",
            f"{many / few:.2f}x",
            "at most 1.5x",
            1.5 / (many / few),
        ),
    ]


def dma_copy() -> Line:
    """The bell function copies 1 MiB, against a plain copy between two memoryviews."""
    with pyvfio.Host("software", machine="z15-lpar") as host:
        bind(host.device(BELL))
        with pyvfio.open_device(host, BELL) as device, Bell(device) as bell:
            with device.space.buffer(MIB) as source, device.space.buffer(MIB) as target:
                plain = best(lambda: target.view.__setitem__(slice(None), source.view), 50)
                source.view[:4] = b"bell"
                bell.copy(target.iova, source.iova, MIB)
                if bytes(target.view[:4]) != b"bell":
                    raise RuntimeError("the copy did not happen")
                # the doorbell alone: the copy and the interrupt happen inside this store
                ours = best(lambda: bell.bar.write_u32(regs.COMMAND, regs.BellCommand.COPY), 50)
    return Line(
        "DMA copy of 1 MiB / memoryview copy (speed)", f"{plain / ours:.0%}", "at least 50%", plain / ours / 0.5
    )


def boot() -> Line:
    """Building z15-lpar."""
    seconds = best(lambda: open_backend("software", machine="z15-lpar").close(), 5)
    return Line("z15-lpar builds in", f"{seconds * 1000:.1f} ms", "50 ms", 0.05 / seconds)


_MANY = """
import json, time, psutil
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio import open_backend
# resident memory of now: the peak of getrusage() would be that of the process which started this one
resident = psutil.Process().memory_info
base = resident().rss
start = time.perf_counter()
spec = MachineSpec("many", paths=[ChannelPathSpec(0)], subchannels=[
    SubchannelSpec(schid="0.0.0000", device="0.0.0000", unit="echo", count=65536)])
with open_backend("software", machine=spec) as host:
    names = host.listdir("/sys/bus/css/devices")
    seconds = time.perf_counter() - start
    mib = (resident().rss - base) / 2**20
    start = time.perf_counter()
    for name in names:
        host.lstat(f"/sys/bus/css/devices/{name}/driver")
    every = {"seconds": time.perf_counter() - start, "mib": (resident().rss - base) / 2**20}
print(json.dumps({"n": len(names), "seconds": seconds, "mib": mib, "every": every}))
"""


def many_subchannels() -> list[Line]:
    """65,536 subchannels: time to build and list, memory."""
    answer = json.loads(subprocess.run([sys.executable, "-c", _MANY], check=True, capture_output=True).stdout)
    if answer["n"] != 65536:
        raise RuntimeError(f"{answer['n']} subchannels")
    return [
        Line("65,536 subchannels, build and list", f"{answer['seconds']:.2f} s", "2 s", 2 / answer["seconds"]),
        Line("65,536 subchannels, memory", f"{answer['mib']:.0f} MiB", "200 MB", 190.7 / max(answer["mib"], 0.1)),
        Line(
            "65,536 subchannels, each one looked at",
            f"{answer['every']['seconds']:.1f} s, {answer['every']['mib']:.0f} MiB",
            "(none)",
            float("nan"),
        ),
    ]


def list_command() -> Line:
    """`pyvfio list` on a small machine, as a process."""
    command = [str(Path(sys.executable).parent / "pyvfio"), "list", "--machine", "lab-s390x"]
    seconds = best(lambda: subprocess.run(command, check=True, capture_output=True), 3, rounds=5)
    python = best(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 3)
    return Line(
        "pyvfio list, whole process",
        f"{seconds * 1000:.0f} ms ({seconds / python:.1f}x python)",
        "150 ms",
        0.15 / seconds,
    )


def pci_tools() -> list[Line]:
    """`pyvfio list` beside lspci, dpdk-devbind.py and driverctl, on one tree of 4,096 PCI functions (a minute)."""
    return run_inside("pci_tools.py", "pyvfio list beside Debian's tools")


def lscss() -> list[Line]:
    """`pyvfio lscss` on 65,536 subchannels, as files and on the software machine (a minute)."""
    return run_inside("subchannels.py", "lscss of 65,536 subchannels")


def _compiled() -> None:
    """Have the processes that are measured find compiled modules, as after ``pip install``, which compiles them.

    Where PYTHONDONTWRITEBYTECODE is set, each process would compile all that it imports: twice the time of the command.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).resolve().parents[2] / "build" / "bench" / "compiled")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    _compiled()
    lines: list[Line] = []
    parts = (
        seam_overhead,
        config_reads,
        map_pairs,
        dma_copy,
        boot,
        sense_id,
        dasd_read,
        dasd_write,
        zpci,
        pcie,
        pcie_vfio,
        ioda,
        nvme,
        many_subchannels,
        list_command,
    )
    parts += (pci_tools, lscss)
    for number, part in enumerate(parts, 1):
        print(f"[{number}/{len(parts)}] {(part.__doc__ or '').splitlines()[0]}", file=sys.stderr)
        result = part()
        lines += result if isinstance(result, list) else [result]
    if options.json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
        return
    rows = [("what", "figure", "target", "ratio")]
    rows += [(one.what, one.figure, one.against, "" if isnan(one.ratio) else f"{one.ratio:.2f}x") for one in lines]
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    for what, figure, against, ratio in rows:
        print(f"{what:<{widths[0]}}  {figure:>{widths[1]}}  {against:<{widths[2]}}  {ratio:>{widths[3]}}".rstrip())
    print("ratio: how many times better than the target (1.00x just meets it)")


if __name__ == "__main__":
    main()
