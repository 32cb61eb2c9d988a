"""PCI Express hardware: configuration space, ports and buses, routing, enumeration.  It knows nothing of Linux.

::

    request       what travels, and what becomes of it              capabilities, express,   registers, declared
    function      a function: registers, BARs, its own requests      extended, aer, dpc, sriov
    bus           links, switch buses, conventional buses            msi, resets, reporting,  what the registers do
    bridge, port  windows, links, access control services            root_errors, containment
    root_complex  segments, root buses, the way in                   models                   ports of known make
    upstream      the way out: `Iommu`                               bar_sizing, enumeration, firmware
    config_mechanism  ECAM, CF8/CFC                                  allocation, firmware

A machine is made by plugging: `RootComplex.add_root_bus`, `Bus.plug`, `DownstreamPort.plug`; then `Firmware.set_up`
numbers and places everything.  `dump.dump` shows it to ``lspci -F``.
"""
