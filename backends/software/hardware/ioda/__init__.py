"""IODA hardware: host bridges of POWER servers, in which every access belongs to a partitionable endpoint.

::

    what there is     model: generations; phb: the bridge; port: its root port; hub: several bridges, one machine
    who is who        endpoints: frozen or not, and why; windows: from the processor; inbound: DMA and messages
    what is done      injection, injection_calls: errors on purpose; slot_reset: resets; error_log
    what is called    opal, opal_tables: the firmware's calls, with its return codes
    set-up            placement: addresses in segments of their own

It stands on `hardware.pcie` (a bridge is a `RootComplex`) and knows nothing of Linux.  Formats are in `pyvfio.ioda`.

>>> from pyvfio.ioda.routing import RidMatch
>>> from pyvfio.ioda.segments import Segments
>>> from pyvfio_backends.software.hardware.ioda.model import PHB4
>>> from pyvfio_backends.software.hardware.ioda.opal import Opal
>>> from pyvfio_backends.software.hardware.ioda.phb import Phb
>>> from pyvfio_backends.software.hardware.ioda.placement import apertures, arrange
>>> from pyvfio_backends.software.hardware.ioda.port import phb_port
>>> from pyvfio_backends.software.hardware.pcie.block import Memory
>>> from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS
>>> from pyvfio_backends.software.hardware.pcie.firmware import Firmware
>>> from pyvfio_backends.software.hardware.pcie.remapping import NOTHING
>>> port = phb_port(PHB4)
>>> phb = Phb(PHB4, NOTHING, port, Segments(0x600C000000000, 0x80000000, 0x80000000, PHB4.segments))
>>> card = port.plug(ENDPOINTS["edu"].build({0: Memory(0x100000)}))
>>> with phb.probing():
...     _ = Firmware(apertures(phb), arrange=arrange(phb)).set_up(phb)
>>> phb.map_rids(3, RidMatch.of_buses(1))
>>> phb.windows.m32.owners[0] = 3
>>> hex(phb.load(0x600C000000000, 4)), hex(phb.load(0x600C000200000, 4))
('0x0', '0xffffffff')
>>> opal = Opal({0: phb})
>>> opal.pci_eeh_freeze_status(0, 3).state.name, opal.pci_next_error(0).endpoint, hex(phb.load(0x600C000000000, 4))
('MMIO_DMA_FREEZE', 3, '0xffffffff')
>>> opal.pci_eeh_freeze_clear(0, 3, 3), hex(phb.load(0x600C000000000, 4))
(0, '0x0')
"""
