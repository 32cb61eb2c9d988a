"""IODA, the I/O architecture of POWER servers: formats, arithmetic and words that hardware, Linux and programs share.

A partitionable endpoint (PE) is what is isolated: functions with a routing id that names it, segments of the host
bridge's windows to memory and I/O space, windows of DMA addresses, and message interrupts.  An error freezes all of it.

=============  ===============================================================================
`routing`      routing ids compared by bus, device and function
`segments`     outbound windows of equal segments
`grouping`     which buses, endpoints and segments belong together, as Linux makes them
`window`       a window of DMA addresses: page size, levels, sizes of its tables
`tce`          translation control entries, and the entries (TVE) that name a table
`table`        tables of several levels in memory
`message`      interrupt messages: which address and data is which interrupt
`pest`         the state of an endpoint, and what froze it
`diagnosis`    the error log of a host bridge (`diagnosis_text`: as Linux prints it; `bridge_log`: had from it)
`operations`   what a program can do with an endpoint through VFIO, and its states
`pe`           `Pe`: those operations, of a device that is open
`injection`    where an error that is made on purpose strikes: a register, a base address, a DMA address
`status`       what sysfs tells of endpoints, and VFIO without a device's being opened
=============  ===============================================================================

Numbers that Linux's headers have are in `pyvfio.abi.eeh`, `pyvfio.abi.opal` and `pyvfio.abi.opal_diag`.  `Pe` is loaded
when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.lazy_names import lazy_names

if TYPE_CHECKING:
    from pyvfio.ioda.pe import Pe

__all__ = ["Pe"]

__getattr__, __dir__ = lazy_names(__name__, {"pe": "Pe"})
