"""Capabilities that a machine file adds to a function: ``[[pcie.function.capability]]``.

========  =====================================================================================================
kind      options
========  =====================================================================================================
`vpd`     `name`, `readonly` (true), and fields by their keys of two capital letters (``PN``, ``SN``, ...)
`ssvid`   `vendor`, `subsystem`: of a bridge
`vendor`  `body` and `writable` (hexadecimal): what is behind the length
`aer`     `ecrc` (true): error reporting, for a function that has none
`acs`     `services` (as ``"SV RR CR UF"``; all but egress control), `egress_ports`
`ari`     `next`: the next function
`ats`     `depth` of the invalidation queue, `page_aligned` (true)
`pasid`   `width` (20), `execute`, `privileged`
`ltr`     --
`dsn`     `number`: the serial number
`vc`      --
`vsec`    `number`, `edition`, `body`, `writable`
`dvsec`   `vendor`, `number`, `edition`, `body`, `writable`
========  =====================================================================================================

Capabilities of PCI Express are for functions that are PCI Express.  `add_capabilities` comes before the function is
plugged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import AcsBits
from pyvfio.errors import Misuse
from pyvfio_backends.software.description import PcieCapabilitySpec, PcieFunctionSpec
from pyvfio_backends.software.hardware.pci.register import Capability
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.capabilities import SubsystemId, VendorSpecific
from pyvfio_backends.software.hardware.pcie.extended import (
    Acs,
    Ari,
    Ats,
    DesignatedVendor,
    Ltr,
    Pasid,
    SerialNumber,
    Vc,
    VendorSpecificExtended,
)
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort
from pyvfio_backends.software.hardware.pcie.vpd import ProductData, product_data

__all__ = ["KINDS", "add_capabilities"]

_Read = Callable[[str, Any], Any]
_KEY: Final = re.compile(r"[A-Z][A-Z0-9]")
_MOST_TEXT, _MOST_FIELD, _MOST_BODY, _MOST_EXTENDED_BODY = 0x400, 0xFF, 0x80, 0xE00


class _Wrong(Exception):
    """What is wrong with an option."""


def _number(bits: int, least: int = 0) -> _Read:
    def read(key: str, value: Any) -> int:
        if type(value) is not int or not least <= value < 1 << bits:
            raise _Wrong(f"{key} is no number from {least} to {(1 << bits) - 1:#x}: {value!r}")
        return value

    return read


def _flag(key: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _Wrong(f"{key} is true or false, not {value!r}")
    return value


def _body(most: int) -> _Read:
    def read(key: str, value: Any) -> bytes:
        try:
            body = bytes.fromhex(value) if isinstance(value, str) else b""
        except ValueError:
            body = b""
        if not 0 < len(body) <= most:
            raise _Wrong(f"{key} is no hexadecimal of 1 to {most} bytes: {value!r}")
        return body

    return read


def _services(key: str, value: Any) -> AcsBits:
    names = value.split() if isinstance(value, str) else [""]
    if not names or any(name not in AcsBits.__members__ for name in names):
        raise _Wrong(f"{key} is no list of {' '.join(AcsBits.__members__)}: {value!r}")
    found = AcsBits(0)
    for name in names:
        found |= AcsBits[name]
    return found


class _Kind(NamedTuple):
    """How a kind is made: the declaration, its options as they are read, and those that must be there."""

    make: Callable[..., Capability]
    options: Mapping[str, _Read] = {}
    needed: tuple[str, ...] = ()


_VENDORS = {
    "number": _number(16),
    "edition": _number(4),
    **dict.fromkeys(("body", "writable"), _body(_MOST_EXTENDED_BODY)),
}
_PLAIN: Final[dict[str, _Kind]] = {
    "ssvid": _Kind(SubsystemId, {"vendor": _number(16), "subsystem": _number(16)}, ("vendor",)),
    "vendor": _Kind(VendorSpecific, dict.fromkeys(("body", "writable"), _body(_MOST_BODY)), ("body",)),
    "aer": _Kind(Aer, {"ecrc": _flag}),
    "acs": _Kind(Acs, {"services": _services, "egress_ports": _number(8, 1)}),
    "ari": _Kind(lambda next=0: Ari(next), {"next": _number(8)}),
    "ats": _Kind(
        lambda depth=0, page_aligned=True: Ats(depth, page_aligned), {"depth": _number(5), "page_aligned": _flag}
    ),
    "pasid": _Kind(Pasid, {"width": _number(5), "execute": _flag, "privileged": _flag}),
    "ltr": _Kind(Ltr),
    "dsn": _Kind(SerialNumber, {"number": _number(64)}, ("number",)),
    "vc": _Kind(Vc),
    "vsec": _Kind(VendorSpecificExtended, _VENDORS, ("number", "body")),
    "dvsec": _Kind(DesignatedVendor, {**_VENDORS, "vendor": _number(16)}, ("vendor", "number", "body")),
}
KINDS: Final = ("vpd", *_PLAIN)
"""The kinds that there are."""


def add_capabilities(function: Function, spec: PcieFunctionSpec) -> None:
    """Add what `spec` says, in its order.  Raise `Misuse` for what cannot be, or has no room."""
    if not spec.capability:
        return
    name = spec.id or spec.model
    for one in spec.capability:
        try:
            _add(function, one)
        except _Wrong as wrong:
            raise Misuse("add capability", name, cause=f"{one.kind}: {wrong}") from None
    if isinstance(function, DownstreamPort):
        function.finish()


def _add(function: Function, spec: PcieCapabilitySpec) -> None:
    at = None if spec.at < 0 else spec.at
    if spec.kind == "vpd":
        _product_data(function, spec.options, at)
        return
    kind = _PLAIN.get(spec.kind)
    if kind is None:
        raise _Wrong(f"there is no such capability; there is {', '.join(KINDS)}")
    read = {key: _option(kind.options, key)(key, value) for key, value in spec.options.items()}
    missing = [key for key in kind.needed if key not in read]
    if missing:
        raise _Wrong(f"{', '.join(missing)} is not given")
    declared = kind.make(**read)
    if declared.extended and function.offset(regs.PCI_CAP_ID_EXP) is None:
        raise _Wrong("the function is not PCI Express")
    if function.offset(declared.id, extended=declared.extended) is not None and spec.kind not in _SEVERAL:
        raise _Wrong("the function has it already")
    if isinstance(declared, SubsystemId) and not function.config.is_bridge:
        raise _Wrong("only a bridge has it, others have it in the header")
    if isinstance(declared, Acs) and AcsBits.EC in declared.services and not declared.egress_ports:
        raise _Wrong("egress control (EC) needs egress_ports")
    if function.add(declared, at) != at and at is not None:
        raise _Wrong(f"the first extended capability is at {regs.PCI_CFG_SPACE_SIZE:#x}, not at {at:#x}")


_SEVERAL: Final = ("vendor", "vsec", "dvsec")


def _option(known: Mapping[str, _Read], key: str) -> _Read:
    if key not in known:
        raise _Wrong(f"it has no option {key!r}; it has {', '.join(known) or 'none'}")
    return known[key]


def _product_data(function: Function, options: Mapping[str, Any], at: int | None) -> None:
    if function.offset(regs.PCI_CAP_ID_VPD) is not None:
        raise _Wrong("the function has it already")
    fields = {key: value for key, value in options.items() if key not in ("name", "readonly")}
    for key, value in fields.items():
        if not _KEY.fullmatch(key) or key == "RV":
            raise _Wrong(f"{key!r} is no key of a field (two capital letters, not RV)")
        if not isinstance(value, str) or not value.isascii() or len(value) > _MOST_FIELD:
            raise _Wrong(f"{key} is no ASCII text of up to {_MOST_FIELD} characters: {value!r}")
    name = options.get("name", "")
    if not isinstance(name, str) or not name.isascii() or len(name) > _MOST_TEXT:
        raise _Wrong(f"name is no ASCII text of up to {_MOST_TEXT} characters: {name!r}")
    data = product_data(name, fields)
    ProductData(function, data, read_only=_flag("readonly", options.get("readonly", True)), at=at)
