"""zPCI hardware: functions, their states, and the instructions on them."""

from pyvfio_backends.software.hardware.zpci.bar import Bar, Registers, Unmapped
from pyvfio_backends.software.hardware.zpci.clp import FunctionFacts, GroupFacts
from pyvfio_backends.software.hardware.zpci.function import FunctionState, ZpciFunction
from pyvfio_backends.software.hardware.zpci.instructions import CONFIG_SPACE, OperandException, Refused, Status
from pyvfio_backends.software.hardware.zpci.msix import MsixTable

__all__ = [
    "CONFIG_SPACE",
    "Bar",
    "FunctionFacts",
    "FunctionState",
    "GroupFacts",
    "MsixTable",
    "OperandException",
    "Refused",
    "Registers",
    "Status",
    "Unmapped",
    "ZpciFunction",
]
