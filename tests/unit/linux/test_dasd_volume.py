"""The disk that the host's driver makes of a DASD's volume: the same bytes that channel programs see."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pyvfio.backend import open_backend
from pyvfio_backends.software import MachineSpec, SoftwareBackend
from pyvfio_backends.software.description import ChannelPathSpec, SubchannelSpec
from pyvfio_backends.software.hardware.devices.ckd_image import CkdImage, create_image
from pyvfio_backends.software.hardware.devices.ckd_track import Record, Track
from pyvfio_backends.software.hardware.devices.eckd_volume import EmptyVolume, partitioned_track

BLOCK = 4096
EMPTY = EmptyVolume("BLK001", 3)


def machine(**options: object) -> SoftwareBackend:
    row = SubchannelSpec(
        "0.0.0000", "0.0.0200", "dasd-3390", driver="dasd-eckd", online=True, chpids=(0,), options=dict(options)
    )
    backend = open_backend("software", machine=MachineSpec("dasd", paths=[ChannelPathSpec(0)], subchannels=[row]))
    assert isinstance(backend, SoftwareBackend)
    return backend


@pytest.fixture
def image(tmp_path: Path) -> CkdImage:
    tracks = [EMPTY.read(cylinder, head) for cylinder in range(3) for head in range(15)]
    return create_image(tmp_path / "a.ckd", "3390-1", 3, tracks)


def attribute(host: SoftwareBackend, path: str) -> str:
    fd = host.open(f"/sys/block/dasda/{path}", os.O_RDONLY)
    try:
        return host.read(fd, 100).decode().strip()
    finally:
        host.close(fd)


def test_an_unformatted_volume_is_an_empty_disk(tmp_path: Path) -> None:
    create_image(tmp_path / "raw.ckd", "3390-1", 2)
    with machine(image=str(tmp_path / "raw.ckd")) as host:
        assert attribute(host, "size") == "0"
        fd = host.open("/dev/dasda", os.O_RDONLY)
        assert host.read(fd, 10) == b""
        host.close(fd)


def test_a_missing_record_is_an_input_output_error(image: CkdImage) -> None:
    image.write(Track(1, 0, (Record(1, 0, 0, b"", bytes(8)),)))
    with machine(image=str(image.path)) as host:
        fd = host.open("/dev/dasda", os.O_RDWR)
        for call in (lambda: host.pread(fd, BLOCK, 15 * 12 * BLOCK), lambda: host.pwrite(fd, b"x", 15 * 12 * BLOCK)):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EIO
        host.close(fd)


def test_the_image_is_the_disk(image: CkdImage) -> None:
    with machine(image=str(image.path)) as host:
        assert (attribute(host, "size"), attribute(host, "ro")) == (str(3 * 15 * 12 * 8), "0")
        fd = host.open("/dev/dasda", os.O_RDWR)
        label = host.pread(fd, BLOCK, 2 * BLOCK)
        assert label[:14].decode("cp037") == "VOL1VOL1BLK001"
        assert label[84:] == b"\xe5" * (BLOCK - 84)
        content = bytes(range(256)) * 40
        assert host.pwrite(fd, content, 20 * BLOCK + 100) == len(content)
        assert host.pread(fd, len(content), 20 * BLOCK + 100) == content
        host.close(fd)
    image.check()
    on_track = b"".join(record.data for record in image.read(0, 1).records[9:])
    assert on_track[100 : 100 + len(content)] == content


def test_a_read_only_volume(image: CkdImage) -> None:
    with machine(image=str(image.path), readonly=True) as host:
        assert attribute(host, "ro") == "1"


def test_a_volume_in_memory_that_can_be_written() -> None:
    with machine(readonly=False, cylinders=3) as host:
        fd = host.open("/dev/dasda", os.O_RDWR)
        assert host.pwrite(fd, b"kept", 30 * BLOCK) == 4
        assert host.pread(fd, 4, 30 * BLOCK) == b"kept"
        host.close(fd)


@pytest.mark.parametrize(("options", "cylinders"), [({"model": "3390-3"}, 3339), ({"cylinders": 7}, 7), ({}, 30051)])
def test_the_size_of_a_volume_that_is_not_written(options: dict[str, object], cylinders: int) -> None:
    with machine(**options) as host:
        assert (attribute(host, "size"), attribute(host, "ro")) == (str(cylinders * 15 * 12 * 8), "1")


def test_its_partitions(tmp_path: Path) -> None:
    """As ``block/partitions/ibm.c`` finds them; what is written to one is on the volume."""
    tracks = [EMPTY.read(cylinder, head) for cylinder in range(3) for head in range(15)]
    tracks[1] = partitioned_track("BLK001", 3)
    create_image(tmp_path / "p.ckd", "3390-1", 3, tracks)
    with machine(image=str(tmp_path / "p.ckd")) as host:
        assert attribute(host, "dasda1/start") == str(2 * 12 * 8)
        assert attribute(host, "dasda1/size") == str(43 * 12 * 8)
        assert attribute(host, "dasda1/partition") == "1"
        fd = host.open("/dev/dasda1", os.O_RDWR)
        host.pwrite(fd, b"first", 0)
        host.close(fd)
        fd = host.open("/dev/dasda", os.O_RDONLY)
        assert host.pread(fd, 5, 24 * BLOCK) == b"first"
        host.close(fd)


def test_blocks_of_another_size(tmp_path: Path) -> None:
    """The Linux disk layout with 2 KiB: 21 blocks on a track, one partition behind the label."""
    tracks = []
    for number in range(45):
        cylinder, head = divmod(number, 15)
        records = [Record(cylinder, head, 0, b"", bytes(8))]
        records += [Record(cylinder, head, record, b"", bytes(2048)) for record in range(1, 22)]
        tracks.append(Track(cylinder, head, tuple(records)))
    create_image(tmp_path / "l.ckd", "3390-1", 3, tracks)
    with machine(image=str(tmp_path / "l.ckd")) as host:
        assert attribute(host, "queue/logical_block_size") == "2048"
        assert attribute(host, "size") == str(45 * 21 * 4)
        assert (attribute(host, "dasda1/start"), attribute(host, "dasda1/size")) == ("12", str((45 * 21 - 3) * 4))
