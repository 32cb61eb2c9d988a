"""The file system of an image (``--root``), which somebody else may have made: its links must not lead out of it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from pyvfio.binding.step import Step
from pyvfio.errors import Misuse
from pyvfio.sysfs import Sysfs

__all__ = ["require_inside"]

_LINKS = 40
"""As many as the kernel follows on one path (``MAXSYMLINKS``, ``include/linux/namei.h``)."""


def require_inside(sysfs: Sysfs, root: str, steps: Iterable[Step]) -> None:
    """Raise `Misuse` when a link below `root` (empty: the host itself) leads what a step writes out of it.

    A link in an image counts from the top of the host when it is followed here: ``etc -> /etc`` is the host's.
    """
    if root:
        for path in (path for step in steps for path in step.paths):
            _walk(sysfs, posixpath.normpath(root), path)


def _walk(sysfs: Sysfs, top: str, path: str) -> None:
    left = posixpath.relpath(path, top).split("/")[::-1]
    at, links = top, 0
    while left:
        at = f"{at.rstrip('/')}/{left.pop()}"
        target = sysfs.link(at)
        if target is None:
            continue
        links += 1
        if links > _LINKS or posixpath.commonpath((target, top)) != top:
            raise Misuse(
                "write into image",
                path,
                path=at,
                cause=f"a link leads out of {top}, to {target}",
                next_step="make it a relative link or a directory, or change the image from inside (chroot)",
            )
        left += posixpath.relpath(target, top).split("/")[::-1]
        at = top
