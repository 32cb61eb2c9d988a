"""SR-IOV: a physical function whose registers make virtual functions, which the machine then has.

The registers are drawn in `pyvfio.abi.pci_regs`.  On IBM Z a virtual function is a function of its own for the
operating system, with its identifiers and handle: setting VF Enable configures as many as NumVFs says, and the machine
reports each of them; clearing it takes them away again.  The base addresses of the virtual functions are in their own
query answers, so those of the capability are empty.
"""

from __future__ import annotations

from collections.abc import Callable

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.config import ConfigSpace

__all__ = ["MOST_VFS", "VF_OFFSET", "VF_STRIDE", "Sriov", "make_express"]

VF_OFFSET, VF_STRIDE = 1, 1
"""The first virtual function follows its physical one, each next the one before, on bus 0: there is no other."""
MOST_VFS = 0xFF
"""As many as there are routing identifiers on the bus, besides the physical function's own."""
_EXPRESS = 0xA4
_VERSION = 2
_SPEED_8GT, _WIDTH, _WIDTH_SHIFT = 3, 8, 4
_SPEEDS_TO_8GT = 0b1110
_AT = regs.PCI_CFG_SPACE_SIZE
_PAGE_SIZES = 0x553  # 4 KiB to 4 MiB, the sizes that every device with SR-IOV must have
_CONTROL = regs.PCI_SRIOV_CTRL_VFE | regs.PCI_SRIOV_CTRL_MSE | regs.PCI_SRIOV_CTRL_ARI


def make_express(config: ConfigSpace) -> None:
    """Give a function 4 KiB of configuration space and the PCI Express capability of an endpoint.

    It offers no function-level reset: functions are reset by disabling and enabling them.
    """
    config.extend()
    body = bytearray(regs.PCI_CAP_EXP_ENDPOINT_SIZEOF_V2 - regs.PCI_CAP_FLAGS)

    def put(offset: int, value: int, length: int) -> None:
        at = offset - regs.PCI_CAP_FLAGS
        body[at : at + length] = value.to_bytes(length, "little")

    link = _WIDTH << _WIDTH_SHIFT | _SPEED_8GT
    put(regs.PCI_EXP_FLAGS, regs.PCI_EXP_TYPE_ENDPOINT << 4 | _VERSION, 2)
    put(regs.PCI_EXP_LNKCAP, link, 4)
    put(regs.PCI_EXP_LNKSTA, link, 2)
    put(regs.PCI_EXP_LNKCAP2, _SPEEDS_TO_8GT, 4)
    config.add_capability(_EXPRESS, regs.PCI_CAP_ID_EXP, bytes(body))
    control = 0xFFFF & ~(regs.PCI_EXP_DEVCTL_BCR_FLR | regs.PCI_EXP_DEVCTL_PHANTOM)
    config.allow(_EXPRESS + regs.PCI_EXP_DEVCTL, 2, control)
    config.kept = range(config.kept.start if config.kept else _EXPRESS, _AT)  # Linux restores it after a reset
    config.seal()


class Sriov:
    """The capability of a physical function that is PCI Express already.

    `on_enable` is called with the number of virtual functions when VF Enable is set, with 0 when it is cleared.
    The registers outlast a reset of the function, and so do the virtual functions.
    """

    def __init__(self, config: ConfigSpace, total: int, device_id: int, offset: int = VF_OFFSET) -> None:
        self.config = config
        self.total = total
        self.on_enable: Callable[[int], None] | None = None
        self._others = config.changed
        self._enabled = False
        put = self._put
        put(0, regs.PCI_EXT_CAP_ID_SRIOV | 1 << 16, 4)
        put(regs.PCI_SRIOV_INITIAL_VF, total, 2)
        put(regs.PCI_SRIOV_TOTAL_VF, total, 2)
        put(regs.PCI_SRIOV_VF_OFFSET, offset, 2)
        put(regs.PCI_SRIOV_VF_STRIDE, VF_STRIDE, 2)
        put(regs.PCI_SRIOV_VF_DID, device_id, 2)
        put(regs.PCI_SRIOV_SUP_PGSIZE, _PAGE_SIZES, 4)
        put(regs.PCI_SRIOV_SYS_PGSIZE, 1, 4)
        config.allow(_AT + regs.PCI_SRIOV_CTRL, 2, _CONTROL)
        config.allow(_AT + regs.PCI_SRIOV_NUM_VF, 2, 0xFFFF)
        config.allow(_AT + regs.PCI_SRIOV_SYS_PGSIZE, 4, _PAGE_SIZES)
        config.changed = self._written
        config.kept = range(config.kept.start, _AT + regs.PCI_EXT_CAP_SRIOV_SIZEOF)
        config.seal()

    def _put(self, offset: int, value: int, length: int) -> None:
        self.config.data[_AT + offset : _AT + offset + length] = value.to_bytes(length, "little")

    def _word(self, offset: int) -> int:
        return int.from_bytes(self.config.data[_AT + offset : _AT + offset + 2], "little")

    @property
    def number(self) -> int:
        """How many virtual functions there are now."""
        return min(self._word(regs.PCI_SRIOV_NUM_VF), self.total) if self._enabled else 0

    def _written(self, offset: int, length: int) -> None:
        if self._others is not None:
            self._others(offset, length)
        if not _AT <= offset < _AT + regs.PCI_EXT_CAP_SRIOV_SIZEOF:
            return
        enabled = bool(self._word(regs.PCI_SRIOV_CTRL) & regs.PCI_SRIOV_CTRL_VFE)
        if enabled != self._enabled:
            self._enabled = enabled
            if self.on_enable is not None:
                self.on_enable(self.number)

    def switch_off(self) -> None:
        """Clear VF Enable, as when the physical function leaves the machine."""
        self._put(regs.PCI_SRIOV_CTRL, self._word(regs.PCI_SRIOV_CTRL) & ~regs.PCI_SRIOV_CTRL_VFE, 2)
        self._put(regs.PCI_SRIOV_NUM_VF, 0, 2)
        self._written(_AT + regs.PCI_SRIOV_CTRL, 2)
