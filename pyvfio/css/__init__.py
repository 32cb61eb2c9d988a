"""Channel I/O formats as values, and the channel subsystem's instructions as an interface.

All blocks are big-endian, on whatever host the program runs.

The names below are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.lazy_names import lazy_names

if TYPE_CHECKING:
    from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag
    from pyvfio.css.checker import Limits, check
    from pyvfio.css.commands import Command, Direction, Language, command_name
    from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
    from pyvfio.css.disassembler import disassemble, listing
    from pyvfio.css.esw import ESW_SIZE, Erw, Esw, LogoutFlag
    from pyvfio.css.idaw import Idal
    from pyvfio.css.image import Image
    from pyvfio.css.instructions import ChannelSubsystem, OperandException, Storage, StorageError
    from pyvfio.css.interruption import IoInterruption, subclass_mask
    from pyvfio.css.irb import IRB_SIZE, Irb
    from pyvfio.css.measurement import ChannelMonitor, ExtendedMeasurementBlock, MeasurementBlock
    from pyvfio.css.midaw import MIDAW_SIZE, Midaw, MidawFlag, midal_over
    from pyvfio.css.orb import ORB_SIZE, Orb
    from pyvfio.css.pagetable import Blocks, PageTable, translate
    from pyvfio.css.program import Area, Buffer, Program
    from pyvfio.css.rules import Presented, Rule, Violation
    from pyvfio.css.schib import SCHIB_SIZE, Pmcw, Schib, SubchannelType
    from pyvfio.css.scsw import SCSW_SIZE, Actl, Cstat, Dstat, Fctl, Scsw, Stctl
    from pyvfio.css.sei import Configure, EventContent, LinkClass, PathConfiguration, Sei
    from pyvfio.css.senseid import Ciw, CiwType, SenseId
    from pyvfio.css.sid import IMAGES, SETS, SUBCHANNELS_PER_SET, VIRTUAL_IMAGES, Sid
    from pyvfio.css.subchannel import Subchannel
    from pyvfio.css.trace import Step, Trace
    from pyvfio.css.translation import Translation

_HOMES = {
    "ccw": "CCW_SIZE Ccw CcwFlag",
    "checker": "Limits check",
    "commands": "Command Direction Language command_name",
    "crw": "Crw ErrorRecovery ReportingSource",
    "disassembler": "disassemble listing",
    "esw": "ESW_SIZE Erw Esw LogoutFlag",
    "idaw": "Idal",
    "image": "Image",
    "instructions": "ChannelSubsystem OperandException Storage StorageError",
    "interruption": "IoInterruption subclass_mask",
    "irb": "IRB_SIZE Irb",
    "measurement": "ChannelMonitor ExtendedMeasurementBlock MeasurementBlock",
    "midaw": "MIDAW_SIZE Midaw MidawFlag midal_over",
    "orb": "ORB_SIZE Orb",
    "pagetable": "Blocks PageTable translate",
    "program": "Area Buffer Program",
    "rules": "Presented Rule Violation",
    "schib": "SCHIB_SIZE Pmcw Schib SubchannelType",
    "scsw": "SCSW_SIZE Actl Cstat Dstat Fctl Scsw Stctl",
    "sei": "Configure EventContent LinkClass PathConfiguration Sei",
    "senseid": "Ciw CiwType SenseId",
    "sid": "IMAGES SETS SUBCHANNELS_PER_SET VIRTUAL_IMAGES Sid",
    "subchannel": "Subchannel",
    "trace": "Step Trace",
    "translation": "Translation",
}

__all__ = [
    "CCW_SIZE",
    "ESW_SIZE",
    "IMAGES",
    "IRB_SIZE",
    "MIDAW_SIZE",
    "ORB_SIZE",
    "SCHIB_SIZE",
    "SCSW_SIZE",
    "SETS",
    "SUBCHANNELS_PER_SET",
    "VIRTUAL_IMAGES",
    "Actl",
    "Area",
    "Blocks",
    "Buffer",
    "Ccw",
    "CcwFlag",
    "ChannelMonitor",
    "ChannelSubsystem",
    "Ciw",
    "CiwType",
    "Command",
    "Configure",
    "Crw",
    "Cstat",
    "Direction",
    "Dstat",
    "ErrorRecovery",
    "Erw",
    "Esw",
    "EventContent",
    "ExtendedMeasurementBlock",
    "Fctl",
    "Idal",
    "Image",
    "IoInterruption",
    "Irb",
    "Language",
    "Limits",
    "LinkClass",
    "LogoutFlag",
    "MeasurementBlock",
    "Midaw",
    "MidawFlag",
    "OperandException",
    "Orb",
    "PageTable",
    "PathConfiguration",
    "Pmcw",
    "Presented",
    "Program",
    "ReportingSource",
    "Rule",
    "Schib",
    "Scsw",
    "Sei",
    "SenseId",
    "Sid",
    "Stctl",
    "Step",
    "Storage",
    "StorageError",
    "Subchannel",
    "SubchannelType",
    "Trace",
    "Translation",
    "Violation",
    "check",
    "command_name",
    "disassemble",
    "listing",
    "midal_over",
    "subclass_mask",
    "translate",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
