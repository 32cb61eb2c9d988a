"""PCI Express hardware: configuration space, ports and buses, routing, enumeration.  It knows nothing of Linux.

::

    what travels        request, packet, access
    what there is       function (with pin, resets), bus, bridge, port, root_complex (with config_mechanism),
                        event_collector
    what is above it    upstream: `Iommu`; remapping: one that translates (VT-d)
    registers declared  capabilities, express, extended, aer, dpc, sriov
    registers at work   msi, vpd, sriov, reporting, root_errors, power_events, containment, slot
    known makes         models (ports and bridges), endpoints; block: what lies behind their base addresses;
                        peripherals: endpoints with devices that do something
    firmware            bar_sizing, enumeration, allocation or layout_downwards (SeaBIOS's), firmware

A machine is made by plugging: `RootComplex.add_root_bus`, `Bus.plug`, `DownstreamPort.plug`; then `Firmware.set_up`
numbers and places everything.  `dump.dump` shows it to ``lspci -F``.

>>> from pyvfio_backends.software.hardware.pcie.block import Memory
>>> from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS
>>> from pyvfio_backends.software.hardware.pcie.express import Slot
>>> from pyvfio_backends.software.hardware.pcie.firmware import Firmware
>>> from pyvfio_backends.software.hardware.pcie.models import ioh3420
>>> from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
>>> machine = RootComplex()
>>> port = ioh3420(Slot(1))
>>> card = ENDPOINTS["edu"].build({0: Memory(0x100000)})
>>> _ = machine.add_root_bus().plug(port, 8), port.plug(card)
>>> print(Firmware().set_up(machine).describe())
0000:00:08.0 8086:3420 buses 01-01
    I/O 0x1000-0x1fff window
    memory 0xc0000000-0xc01fffff window
    prefetchable 0x800000000-0x8001fffff window
0000:01:00.0 1234:11e8
    memory 0xc0000000-0xc00fffff register 0x10
>>> machine.store(0xC0000020, 4, 0xCAFE)
>>> hex(machine.load(0xC0000020, 4)), hex(machine.config_read(0, card.rid, 0, 4))
('0xcafe', '0x11e81234')
"""
