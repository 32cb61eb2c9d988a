"""A block device below its sysfs directory: who claims it, and the files that open its node.

The kernel's ``struct block_device`` (``block/bdev.c``, ``block/fops.c``): a mount, swap or a device that stands on this
one is its holder, O_EXCL makes an opener one, and there is one at a time.  While a part of a disk is held, nobody can
hold the whole.  A mounted device is not opened for writing (this kernel has no ``CONFIG_BLK_DEV_WRITE_MOUNTED``).
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.file import File, SeekableFile
from pyvfio_backends.software.linux.vfs import CharacterDevice, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.uaccess import Argument

__all__ = ["BlockDevice", "BlockNode", "Content"]


class Content(Protocol):
    """The bytes of a block device (`medium.image`)."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, count: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> int: ...


class BlockDevice:
    """One block device; `whole` is the disk that a partition belongs to, and `content` makes its bytes when they are
    first asked for.

    `users` counts the openers and holders of a disk and of its partitions; when the disk is gone and the last of them
    goes, `forgotten` is called.
    """

    def __init__(
        self, content: Callable[[], Content], *, whole: BlockDevice | None = None, readonly: bool = False
    ) -> None:
        self._make = content
        self._content: Content | None = None
        self.whole = whole or self
        self.readonly = readonly
        self.holder: object | None = None
        self.mounted = False
        self.held_parts = 0
        self.users = 0
        self.gone = False
        self.below: tuple[BlockDevice, ...] = ()
        """The devices that it stands on."""
        self.needs_all = True
        """Whether it fails with any of those below, or only with all of them (a mirror)."""
        self.forgotten: Callable[[], None] = lambda: None

    @property
    def content(self) -> Content:
        """The bytes."""
        if self._content is None:
            self._content = self._make()
        return self._content

    def refill(self, content: Callable[[], Content]) -> None:
        """Have other bytes."""
        self._make, self._content = content, None

    @property
    def dead(self) -> bool:
        """Whether nothing can be read any more, as its disk or what it stands on is gone."""
        lost = [below.dead for below in self.below]
        return self.whole.gone or (bool(lost) and (any(lost) if self.needs_all else all(lost)))

    def claim(self, holder: object) -> None:
        """Become the holder, or be it once more.  Raise OSError EBUSY (``bd_may_claim``)."""
        whole = self.whole
        if self.holder is not None:
            if self.holder is not holder:
                raise fail(errno.EBUSY)
        elif (whole is not self and whole.holder is not None) or self.held_parts:
            raise fail(errno.EBUSY)
        else:
            self.holder = holder
            if whole is not self:
                whole.held_parts += 1
        whole.users += 1

    def release(self) -> None:
        """The holder lets go."""
        self.holder = None
        if self.whole is not self:
            self.whole.held_parts -= 1
        self.put()

    def put(self) -> None:
        """An opener or holder of the disk is gone."""
        whole = self.whole
        whole.users -= 1
        if whole.gone and not whole.users:
            whole.forgotten()

    def open(self, path: str, flags: int) -> File:
        """Open the node.  Raise OSError EBUSY."""
        writes = flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
        file = _BlockFile(self, exclusive=bool(flags & os.O_EXCL))
        if writes and self.mounted:
            raise fail(errno.EBUSY, path)
        if file.exclusive:
            try:
                self.claim(file)
            except OSError as error:
                raise fail(errno.EBUSY, path) from error
        else:
            self.whole.users += 1
        return file


class BlockNode(CharacterDevice):
    """The node of a block device."""

    __slots__ = ()

    def __init__(self, major: int, minor: int, device: BlockDevice, mode: int = 0o600) -> None:
        super().__init__(major, minor, device.open, mode)
        self.st_mode = stat.S_IFBLK | mode


class _BlockFile(SeekableFile):
    __slots__ = ("_device", "exclusive")

    def __init__(self, device: BlockDevice, *, exclusive: bool) -> None:
        super().__init__()
        self._device = device
        self.exclusive = exclusive

    def pread(self, n: int, offset: int) -> bytes:
        device = self._device
        if device.dead:
            if device.gone:  # a disk that is gone has no bytes left; its partitions still count theirs
                return b""
            raise fail(errno.EIO)
        return device.content.read(offset, n)

    def pwrite(self, data: bytes, offset: int) -> int:
        device = self._device
        if device.readonly:
            raise fail(errno.EPERM)
        if not data:
            return 0
        if device.gone or offset >= device.content.size:
            raise fail(errno.ENOSPC)
        if device.dead:
            raise fail(errno.EIO)
        return device.content.write(offset, data)

    def ioctl(self, request: int, argument: Argument) -> int:
        raise NotModelled("ioctl of a block device")

    def mmap(self, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        raise NotModelled("a mapping of a block device")

    def fsync(self) -> None:
        """What was written is on the medium at once."""

    def release(self) -> None:
        if self.exclusive:
            self._device.release()
        else:
            self._device.put()
