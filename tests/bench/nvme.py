"""Random reads of 4 KiB through the whole way: the NVMe driver, vfio-pci, the IOMMU, the controller, a file.

The peer is ``os.preadv`` of the same places of the same file, which does nothing but the last step.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from measure import Line

import pyvfio
from pyvfio.binding import bind
from pyvfio.drivers import Nvme
from pyvfio_backends.software.description import MachineSpec, PcieBusSpec, PcieFunctionSpec

__all__ = ["nvme"]

_SIZE, _READ, _ROUNDS = 64 << 20, 4 << 10, 40
_COUNT = {1: 100, 32: 512}  # short rounds: on a busy machine some are left alone
_WANTED = {1: 5_000, 32: 10_000}
_ADDRESS = "0000:00:01.0"

Place = tuple[int, int]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peer(path: Path, places: Sequence[Place], order: int) -> None:
    """The same reads, one after the other, without anything between."""
    buffer = bytearray(_READ)
    fd = os.open(path, os.O_RDONLY)
    try:
        for lba, _ in places:
            if os.preadv(fd, [buffer], lba << order) != _READ:
                raise RuntimeError("the file is shorter than it was")
    finally:
        os.close(fd)


@contextmanager
def _disk(path: Path, depth: int) -> Iterator[Nvme]:
    function = PcieFunctionSpec("nvme", "0000:00", at="01.0", options={"image": str(path)})
    spec = MachineSpec(
        "one-nvme",
        architecture="x86_64",
        modules=("vfio", "vfio_iommu_type1", "iommufd", "vfio_pci"),
        pcie_buses=[PcieBusSpec()],
        pcie_functions=[function],
    )
    with pyvfio.open_backend("software", machine=spec) as backend, pyvfio.Host(backend) as host:
        bind(host.device(_ADDRESS))
        with pyvfio.open_device(host, _ADDRESS) as device, Nvme(device, depth=depth) as disk:
            yield disk


def _line(path: Path, depth: int) -> Line:
    with _disk(path, depth) as disk:
        order = disk.namespaces[1].order
        blocks, generator = _READ >> order, random.Random(depth)
        places = [(generator.randrange(_SIZE // _READ) * blocks, blocks) for _ in range(_COUNT[depth])]
        if disk.read_many(places[:1])[0] != path.read_bytes()[places[0][0] << order :][:_READ]:
            raise RuntimeError("what was read is not what is in the file")
        rounds = [
            (_seconds(lambda: disk.read_many(places)), _seconds(lambda: _peer(path, places, order)))
            for _ in range(_ROUNDS)
        ]
    ours, theirs = (len(places) / min(times) for times in zip(*rounds, strict=True))
    figure = f"{ours:,.0f}/s ({ours / theirs:.1%} of preadv's {theirs:,.0f})"
    wanted = _WANTED[depth]
    return Line(f"NVMe random reads of 4 KiB, queue depth {depth}", figure, f"{wanted:,}/s", ours / wanted)


def nvme() -> list[Line]:
    """Random reads with one command under way, and with 32."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disk.img"
        path.write_bytes(random.Random(0).randbytes(1 << 20) * (_SIZE >> 20))
        return [_line(path, depth) for depth in _COUNT]


if __name__ == "__main__":
    for line in nvme():
        print(line)
