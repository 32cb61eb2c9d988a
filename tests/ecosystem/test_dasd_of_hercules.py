"""The DASD driver on volumes that Debian's `hercules` made, and what it wrote there read by its tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pyvfio
from pyvfio import CcwDevice
from pyvfio.drivers import Dasd, TrackImage, TrackRecord
from pyvfio.drivers.ckd_file import CkdFile
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec

NUMBER = "0.0.1000"
SIZE = 4 * 1024


@contextmanager
def volume(path: Path) -> Iterator[Dasd]:
    """The driver on the image."""
    unit = SubchannelSpec(schid="0.0.0000", device=NUMBER, unit="dasd-3390", options={"image": str(path)})
    spec = MachineSpec("one-disk", paths=[ChannelPathSpec(0)], subchannels=[unit])
    with pyvfio.open_backend("software", machine=spec) as backend, pyvfio.Host(backend) as host:
        pyvfio.ccw_take(host, NUMBER)
        with pyvfio.open_device(host, NUMBER) as device, CcwDevice(device) as channel:
            with Dasd(channel, name=NUMBER) as disk:
                yield disk


@pytest.mark.parametrize("options", [(), ("-linux",)])
def test_a_volume_of_dasdinit(hercules: Callable[..., str], tmp_path: Path, options: tuple[str, ...]) -> None:
    hercules("dasdinit", *options, tmp_path / "v.ckd", "3390", "LNX001", 5)
    with volume(tmp_path / "v.ckd") as disk:
        assert disk.label is not None
        assert disk.label.volser == "LNX001"
        assert (disk.layout is not None) == bool(options)
        assert disk.characteristics.cylinders == 5
        disk.vtoc()
        disk.format(2, 73)  # behind label and VTOC
        disk.write_track(TrackImage(1, 0, (TrackRecord(1, 0, 1, b"key", b"data"),)))
    hercules("ckd2cckd", "-q", tmp_path / "v.ckd", tmp_path / "v.cckd")
    hercules("cckd2ckd", "-q", tmp_path / "v.cckd", tmp_path / "back.ckd")
    with CkdFile(tmp_path / "v.ckd") as one, CkdFile(tmp_path / "back.ckd") as other:
        assert one.cylinders == 5
        assert [one.read(track) for track in range(75)] == [other.read(track) for track in range(75)]
        assert one.read(15).records == (TrackRecord(1, 0, 1, b"key", b"data"),)
        assert [len(record.data) for record in one.read(74).records] == [SIZE] * 12
