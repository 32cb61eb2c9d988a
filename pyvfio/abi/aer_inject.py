"""``/dev/aer_inject``: errors that Linux's module ``aer_inject`` makes (``drivers/pci/pcie/aer_inject.c``, 6.12).

There is no header: the structure is the module's own, written in one ``write``.  Before Linux 3.2 it ended before
`domain`, and such a write is still taken.  Numbers are in the order of the host::

    bus, device, function, (1 byte of padding), uncorrectable status, correctable status, header log (4 words), domain
"""

from __future__ import annotations

from struct import Struct

__all__ = ["AER_INJECT", "AER_INJECT_MODULE", "AER_INJECT_NODE", "AER_INJECT_WITHOUT_DOMAIN"]

AER_INJECT = Struct("=3Bx7I")
"""``struct aer_error_inj``."""
AER_INJECT_WITHOUT_DOMAIN = AER_INJECT.size - 4
"""The least number of bytes that a write may have."""
AER_INJECT_NODE = "/dev/aer_inject"
AER_INJECT_MODULE = "aer_inject"
