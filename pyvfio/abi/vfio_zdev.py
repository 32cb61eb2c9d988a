"""``include/uapi/linux/vfio_zdev.h``: the capabilities of `vfio.DeviceInfo` that describe a zPCI function.

They are found by ``VFIO_DEVICE_INFO_CAP_ZPCI_BASE``, ``_GROUP``, ``_UTIL`` and ``_PFIP`` of `vfio`.  Integers are in
native byte order; the utility string (EBCDIC) and the function path are plain bytes.
"""

from .layout import U8, U16, U32, U64, AbiStructure, ByteTail, InfoCapHeader, structure

VFIO_DEVICE_INFO_ZPCI_FLAG_REFRESH = 1


@structure("vfio_device_info_cap_zpci_base")
class DeviceInfoCapZpciBase(AbiStructure):
    """The function: DMA addresses (`end_dma` included), PCHID, virtual function number, group, handle.

    `fh` is there since version 2 of the capability.
    """

    header: InfoCapHeader
    start_dma: U64
    end_dma: U64
    pchid: U16
    vfn: U16
    fmb_length: U16
    pft: U8
    gid: U8
    fh: U32


@structure("vfio_device_info_cap_zpci_group")
class DeviceInfoCapZpciGroup(AbiStructure):
    """The function's group: masks and limits.  `maxstbl` and `imaxstbl` are bytes of one store block.

    `imaxstbl` is there since version 2 of the capability.
    """

    header: InfoCapHeader
    dasm: U64
    msi_addr: U64
    flags: U64
    mui: U16
    noi: U16
    maxstbl: U16
    version: U8
    reserved: U8
    imaxstbl: U16


@structure("vfio_device_info_cap_zpci_util")
class DeviceInfoCapZpciUtil(AbiStructure):
    """The utility string: `size` bytes of EBCDIC behind it."""

    header: InfoCapHeader
    size: U32
    util_str: ByteTail


@structure("vfio_device_info_cap_zpci_pfip")
class DeviceInfoCapZpciPfip(AbiStructure):
    """The function's internal path: `size` bytes behind it."""

    header: InfoCapHeader
    size: U32
    pfip: ByteTail
