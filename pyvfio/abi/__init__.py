"""Structures and numbers of the kernel's interface: one module per kernel header, and nothing else in pyvfio has any.

=================  ===========================================================================
module             kernel header (``include/uapi/linux/``), as of Linux 6.12
=================  ===========================================================================
`vfio`             ``vfio.h``: container, group, device, region, interrupts, PCI hot reset
`vfio_type1`       ``vfio.h``: the type 1 IOMMU
`vfio_feature`     ``vfio.h``: what travels behind ``VFIO_DEVICE_FEATURE``, and migration
`vfio_gfx`         ``vfio.h``: display planes and EDID
`vfio_spapr`       ``vfio.h``: the sPAPR TCE IOMMU and EEH
`vfio_ccw`         ``vfio_ccw.h``: the regions of a channel device
`vfio_zdev`        ``vfio_zdev.h``: the capabilities of a zPCI function
`iommufd`          ``iommufd.h``
`pci_regs`         ``pci_regs.h``: configuration space, what pyvfio uses of it
`eeh`              ``asm/eeh.h`` of powerpc: states of endpoints, errors to inject
`opal`             ``asm/opal-api.h`` of powerpc, not for programs: calls of the firmware, `opal_diag`
`request`          ``ioctl.h``: requests with their numbers by architecture, and the names a number has
`layout`           how all of them are written down, capability chains, fast packing
=================  ===========================================================================

Names are the kernel's; `tests/unit/abi/test_headers.py` compares every size, offset and number with the headers.
Integers are in the byte order of the process, as the kernel has it.
"""
