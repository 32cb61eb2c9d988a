"""The channel subsystem of the software machine.  It knows nothing of Linux and nothing of VFIO."""

from pyvfio_backends.software.hardware.css.config import ChannelPath, SubchannelConfig
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, ControlUnit, Ending, unit_check
from pyvfio_backends.software.hardware.css.model import MAINFRAME, VIRTUAL, CssModel
from pyvfio_backends.software.hardware.css.subsystem import ChannelSubsystemHardware

__all__ = [
    "DONE",
    "MAINFRAME",
    "VIRTUAL",
    "Channel",
    "ChannelPath",
    "ChannelSubsystemHardware",
    "ControlUnit",
    "CssModel",
    "Ending",
    "SubchannelConfig",
    "unit_check",
]
