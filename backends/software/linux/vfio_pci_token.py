"""VF tokens: the secret that the user of a physical function shares with the users of its virtual functions.

The model is ``vfio_pci_validate_vf_token()`` and ``vfio_pci_core_match()`` in ``drivers/vfio/pci/vfio_pci_core.c``
(6.12).  The token follows the device's name in VFIO_GROUP_GET_DEVICE_FD; a device that is opened by its own node is
not asked for one.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_core import FEATURE_DATA, check_feature
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_pci import VfioPciDevice

__all__ = ["VfTokens", "read_token"]

_OPTIONS = re.compile(r" *(?:vf_token=([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}) *)?\Z")
_LENGTH = 16


def read_token(options: str) -> bytes | None:
    """The token in what follows a device's name, None without one.  Raise OSError EINVAL for anything else."""
    match = _OPTIONS.match(options)
    if match is None:
        raise fail(errno.EINVAL)
    return None if match[1] is None else bytes.fromhex(match[1].replace("-", ""))


class VfTokens:
    """What one device has to do with VF tokens.

    `token` is that of a physical function, random at first, and `users` how many of its virtual functions are open.
    `physical` is, of a virtual function, the physical one if vfio-pci made it.
    """

    def __init__(self, vdev: VfioPciDevice) -> None:
        self.vdev = vdev
        self.token: bytes | None = None
        self.users = 0
        self.physical: VfioPciDevice | None = None

    def opened(self, change: int) -> None:
        """A virtual function was opened (1) or closed (-1)."""
        if self.physical is not None:
            self.physical.tokens.users += change

    def check(self, given: bytes | None) -> None:
        """Whether the device may be opened with this token.  Raise OSError EACCES (wrong or missing), EINVAL."""
        if self.vdev.pdev.physfn is not None:
            if self.physical is None:
                if given is not None:
                    raise fail(errno.EINVAL)
            elif given != self.physical.tokens.token:
                raise fail(errno.EACCES)
        elif self.token is not None:
            if self.users and given != self.token:
                raise fail(errno.EACCES)
            if not self.users and given is not None:
                self.token = given
        elif given is not None:
            raise fail(errno.EINVAL)

    def feature(self, flags: int, argument: Argument, size: int) -> None:
        """VFIO_DEVICE_FEATURE_PCI_VF_TOKEN: set the token.  Raise OSError ENOTTY for no physical function."""
        if self.token is None:
            raise fail(errno.ENOTTY)
        if check_feature(flags, size, abi.VFIO_DEVICE_FEATURE_SET, _LENGTH):
            self.token = argument.read(FEATURE_DATA, _LENGTH)
