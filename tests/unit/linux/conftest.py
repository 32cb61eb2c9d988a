"""A machine with fake VFIO devices, and memory for their DMA."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pci_fixture import Pci
from vfio_fixture import PAGE, Lab

from pyvfio.process import AnonymousMemory


@pytest.fixture
def vfio_lab() -> Iterator[Lab]:
    lab = Lab()
    with lab.host:
        yield lab


@pytest.fixture
def dma_memory() -> Iterator[AnonymousMemory]:
    with AnonymousMemory(64 * PAGE) as memory:
        yield memory


@pytest.fixture
def pci() -> Iterator[Pci]:
    lab = Pci()
    with lab.host:
        yield lab
