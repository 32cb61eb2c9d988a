"""PCI functions without a machine, for vfio-pci's view of configuration space: of `ConfigSpace`, or of plain bytes."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.config import ConfigSpace
from pyvfio_backends.software.linux import pci_power
from pyvfio_backends.software.linux.pci_device import SavedState
from pyvfio_backends.software.linux.pci_vpd import PciVpd
from pyvfio_backends.software.linux.resource import Resource
from pyvfio_backends.software.linux.vfio_pci_config import VirtualConfig

HEADER_WORDS = 16
MOST_CAPABILITIES = 48


class Card:
    """A function whose registers are those of `config`; what is asked of it beside is counted in `resets`.

    `stores` are the writes of a program that arrived: offset, length, value.  `refuses` makes every access fail.
    """

    def __init__(self, config: ConfigSpace, resources: Sequence[Resource] = (), *, size: int = 0) -> None:
        self.name = "0000:00:01.0"
        self.config = config
        self.config_size = size or len(config.data)
        self.vendor, self.device_id = config.read(0, 2), config.read(2, 2)
        self.resources = [*resources, *(Resource() for _ in range(regs.PCI_STD_NUM_BARS + 1 - len(resources)))]
        self.no_command_memory = self.is_virtual = self.has_virtual_functions = self.disconnected = False
        self.power_state = "D0"
        self.refuses = False
        self.resets = 0
        self.stores: list[tuple[int, int, int]] = []
        self.vpd = self.product_data = PciVpd(self)

    def load_config(self, offset: int, length: int) -> int:
        assert length in (1, 2, 4)
        assert not offset % length
        if self.refuses:
            raise OSError(errno.EIO, "refused")
        return self.config.read(offset, length)

    def store_config(self, offset: int, length: int, value: int) -> None:
        self.load_config(offset, length)
        self.stores.append((offset, length, value))
        self.config.write(offset, length, value)

    def read_config(self, offset: int, length: int) -> int:
        return self.config.read(offset, length)

    def write_config(self, offset: int, length: int, value: int) -> None:
        self.config.write(offset, length, value)

    def config_at_once(self, first: int, end: int) -> bytes | None:
        return None

    def find_capability(self, number: int) -> int:
        at = self.config.read(regs.PCI_CAPABILITY_LIST, 1)
        for _ in range(MOST_CAPABILITIES):  # a program can write the link of a capability of the vendor's own
            if not at or self.config.read(at, 1) == number:
                return at
            at = self.config.read(at + regs.PCI_CAP_LIST_NEXT, 1)
        return 0

    def set_power_state(self, state: int) -> bool:
        return pci_power.set_power_state(self, state)

    def save_state(self) -> SavedState:
        return SavedState(tuple(self.config.read(4 * index, 4) for index in range(HEADER_WORDS)))

    def restore_state(self, saved: SavedState) -> None:
        for index, word in enumerate(saved.words):
            self.config.write(4 * index, 4, word)

    def try_reset(self) -> None:
        self.resets += 1

    def set_intx(self, on: bool) -> None:
        command = self.config.command & ~regs.PCI_COMMAND_INTX_DISABLE
        self.config.write(regs.PCI_COMMAND, 2, command | (0 if on else regs.PCI_COMMAND_INTX_DISABLE))

    def open(self) -> VirtualConfig:
        """What a program sees that opens it now."""
        return VirtualConfig(self, lambda: self.set_intx(False), lambda: self.set_intx(True), has_intx=True)


def conventional(view: VirtualConfig) -> list[tuple[int, int]]:
    """The chain of capabilities as a program walks it: offset and id."""
    found: list[tuple[int, int]] = []
    at = view.read(1, regs.PCI_CAPABILITY_LIST)[0] if view.read(1, regs.PCI_STATUS)[0] & regs.PCI_STATUS_CAP_LIST else 0
    while at and len(found) < MOST_CAPABILITIES:
        found.append((at, view.read(1, at)[0]))
        at = view.read(1, at + regs.PCI_CAP_LIST_NEXT)[0]
    return found


def extended(view: VirtualConfig) -> list[tuple[int, int]]:
    """The chain of extended capabilities as a program walks it: offset and id; a place without an id counts as none."""
    found: list[tuple[int, int]] = []
    at = regs.PCI_CFG_SPACE_SIZE if view.device.config_size > regs.PCI_CFG_SPACE_SIZE else 0
    while at and len(found) < 960:
        header = int.from_bytes(view.read(4, at), "little")
        if regs.pci_ext_cap_id(header):
            found.append((at, regs.pci_ext_cap_id(header)))
        at = regs.pci_ext_cap_next(header)
    return found
