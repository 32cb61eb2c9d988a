"""``include/uapi/linux/vfio.h`` after Linux 6.12: told apart because an older kernel refuses it.

6.17 lets ``VFIO_DEVICE_BIND_IOMMUFD`` carry a VF token: with `VFIO_DEVICE_BIND_FLAG_TOKEN` the field ``token_uuid_ptr``
is the address of the 16 bytes of the token.  A kernel before that answers EINVAL to any flag.  6.19 makes dma-bufs of
the memory of a device; a kernel before that answers ENOTTY.
"""

from .layout import S32, U32, U64, AbiStructure, structure

VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0


@structure("vfio_device_bind_iommufd")
class DeviceBindIommufdToken(AbiStructure):
    """Argument of ``VFIO_DEVICE_BIND_IOMMUFD`` with a token; `out_devid` is the device's object in iommufd."""

    argsz: U32
    flags: U32
    iommufd: S32
    out_devid: U32
    token_uuid_ptr: U64


# ---- 6.19: memory of a region as a dma-buf ------------------------------------------------------------------------

VFIO_DEVICE_FEATURE_DMA_BUF = 11


@structure("vfio_region_dma_range")
class RegionDmaRange(AbiStructure):
    """A piece of a region: bytes from its start, and how many."""

    offset: U64
    length: U64


@structure("vfio_device_feature_dma_buf")
class DeviceFeatureDmaBuf(AbiStructure):
    """Argument of feature DMA_BUF; `nr_ranges` `RegionDmaRange` follow.  The descriptor is what the call returns."""

    region_index: U32
    open_flags: U32
    flags: U32
    nr_ranges: U32
