"""``include/uapi/linux/vfio.h``: display planes of a mediated graphics device, and the EDID region.

Native byte order; sizes in bytes, positions and widths in pixels.
"""

import ctypes
from typing import TYPE_CHECKING

from .layout import U32, U64, AbiStructure, structure
from .request import VFIO_BASE, VFIO_TYPE, request

VFIO_DEVICE_QUERY_GFX_PLANE = request(VFIO_TYPE, VFIO_BASE + 14)
VFIO_DEVICE_GET_GFX_DMABUF = request(VFIO_TYPE, VFIO_BASE + 15)

VFIO_GFX_PLANE_TYPE_PROBE = 1 << 0
VFIO_GFX_PLANE_TYPE_DMABUF = 1 << 1
VFIO_GFX_PLANE_TYPE_REGION = 1 << 2


class _RegionOrDmabuf(ctypes.Union):
    _fields_ = [("region_index", ctypes.c_uint32), ("dmabuf_id", ctypes.c_uint32)]


@structure("vfio_device_gfx_plane_info")
class DeviceGfxPlaneInfo(AbiStructure):
    """Argument and answer of ``VFIO_DEVICE_QUERY_GFX_PLANE``; `flags` decide between `region_index` and `dmabuf_id`."""

    _anonymous_ = ("source",)
    argsz: U32
    flags: U32
    drm_plane_type: U32
    drm_format: U32
    drm_format_mod: U64
    width: U32
    height: U32
    stride: U32
    size: U32
    x_pos: U32
    y_pos: U32
    x_hot: U32
    y_hot: U32
    source: _RegionOrDmabuf
    reserved: U32
    if TYPE_CHECKING:

        @property
        def region_index(self) -> int: ...
        @property
        def dmabuf_id(self) -> int: ...


VFIO_DEVICE_GFX_LINK_STATE_UP = 1
VFIO_DEVICE_GFX_LINK_STATE_DOWN = 2


@structure("vfio_region_gfx_edid")
class RegionGfxEdid(AbiStructure):
    """The head of the region ``VFIO_REGION_SUBTYPE_GFX_EDID``; the EDID lies at `edid_offset` of the region."""

    edid_offset: U32
    edid_max_size: U32
    edid_size: U32
    max_xres: U32
    max_yres: U32
    link_state: U32
