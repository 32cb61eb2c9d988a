"""The NVMe driver with random operations, against a plain array of bytes, whatever the queue and the transfer size."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyvfio
from pyvfio.drivers import Nvme
from pyvfio.testing.devices import BoundFunction

ADDRESS = "0001:01:00.0"
BLOCKS, SIZE = 64, 4 << 10

operations = st.lists(
    st.tuples(
        st.sampled_from(["write", "zero", "read", "many", "flush", "again"]),
        st.integers(0, BLOCKS - 1),
        st.integers(0, BLOCKS),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def host() -> Iterator[pyvfio.Host]:
    with pyvfio.Host("software", machine="q35-switch") as opened, BoundFunction(opened.backend, ADDRESS):
        yield opened


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    operations=operations,
    depth=st.sampled_from([1, 3, 32]),
    transfer=st.sampled_from([SIZE, 5 * SIZE, 1 << 20]),
    interrupts=st.sampled_from(["auto", "intx", "poll"]),
    queues=st.sampled_from([1, 3]),
    seed=st.integers(0, 255),
)
def test_it_is_an_array_of_blocks(
    host: pyvfio.Host,
    operations: list[tuple[str, int, int]],
    depth: int,
    transfer: int,
    interrupts: str,
    queues: int,
    seed: int,
) -> None:
    generator = random.Random(seed)
    with pyvfio.open_device(host, ADDRESS) as device:
        disk = Nvme(device, depth=depth, transfer=transfer, interrupts=interrupts, queues=queues)
        with disk:
            disk.write_zeroes(0, BLOCKS)
            model = bytearray(BLOCKS * SIZE)
            for what, first, count in operations:
                count = min(count, BLOCKS - first)
                place = slice(first * SIZE, (first + count) * SIZE)
                if what == "write":
                    model[place] = generator.randbytes(count * SIZE)
                    disk.write(first, model[place])
                elif what == "zero":
                    model[place] = bytes(count * SIZE)
                    disk.write_zeroes(first, count)
                elif what == "read":
                    assert disk.read(first, count) == model[place]
                elif what == "many":
                    found = disk.read_many([(lba, 1) for lba in range(first, first + count)])
                    assert b"".join(found) == model[place]
                elif what == "flush":
                    disk.flush()
                else:
                    disk.close()
                    disk.start()
            assert disk.read(0, BLOCKS) == model
        assert device.space.mappings() == []
