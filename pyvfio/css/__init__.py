"""Channel I/O formats as values, and the channel subsystem's instructions as an interface.

All blocks are big-endian, on whatever host the program runs.
"""

from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag, Command, command_name
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.css.instructions import ChannelSubsystem, OperandException, Storage, StorageError
from pyvfio.css.irb import IRB_SIZE, Irb
from pyvfio.css.orb import ORB_SIZE, Orb
from pyvfio.css.program import Program, disassemble
from pyvfio.css.schib import SCHIB_SIZE, Pmcw, Schib, SubchannelType
from pyvfio.css.scsw import SCSW_SIZE, Actl, Cstat, Dstat, Fctl, Scsw, Stctl
from pyvfio.css.senseid import Ciw, CiwType, SenseId

__all__ = [
    "CCW_SIZE",
    "IRB_SIZE",
    "ORB_SIZE",
    "SCHIB_SIZE",
    "SCSW_SIZE",
    "Actl",
    "Ccw",
    "CcwFlag",
    "ChannelSubsystem",
    "Ciw",
    "CiwType",
    "Command",
    "Crw",
    "Cstat",
    "Dstat",
    "ErrorRecovery",
    "Fctl",
    "Irb",
    "OperandException",
    "Orb",
    "Pmcw",
    "Program",
    "ReportingSource",
    "Schib",
    "Scsw",
    "SenseId",
    "Stctl",
    "Storage",
    "StorageError",
    "SubchannelType",
    "command_name",
    "disassemble",
]
