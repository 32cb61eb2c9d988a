"""Sequential reading and writing of a 3390 in an image file, through the driver and the whole vfio-ccw path."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import Line

import pyvfio
from pyvfio import CcwDevice
from pyvfio.drivers import Dasd
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.hardware.devices.ckd_image import create_image

CYLINDERS = 100
ROUNDS = 5
NUMBER = "0.0.1000"


def _dd(path: Path) -> float:
    """Bytes a second of `dd` with its own block size, on the file as it lies in the page cache."""
    start = time.perf_counter()
    subprocess.run(["dd", f"if={path}", "of=/dev/null"], check=True, stderr=subprocess.DEVNULL)
    return os.path.getsize(path) / (time.perf_counter() - start)


def _read(disk: Dasd) -> float:
    """Bytes a second of all blocks but those of the first tracks."""
    start, size = time.perf_counter(), 0
    for part in disk.blocks(disk.work.formatted().first_plain):
        size += len(part)
    return size / (time.perf_counter() - start)


def _write(disk: Dasd) -> float:
    """Bytes a second of writing the blocks of half the cylinders."""
    layout = disk.work.formatted()
    data = bytes(range(256)) * (layout.block_size // 256 * layout.per_track * disk.characteristics.heads)
    start, size = time.perf_counter(), 0
    for cylinder in range(1, CYLINDERS // 2):
        disk.write_blocks(cylinder * disk.characteristics.heads * layout.per_track, data)
        size += len(data)
    return size / (time.perf_counter() - start)


@contextmanager
def _disk() -> Iterator[tuple[Dasd, Path]]:
    """A formatted disk in a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disk.ckd"
        create_image(path, "3390-1", CYLINDERS)
        unit = SubchannelSpec(schid="0.0.0000", device=NUMBER, unit="dasd-3390", options={"image": str(path)})
        spec = MachineSpec("one-disk", paths=[ChannelPathSpec(0)], subchannels=[unit])
        with pyvfio.open_backend("software", machine=spec) as backend, pyvfio.Host(backend) as host:
            pyvfio.ccw_take(host, NUMBER)
            with pyvfio.open_device(host, NUMBER) as device, CcwDevice(device) as channel, Dasd(channel) as disk:
                disk.format()
                yield disk, path


def dasd_write() -> Line:
    """Sequential write of a DASD: the best of several rounds."""
    with _disk() as (disk, _):
        rate = max(_write(disk) for _ in range(ROUNDS))
    return Line("DASD sequential write", f"{rate / 1e6:.0f} MB/s", "at least 10 MB/s", rate / 1e7)


def dasd_read() -> Line:
    """Sequential read of a DASD beside `dd`: the best of several rounds each, in turns."""
    with _disk() as (disk, path):
        rounds = [(_read(disk), _dd(path)) for _ in range(ROUNDS)]
    ours, theirs = max(rate for rate, _ in rounds), max(rate for _, rate in rounds)
    figure = f"{ours / 1e6:.0f} MB/s ({ours / theirs:.0%} of dd's {theirs / 1e6:.0f})"
    return Line("DASD sequential read / dd of the same file", figure, "at least 25%", ours / theirs / 0.25)


if __name__ == "__main__":
    print(dasd_read())
    print(dasd_write())
