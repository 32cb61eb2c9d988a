"""``arch/powerpc/include/asm/opal-api.h``: the error log of a host bridge, as ``opal_pci_get_phb_diag_data2`` gives it.

Big-endian, one structure for each generation, all beginning with ``struct OpalIoPhbErrorCommon``::

    version (32), ioType (32), len (32), words of 32 bits, padding to 8, registers of 64 bits, pestA[n], pestB[n]

`pestA` and `pestB` are the state of all endpoints (`pyvfio.ioda.pest`).  As of Linux 6.12.
"""

import ctypes
from typing import Any, ClassVar

OPAL_PHB_ERROR_DATA_VERSION_1 = 1
OPAL_PHB_ERROR_DATA_TYPE_P7IOC = 1
OPAL_PHB_ERROR_DATA_TYPE_PHB3 = 2
OPAL_PHB_ERROR_DATA_TYPE_PHB4 = 3
OPAL_P7IOC_NUM_PEST_REGS = 128
OPAL_PHB3_NUM_PEST_REGS = 256
OPAL_PHB4_NUM_PEST_REGS = 512
_COMMON = ("version", "ioType", "len")


class PhbErrorData(ctypes.BigEndianStructure):
    """One of these; `TYPE` is its ``ioType`` and `ENDPOINTS` how many are in `pestA` and `pestB`."""

    TYPE: ClassVar[int]
    ENDPOINTS: ClassVar[int]
    _c_name_: ClassVar[str]
    version: int
    ioType: int
    len: int
    pestA: ctypes.Array[ctypes.c_uint64]
    pestB: ctypes.Array[ctypes.c_uint64]


def _fields(words: str, registers: str, endpoints: int) -> list[tuple[str, Any]]:
    fields: list[tuple[str, Any]] = [(name, ctypes.c_uint32) for name in (*_COMMON, *words.split())]
    fields += [(name, ctypes.c_uint64) for name in registers.split()]
    return [*fields, ("pestA", ctypes.c_uint64 * endpoints), ("pestB", ctypes.c_uint64 * endpoints)]


class P7iocErrorData(PhbErrorData):
    """``struct OpalIoP7IOCPhbErrorData``."""

    TYPE = OPAL_PHB_ERROR_DATA_TYPE_P7IOC
    ENDPOINTS = OPAL_P7IOC_NUM_PEST_REGS
    _c_name_ = "OpalIoP7IOCPhbErrorData"
    _fields_ = _fields(
        """
        brdgCtl portStatusReg rootCmplxStatus busAgentStatus deviceStatus slotStatus linkStatus devCmdStatus
        devSecStatus rootErrorStatus uncorrErrorStatus corrErrorStatus tlpHdr1 tlpHdr2 tlpHdr3 tlpHdr4 sourceId rsv3
        """,
        """
        errorClass correlator p7iocPlssr p7iocCsr lemFir lemErrorMask lemWOF phbErrorStatus phbFirstErrorStatus
        phbErrorLog0 phbErrorLog1 mmioErrorStatus mmioFirstErrorStatus mmioErrorLog0 mmioErrorLog1 dma0ErrorStatus
        dma0FirstErrorStatus dma0ErrorLog0 dma0ErrorLog1 dma1ErrorStatus dma1FirstErrorStatus dma1ErrorLog0
        dma1ErrorLog1
        """,
        ENDPOINTS,
    )


class Phb3ErrorData(PhbErrorData):
    """``struct OpalIoPhb3ErrorData``."""

    TYPE = OPAL_PHB_ERROR_DATA_TYPE_PHB3
    ENDPOINTS = OPAL_PHB3_NUM_PEST_REGS
    _c_name_ = "OpalIoPhb3ErrorData"
    _fields_ = _fields(
        """
        brdgCtl portStatusReg rootCmplxStatus busAgentStatus deviceStatus slotStatus linkStatus devCmdStatus
        devSecStatus rootErrorStatus uncorrErrorStatus corrErrorStatus tlpHdr1 tlpHdr2 tlpHdr3 tlpHdr4 sourceId rsv3
        """,
        """
        errorClass correlator nFir nFirMask nFirWOF phbPlssr phbCsr lemFir lemErrorMask lemWOF phbErrorStatus
        phbFirstErrorStatus phbErrorLog0 phbErrorLog1 mmioErrorStatus mmioFirstErrorStatus mmioErrorLog0 mmioErrorLog1
        dma0ErrorStatus dma0FirstErrorStatus dma0ErrorLog0 dma0ErrorLog1 dma1ErrorStatus dma1FirstErrorStatus
        dma1ErrorLog0 dma1ErrorLog1
        """,
        ENDPOINTS,
    )


class Phb4ErrorData(PhbErrorData):
    """``struct OpalIoPhb4ErrorData``."""

    TYPE = OPAL_PHB_ERROR_DATA_TYPE_PHB4
    ENDPOINTS = OPAL_PHB4_NUM_PEST_REGS
    _c_name_ = "OpalIoPhb4ErrorData"
    _fields_ = _fields(
        """
        brdgCtl deviceStatus slotStatus linkStatus devCmdStatus devSecStatus rootErrorStatus uncorrErrorStatus
        corrErrorStatus tlpHdr1 tlpHdr2 tlpHdr3 tlpHdr4 sourceId
        """,
        """
        nFir nFirMask nFirWOF phbPlssr phbCsr lemFir lemErrorMask lemWOF phbErrorStatus phbFirstErrorStatus phbErrorLog0
        phbErrorLog1 phbTxeErrorStatus phbTxeFirstErrorStatus phbTxeErrorLog0 phbTxeErrorLog1 phbRxeArbErrorStatus
        phbRxeArbFirstErrorStatus phbRxeArbErrorLog0 phbRxeArbErrorLog1 phbRxeMrgErrorStatus phbRxeMrgFirstErrorStatus
        phbRxeMrgErrorLog0 phbRxeMrgErrorLog1 phbRxeTceErrorStatus phbRxeTceFirstErrorStatus phbRxeTceErrorLog0
        phbRxeTceErrorLog1 phbPblErrorStatus phbPblFirstErrorStatus phbPblErrorLog0 phbPblErrorLog1 phbPcieDlpErrorLog1
        phbPcieDlpErrorLog2 phbPcieDlpErrorStatus phbRegbErrorStatus phbRegbFirstErrorStatus phbRegbErrorLog0
        phbRegbErrorLog1
        """,
        ENDPOINTS,
    )


ERROR_DATA: tuple[type[PhbErrorData], ...] = (P7iocErrorData, Phb3ErrorData, Phb4ErrorData)
