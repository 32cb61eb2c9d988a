"""Every register of the devices of `q35-switch`, written with random values in random order through vfio-pci.

Nothing may come back but an answer or a refusal, and the machine goes on: its disk and its edu work afterwards.  Some
of the values are addresses of memory that is mapped for DMA, so that devices start to read rubbish as queues and
descriptors.  ``PYVFIO_STEPS`` makes it longer.
"""

from __future__ import annotations

import os
import random

import pytest

import pyvfio
from pyvfio.drivers import Edu, Nvme
from pyvfio.errors import PyvfioError
from pyvfio.testing.devices import BoundFunction
from pyvfio.vfio import Device

STEPS = int(os.environ.get("PYVFIO_STEPS", "6000"))
DEVICES = {
    "edu": "0000:00:02.0",
    "nvme": "0000:01:00.0",
    "igb": "0000:02:00.0",
    "e1000e": "0000:05:00.0",
    "copier": "0000:06:00.0",
    "pci-testdev": "0000:09:00.0",
    "pair-nic": "0000:0a:00.0",
    "nvme of 4 KiB": "0001:01:00.0",
}
SEEDS = (1, 2)


def shake(device: Device, generator: random.Random, steps: int) -> None:
    """Write and read at random places, mostly registers that exist, with numbers that may mean something."""
    memory = device.space.buffer(64 << 10, below=1 << 28)
    memory.view[:] = generator.randbytes(len(memory.view))
    interesting = (0, 1, 2, 4, 0x460001, 0xFFFFFFFF, memory.iova, memory.iova + 0x1000, memory.iova + 0xFFFF, 0x7007F)
    regions = [device.region(index) for index in (0, 1, 2, 3, 4, 5, 7)]
    regions = [region for region in regions if region.size]
    offsets: dict[int, list[int]] = {region.index: [] for region in regions}
    for _ in range(steps):
        region = generator.choice(regions)
        size = generator.choice((1, 2, 4, 4, 4, 8))
        seen = offsets[region.index]
        near = generator.choice((0x40, 0x100, 0x1040, 0x40100, region.size))
        offset = generator.choice(seen) if seen and generator.random() < 0.5 else generator.randrange(region.size)
        offset = offset % min(near, region.size) // size * size
        if offset + size > region.size:
            continue
        value = generator.choice((generator.choice(interesting), generator.getrandbits(8 * size)))
        try:
            if generator.random() < 0.3:
                region.read(offset, size)
            else:
                region.write(offset, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))
            seen.append(offset)
        except PyvfioError:
            continue  # refused, or not modelled: said so


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_registers(name: str, seed: int) -> None:
    address = DEVICES[name]
    with pyvfio.Host("software", machine="q35-switch") as host:
        pyvfio.bind(host.device("0000:05:00.0"))  # of the copier's group, and e1000e has it
        with BoundFunction(host.backend, address):
            with pyvfio.open_device(host, address) as device:
                shake(device, random.Random(f"{name} {seed}"), STEPS // len(SEEDS))
            if "nvme" in name:
                with pyvfio.open_device(host, address) as device, Nvme(device) as disk:
                    disk.write_zeroes(0, 2)
                    assert disk.read(0, 2) == bytes(2 << disk.namespaces[1].order)
        with BoundFunction(host.backend, DEVICES["edu"]), pyvfio.open_device(host, DEVICES["edu"]) as device:
            with Edu(device) as edu:
                assert edu.factorial(6) == 720
