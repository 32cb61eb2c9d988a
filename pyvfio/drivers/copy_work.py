"""Copies of whole tracks between a disk and an image file."""

from __future__ import annotations

from pyvfio.drivers.ckd_file import CkdFile
from pyvfio.drivers.failures import VerifyFailed
from pyvfio.drivers.format_work import FormatWork
from pyvfio.drivers.work import Progress, Work, untold
from pyvfio.errors import Misuse

__all__ = ["CopyWork"]


class CopyWork(FormatWork):
    """All records of tracks, whatever is on them; R0 is not copied."""

    def fits(self, image: CkdFile) -> None:
        """Raise `Misuse` unless every track of the image is one of the disk, with the same capacity."""
        there = self.disk
        if (image.device_type, image.heads) != (there.device_type, there.heads) or image.cylinders > there.cylinders:
            words = f"the image is of a {image.device_type:04x} with {image.cylinders} cylinders"
            cause = f"{words}, the disk a {there.device_type:04x} with {there.cylinders}"
            raise Misuse("copy to DASD", self.name, cause=cause)

    def copy_to(
        self, image: CkdFile, first: int, count: int | None, progress: Progress = untold, *, verify: bool = False
    ) -> Work[None]:
        """Copy tracks (default: to the end) into an image of the same geometry; with `verify` read them there again.

        Raise `Misuse` for an image of another geometry, `VerifyFailed`.
        """
        total = self.disk.tracks - first if count is None else count
        if (image.device_type, image.cylinders) != (self.disk.device_type, self.disk.cylinders):
            self.fits(image)
            if first + total > image.tracks:
                cause = f"the image has {image.cylinders} cylinders, the disk {self.disk.cylinders}"
                raise Misuse("copy to image", str(image.path), cause=cause)
        for at, step in self.track_runs(first, total):
            images = yield from self.read_tracks(at, step)
            for one in images:
                image.write(one)
            if verify:
                for track, wanted in enumerate(images, at):
                    if image.read(track) != wanted:
                        raise VerifyFailed("verify copy", str(image.path), "track", track)
            progress(step)

    def copy_from(
        self,
        image: CkdFile,
        first: int,
        count: int | None,
        progress: Progress = untold,
        *,
        verify: bool = False,
        changed: bool = False,
    ) -> Work[None]:
        """Copy tracks (default: all of the image) to the disk; with `changed` only those that are different there.

        Raise `Misuse` for an image of another type of disk or of more cylinders, `VerifyFailed`.
        """
        self.fits(image)
        total = image.tracks - first if count is None else count
        for at, step in self.track_runs(first, total):
            if at + step > image.tracks:
                raise Misuse("copy to DASD", self.name, cause=f"the image ends with track {image.tracks - 1}")
            images = [image.read(track) for track in range(at, at + step)]
            if changed:
                there = yield from self.read_tracks(at, step)
                images = [wanted for wanted, found in zip(images, there, strict=True) if wanted != found]
            yield from self.write_tracks(images, verify=verify)
            progress(step)
        yield from self.analyse()
