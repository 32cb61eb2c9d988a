"""``include/uapi/linux/vfio.h``: the features behind ``VFIO_DEVICE_FEATURE``, and migration in both versions.

The number of a feature goes into the low 16 bits of `vfio.DeviceFeature.flags`, its structure into ``data``.
Native byte order; page sizes, lengths and addresses are bytes.
"""

from enum import IntEnum

from .layout import S32, U32, U64, AbiStructure, structure
from .request import VFIO_BASE, VFIO_TYPE, request

VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0
VFIO_DEVICE_FEATURE_MIGRATION = 1
VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4
VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5
VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6
VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7
VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8
VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9
VFIO_DEVICE_FEATURE_BUS_MASTER = 10

# ---- migration ---------------------------------------------------------------------------------------------------

VFIO_MIGRATION_STOP_COPY = 1 << 0
VFIO_MIGRATION_P2P = 1 << 1
VFIO_MIGRATION_PRE_COPY = 1 << 2

VFIO_DEVICE_STATE_ERROR = 0
VFIO_DEVICE_STATE_STOP = 1
VFIO_DEVICE_STATE_RUNNING = 2
VFIO_DEVICE_STATE_STOP_COPY = 3
VFIO_DEVICE_STATE_RESUMING = 4
VFIO_DEVICE_STATE_RUNNING_P2P = 5
VFIO_DEVICE_STATE_PRE_COPY = 6
VFIO_DEVICE_STATE_PRE_COPY_P2P = 7
VFIO_DEVICE_STATE_NR = 8


class MigrationState(IntEnum):
    """``enum vfio_device_mig_state``."""

    ERROR = VFIO_DEVICE_STATE_ERROR
    STOP = VFIO_DEVICE_STATE_STOP
    RUNNING = VFIO_DEVICE_STATE_RUNNING
    STOP_COPY = VFIO_DEVICE_STATE_STOP_COPY
    RESUMING = VFIO_DEVICE_STATE_RESUMING
    RUNNING_P2P = VFIO_DEVICE_STATE_RUNNING_P2P
    PRE_COPY = VFIO_DEVICE_STATE_PRE_COPY
    PRE_COPY_P2P = VFIO_DEVICE_STATE_PRE_COPY_P2P


VFIO_MIG_GET_PRECOPY_INFO = request(VFIO_TYPE, VFIO_BASE + 21)
"""On the data file of a migration, not on the device."""


@structure("vfio_device_feature_migration")
class DeviceFeatureMigration(AbiStructure):
    """Answer of feature MIGRATION; `flags` are ``VFIO_MIGRATION_*``."""

    flags: U64


@structure("vfio_device_feature_mig_state")
class DeviceFeatureMigState(AbiStructure):
    """Argument and answer of feature MIG_DEVICE_STATE; `data_fd` is a new data file or -1."""

    device_state: U32
    data_fd: S32


@structure("vfio_precopy_info")
class PrecopyInfo(AbiStructure):
    """Answer of ``VFIO_MIG_GET_PRECOPY_INFO``: estimates of what is still to be read, in bytes."""

    argsz: U32
    flags: U32
    initial_bytes: U64
    dirty_bytes: U64


@structure("vfio_device_feature_mig_data_size")
class DeviceFeatureMigDataSize(AbiStructure):
    """Answer of feature MIG_DATA_SIZE: an estimate of the stop-copy data, in bytes."""

    stop_copy_length: U64


# ---- power, dirty pages of the device, bus master ----------------------------------------------------------------


@structure("vfio_device_low_power_entry_with_wakeup")
class DeviceLowPowerEntryWithWakeup(AbiStructure):
    """Argument of feature LOW_POWER_ENTRY_WITH_WAKEUP: the eventfd signalled when the device is woken."""

    wakeup_eventfd: S32
    reserved: U32


@structure("vfio_device_feature_dma_logging_control")
class DeviceFeatureDmaLoggingControl(AbiStructure):
    """Argument of feature DMA_LOGGING_START; `ranges` points to `num_ranges` `DeviceFeatureDmaLoggingRange`."""

    page_size: U64
    num_ranges: U32
    __reserved: U32
    ranges: U64


@structure("vfio_device_feature_dma_logging_range")
class DeviceFeatureDmaLoggingRange(AbiStructure):
    """An IOVA range in which the device logs its writes."""

    iova: U64
    length: U64


@structure("vfio_device_feature_dma_logging_report")
class DeviceFeatureDmaLoggingReport(AbiStructure):
    """Argument of feature DMA_LOGGING_REPORT; `bitmap` points to one bit per page of the range, which are ORed in."""

    iova: U64
    length: U64
    page_size: U64
    bitmap: U64


VFIO_DEVICE_FEATURE_CLEAR_MASTER = 0
VFIO_DEVICE_FEATURE_SET_MASTER = 1


@structure("vfio_device_feature_bus_master")
class DeviceFeatureBusMaster(AbiStructure):
    """Argument of feature BUS_MASTER (CDX devices): ``VFIO_DEVICE_FEATURE_CLEAR_MASTER`` or ``_SET_MASTER``."""

    op: U32


# ---- migration, first version: a region of the device, no longer offered by kernels ------------------------------

VFIO_DEVICE_STATE_V1_STOP = 0
VFIO_DEVICE_STATE_V1_RUNNING = 1 << 0
VFIO_DEVICE_STATE_V1_SAVING = 1 << 1
VFIO_DEVICE_STATE_V1_RESUMING = 1 << 2
VFIO_DEVICE_STATE_MASK = VFIO_DEVICE_STATE_V1_RUNNING | VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING


@structure("vfio_device_migration_info")
class DeviceMigrationInfo(AbiStructure):
    """The head of the region ``VFIO_REGION_TYPE_MIGRATION_DEPRECATED``."""

    device_state: U32
    reserved: U32
    pending_bytes: U64
    data_offset: U64
    data_size: U64
