"""A card alone below a root port, its registers reached through the fabric."""

from __future__ import annotations

from pcie_rig import IO, MASTER, Host

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import root_port
from pyvfio_backends.software.hardware.pcie.request import Space
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex

MESSAGE_ADDRESS, MESSAGE_DATA = 0xFEE00000, 0x40


class Board:
    """`load` and `store` at an offset of a BAR, the host's memory, and the interrupts that arrived."""

    def __init__(self, function: Function) -> None:
        self.host = Host()
        self.function = function
        self.complex = RootComplex(self.host)
        port = root_port()
        self.complex.add_root_bus().plug(port, 1)
        port.plug(function)
        Firmware().set_up(self.complex)
        function.config.write(regs.PCI_COMMAND, 2, function.config.command | MASTER)

    @property
    def memory(self) -> bytearray:
        return self.host.memory

    def load(self, offset: int, length: int = 4, *, bar: int = 0) -> int:
        chosen = self.function.bars[bar]
        space = Space.IO if chosen.flags & IO else Space.MEMORY
        return self.complex.load(self.function.address(chosen) + offset, length, space=space)

    def store(self, offset: int, value: int, length: int = 4, *, bar: int = 0) -> None:
        chosen = self.function.bars[bar]
        space = Space.IO if chosen.flags & IO else Space.MEMORY
        self.complex.store(self.function.address(chosen) + offset, length, value, space=space)

    @property
    def pin(self) -> bool:
        return self.function.pin.out

    def enable_msi(self) -> None:
        config, at = self.function.config, self.function.offset(regs.PCI_CAP_ID_MSI)
        assert at is not None
        config.write(at + regs.PCI_MSI_ADDRESS_LO, 4, MESSAGE_ADDRESS)
        config.write(at + regs.PCI_MSI_DATA_64, 2, MESSAGE_DATA)
        config.write(at + regs.PCI_MSI_FLAGS, 2, regs.PCI_MSI_FLAGS_ENABLE)

    def enable_msix(self, table: int, vectors: int, *, bar: int = 0) -> None:
        """Vector n sends `MESSAGE_DATA` + n."""
        config, at = self.function.config, self.function.offset(regs.PCI_CAP_ID_MSIX)
        assert at is not None
        config.write(at + regs.PCI_MSIX_FLAGS, 2, regs.PCI_MSIX_FLAGS_ENABLE)
        for vector in range(vectors):
            for word, value in enumerate((MESSAGE_ADDRESS, 0, MESSAGE_DATA + vector, 0)):
                self.store(table + 16 * vector + 4 * word, value, bar=bar)

    def take_messages(self) -> list[int]:
        """The data of the messages that arrived since the last call, less `MESSAGE_DATA`."""
        found = [data - MESSAGE_DATA for _, _, data in self.host.messages]
        self.host.messages.clear()
        return found
