"""How firmware has functions report errors: registers of root ports, of switches' ports and of all others.

=============  ===========  =============================  ====================================  =============
function       correctable  uncorrectable, masked          uncorrectable, fatal                  end-to-end CRC
=============  ===========  =============================  ====================================  =============
root port      yes          poison, timeout, abort, CRC    as they were, unexpected completion   sent, checked
upstream       no           none                           link, flow control, malformed, ...    sent
downstream     no           none                           flow control, internal                sent
others         no           as they were                   as they were                          sent, checked
=============  ===========  =============================  ====================================  =============

Of uncorrectable errors messages are sent always; of unsupported requests not by switches.
Source: ``hw/phb4.c`` of skiboot (``phb4_root_port_init``, ``phb4_switch_port_init``, ``phb4_endpoint_init``,
``phb4_init_rc_cfg``); what is in ``hw/phb3.c`` is the same.
"""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["set_up_errors"]

_MESSAGES = regs.PCI_EXP_DEVCTL_NFERE | regs.PCI_EXP_DEVCTL_FERE
_ROOT_MASKED: Final = (
    extended.PCI_ERR_UNC_POISON_TLP
    | extended.PCI_ERR_UNC_COMP_TIME
    | extended.PCI_ERR_UNC_COMP_ABORT
    | extended.PCI_ERR_UNC_ECRC
)
_LINK: Final = extended.PCI_ERR_UNC_DLP | extended.PCI_ERR_UNC_SURPDN | extended.PCI_ERR_UNC_RX_OVER
_MALFORMED: Final = extended.PCI_ERR_UNC_MALF_TLP
_DOWNSTREAM_FATAL: Final = extended.PCI_ERR_UNC_FCP | extended.PCI_ERR_UNC_INTN
_UPSTREAM_FATAL: Final = _DOWNSTREAM_FATAL | _LINK | _MALFORMED
_ROOT_FATAL: Final = _LINK | _MALFORMED | extended.PCI_ERR_UNC_FCP | extended.PCI_ERR_UNC_UNX_COMP
_ROOT_COMMAND: Final = (
    extended.PCI_ERR_ROOT_CMD_COR_EN | extended.PCI_ERR_ROOT_CMD_NONFATAL_EN | extended.PCI_ERR_ROOT_CMD_FATAL_EN
)
_SWITCH: Final = (ExpressType.UPSTREAM, ExpressType.DOWNSTREAM)


def set_up_errors(function: Function) -> None:
    """Set the registers of one function up; what else they say stays."""
    config = function.config
    if isinstance(function, Bridge):
        _change(function, bridge_regs.PCI_BRIDGE_CONTROL, 2, set_=bridge_regs.PCI_BRIDGE_CTL_SERR)
    express = function.offset(regs.PCI_CAP_ID_EXP)
    if express is None:
        return
    kind = regs.pci_exp_type(config.read(express + regs.PCI_EXP_FLAGS, 2))
    aer = function.offset(extended.PCI_EXT_CAP_ID_ERR, extended=True)
    control = express + regs.PCI_EXP_DEVCTL
    if kind == ExpressType.ROOT_PORT:
        config.write(control, 2, _MESSAGES | regs.PCI_EXP_DEVCTL_CERE | regs.PCI_EXP_DEVCTL_URRE)
        if aer is not None:
            _root_port(function, aer)
    elif kind in _SWITCH:
        _change(function, control, 2, set_=_MESSAGES, clear=regs.PCI_EXP_DEVCTL_CERE)
        if aer is not None:
            _switch_port(function, aer, _UPSTREAM_FATAL if kind == ExpressType.UPSTREAM else _DOWNSTREAM_FATAL)
    else:
        _change(function, control, 2, set_=_MESSAGES | regs.PCI_EXP_DEVCTL_URRE, clear=regs.PCI_EXP_DEVCTL_CERE)
        if aer is not None:
            _digests(function, aer, check=True)


def _root_port(function: Function, aer: int) -> None:
    function.config.write(aer + extended.PCI_ERR_UNCOR_MASK, 4, _ROOT_MASKED)
    _change(function, aer + extended.PCI_ERR_UNCOR_SEVER, 4, set_=_ROOT_FATAL)
    _change(function, aer + extended.PCI_ERR_COR_MASK, 4, set_=extended.PCI_ERR_COR_ADV_NFAT)
    _digests(function, aer, check=True)
    _change(function, aer + extended.PCI_ERR_ROOT_COMMAND, 4, set_=_ROOT_COMMAND)


def _switch_port(function: Function, aer: int, fatal: int) -> None:
    config = function.config
    config.write(aer + extended.PCI_ERR_UNCOR_MASK, 4, 0)
    config.write(aer + extended.PCI_ERR_UNCOR_SEVER, 4, fatal)
    config.write(aer + extended.PCI_ERR_COR_MASK, 4, extended.PCI_ERR_COR_ADV_NFAT)
    _digests(function, aer, check=False)


def _digests(function: Function, aer: int, *, check: bool) -> None:
    """Have it send end-to-end CRCs, and check them or not."""
    checked = extended.PCI_ERR_CAP_ECRC_CHKE
    at = aer + extended.PCI_ERR_CAP
    _change(function, at, 4, set_=extended.PCI_ERR_CAP_ECRC_GENE | (checked if check else 0), clear=checked)


def _change(function: Function, at: int, length: int, *, set_: int, clear: int = 0) -> None:
    function.config.write(at, length, function.config.read(at, length) & ~clear | set_)
