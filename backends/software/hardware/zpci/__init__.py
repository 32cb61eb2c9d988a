"""zPCI hardware: functions, their states, and the instructions on them."""

from pyvfio_backends.software.hardware.zpci.clp import FunctionFacts, GroupFacts
from pyvfio_backends.software.hardware.zpci.function import FunctionState, ZpciFunction
from pyvfio_backends.software.hardware.zpci.instructions import CONFIG_SPACE, OperandException, Refused, Status

__all__ = [
    "CONFIG_SPACE",
    "FunctionFacts",
    "FunctionState",
    "GroupFacts",
    "OperandException",
    "Refused",
    "Status",
    "ZpciFunction",
]
