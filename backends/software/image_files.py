"""Images of disks that a machine file names: files beside it, each for one device."""

from __future__ import annotations

import os

from pyvfio_backends.software.description import PcieFunctionSpec, SubchannelSpec
from pyvfio_backends.software.file_report import Report

__all__ = ["ImageFiles"]


class ImageFiles:
    """The images beside the machine file in `folder`; `error` makes an exception of what is wrong."""

    def __init__(self, folder: str, error: Report) -> None:
        self._folder = folder
        self._error = error
        self._taken: set[str] = set()

    def find(self, row: SubchannelSpec | PcieFunctionSpec, where: tuple[str, ...], index: int) -> None:
        """Find the image of a row, if it has one.  Two devices cannot have one: they would not see each other's writes.

        Raise what `error` makes of it.
        """
        name = row.options.get("image")
        if not isinstance(name, str) or not name:
            return
        if "\0" in name:
            raise self._error((*where, "options"), f"{name!r} is no name of a file", index)
        path = os.path.join(self._folder, name)
        row.options["image"] = path
        if not row.options.get("readonly"):
            real = os.path.realpath(path)
            if real in self._taken or (isinstance(row, SubchannelSpec) and row.count > 1):
                raise self._error((*where, "options"), f"{name} is the image of two devices", index, "make a copy")
            self._taken.add(real)
