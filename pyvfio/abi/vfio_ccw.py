"""``include/uapi/linux/vfio_ccw.h``: the regions of a channel device (vfio-ccw).

The I/O region has the fixed index ``VFIO_CCW_CONFIG_REGION_INDEX``; the others are found by their region type
``VFIO_REGION_TYPE_CCW`` and subtype (these numbers are of ``vfio.h``, and here for convenience)::

    ccw_io_region                     ccw_cmd_region     ccw_schib_region    ccw_crw_region
    +---------------------------+     +-------------+    +-------------+     +---------+
    |   0  ORB            12    |     | 0  command  |    | 0  SCHIB 52 |     | 0  CRW  |
    |  12  SCSW           12    |     | 4  ret_code |    +-------------+     | 4  pad  |
    |  24  IRB            96    |     +-------------+                        +---------+
    | 120  ret_code        4    |
    +---------------------------+  124

ORB, SCSW, IRB, SCHIB and CRW are channel blocks, so big-endian whatever the process is (their formats are in
`pyvfio.css`); `command` and `ret_code` are the kernel's own words, in native byte order.  `ret_code` is 0 or a
negative errno, kept in an unsigned field.  The SCSW area is written by the user with the function to perform, the
IRB area is the answer.
"""

import ctypes
from typing import Annotated

from .layout import U32, AbiStructure, structure
from .vfio import VFIO_CCW_CONFIG_REGION_INDEX as VFIO_CCW_CONFIG_REGION_INDEX
from .vfio import VFIO_CCW_CRW_IRQ_INDEX as VFIO_CCW_CRW_IRQ_INDEX
from .vfio import VFIO_CCW_IO_IRQ_INDEX as VFIO_CCW_IO_IRQ_INDEX
from .vfio import VFIO_CCW_NUM_IRQS as VFIO_CCW_NUM_IRQS
from .vfio import VFIO_CCW_NUM_REGIONS as VFIO_CCW_NUM_REGIONS
from .vfio import VFIO_CCW_REQ_IRQ_INDEX as VFIO_CCW_REQ_IRQ_INDEX
from .vfio import VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD as VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD
from .vfio import VFIO_REGION_SUBTYPE_CCW_CRW as VFIO_REGION_SUBTYPE_CCW_CRW
from .vfio import VFIO_REGION_SUBTYPE_CCW_SCHIB as VFIO_REGION_SUBTYPE_CCW_SCHIB
from .vfio import VFIO_REGION_TYPE_CCW as VFIO_REGION_TYPE_CCW
from .vfio import CcwIrq as CcwIrq

ORB_AREA_SIZE = 12
SCSW_AREA_SIZE = 12
IRB_AREA_SIZE = 96
SCHIB_AREA_SIZE = 52

VFIO_CCW_ASYNC_CMD_HSCH = 1 << 0
VFIO_CCW_ASYNC_CMD_CSCH = 1 << 1


@structure("ccw_io_region")
class CcwIoRegion(AbiStructure):
    """START SUBCHANNEL: a write starts the program of the ORB, a read gives the IRB."""

    orb_area: Annotated[ctypes.Array[ctypes.c_uint8], ctypes.c_uint8 * ORB_AREA_SIZE]
    scsw_area: Annotated[ctypes.Array[ctypes.c_uint8], ctypes.c_uint8 * SCSW_AREA_SIZE]
    irb_area: Annotated[ctypes.Array[ctypes.c_uint8], ctypes.c_uint8 * IRB_AREA_SIZE]
    ret_code: U32


@structure("ccw_cmd_region")
class CcwCmdRegion(AbiStructure):
    """HALT and CLEAR SUBCHANNEL: a write of one ``VFIO_CCW_ASYNC_CMD_*``."""

    command: U32
    ret_code: U32


@structure("ccw_schib_region")
class CcwSchibRegion(AbiStructure):
    """STORE SUBCHANNEL: a read gives the SCHIB."""

    schib_area: Annotated[ctypes.Array[ctypes.c_uint8], ctypes.c_uint8 * SCHIB_AREA_SIZE]


@structure("ccw_crw_region")
class CcwCrwRegion(AbiStructure):
    """A read takes the next channel report word, 0 if there is none.

    The kernel copies the hardware's 4 bytes into `crw` as they are: convert the bytes, not the integer.
    """

    crw: U32
    pad: U32
