"""All that a DASD driver does, as generators: `DiskWork`, and the names that go with it."""

from __future__ import annotations

from pyvfio.drivers.block_work import Piece
from pyvfio.drivers.copy_work import CopyWork
from pyvfio.drivers.ibm_partitions import Partition
from pyvfio.drivers.online import CONTROL_UNITS
from pyvfio.drivers.volume_work import Located
from pyvfio.drivers.work import Request, Stream, Work

__all__ = ["CONTROL_UNITS", "DiskWork", "Located", "Partition", "Piece", "Request", "Stream", "Work"]


class DiskWork(CopyWork):
    """The operations of one disk, and what is known of it.  Blocks and tracks are numbers from 0."""
