"""An address space in which nothing can be mapped from here."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pyvfio.errors import PyvfioError
from pyvfio.iommu.address_space import IovaRange, Mapping

__all__ = ["UnmappableTable"]


class UnmappableTable(ABC):
    """An `IommuTable` that refuses all that would map or ask for it; there is nothing to be removed or given up."""

    kind = ""
    name = ""

    @abstractmethod
    def refusal(self, operation: str) -> PyvfioError:
        """What is raised for an operation."""

    def map(self, mapping: Mapping) -> None:
        """See `IommuTable.map`."""
        raise self.refusal("map DMA")

    def unmap(self, iova: int, length: int) -> int:
        """See `IommuTable.unmap`."""
        raise self.refusal("unmap DMA")

    def unmap_all(self) -> int | None:
        """See `IommuTable.unmap_all`: nothing was mapped from here."""
        return 0

    def ranges(self) -> list[IovaRange]:
        """See `IommuTable.ranges`."""
        raise self.refusal("read IOVA ranges")

    def page_sizes(self) -> int:
        """See `IommuTable.page_sizes`."""
        raise self.refusal("read page sizes")

    def available(self) -> int | None:
        """See `IommuTable.available`: no number limits what cannot be done at all."""
        return None

    def close(self) -> None:
        """See `IommuTable.close`: nothing is here to be closed."""
        return
