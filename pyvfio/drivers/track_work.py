"""Tracks of a disk with all their records, formatted or not: reading and writing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pyvfio.drivers import programs
from pyvfio.drivers.disk_state import DiskState
from pyvfio.drivers.failures import VerifyFailed
from pyvfio.drivers.track import TrackImage
from pyvfio.drivers.work import Item, Request, Stream, Work
from pyvfio.errors import MalformedAnswer, NotAvailable

__all__ = ["TrackWork"]

_MOST_RECORDS: Final = 250
"""Records in one program that writes tracks."""


class TrackWork(DiskState):
    """Tracks by number, from 0."""

    def track_runs(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Cut tracks into what one program reads.  Raise `Misuse` when they are not all on the disk."""
        self._within("use tracks of DASD", first, count)
        if not self.disk.reads_tracks:
            raise NotAvailable("use tracks of DASD", self.name, cause="its control unit has no READ TRACK")
        most, end = programs.MOST_TRACKS, first + count
        return ((at, min(most, end - at)) for at in range(first, end, most))

    def tracks(self, first: int, count: int | None) -> Stream[TrackImage]:
        """Tracks with all their records (default: to the end), one by one."""
        total = self.disk.tracks - first if count is None else count
        for at, step in self.track_runs(first, total):
            for image in (yield from self.read_tracks(at, step)):
                yield Item(image)

    def read_tracks(self, first: int, count: int) -> Work[list[TrackImage]]:
        """Tracks of one run."""
        words = f"read tracks {first} to {first + count - 1}"
        came = yield Request(programs.read_tracks(self.disk, first, count), words)
        return [TrackImage.from_bytes(part, *self.disk.place(first + number)) for number, part in enumerate(came.parts)]

    def read_track(self, track: int) -> Work[TrackImage]:
        """One track."""
        for at, step in self.track_runs(track, 1):
            return (yield from self.read_tracks(at, step))[0]
        raise MalformedAnswer("read track", self.name, f"track {track} did not come")

    def write_track(self, image: TrackImage) -> Work[None]:
        """Write all records of a track; those that were there are gone."""
        yield from self.write_tracks([image])

    def write_tracks(self, images: Iterable[TrackImage], *, verify: bool = False) -> Work[None]:
        """Write tracks, consecutive ones together; with `verify` read them again.

        Raise `Misuse` for a place not on the disk, `VerifyFailed` when another track comes back.
        """
        for track, run in self._runs(images):
            if run[0].records:
                words = f"write track {track}" if len(run) == 1 else f"write tracks {track} to {track + len(run) - 1}"
                yield Request(programs.write_tracks(self.disk, track, run), words)
            else:
                yield Request(programs.erase_track(self.disk, track), f"erase track {track}")
            if verify:
                there = yield from self.read_tracks(track, len(run))
                for number, (wanted, found) in enumerate(zip(run, there, strict=True)):
                    if wanted != found:
                        raise VerifyFailed("verify tracks", self.name, "track", track + number)

    def _runs(self, images: Iterable[TrackImage]) -> Iterator[tuple[int, list[TrackImage]]]:
        """Consecutive tracks that one program writes, with the number of the first; one without records is alone."""
        run: list[TrackImage] = []
        begin = records = 0
        for image in images:
            track = image.cylinder * self.disk.heads + image.head
            self.disk.place(track)
            fits = (
                run
                and run[0].records
                and image.records
                and track == begin + len(run)
                and records + len(image.records) <= _MOST_RECORDS
                and len(run) < programs.MOST_TRACKS
            )
            if run and not fits:
                yield begin, run
                run = []
            if not run:
                begin, records = track, 0
            run.append(image)
            records += len(image.records)
        if run:
            yield begin, run
