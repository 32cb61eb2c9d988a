"""The control units that a machine file can name: the value of ``unit`` in ``[[css.subchannel]]``.

==================  =======================  ==================================================================
unit                type (CU, device)        options
==================  =======================  ==================================================================
``dasd-3390``       3990/e9, 3390/0c         ``volser``: up to six characters; ``image``: a CKD image file;
                                             ``model``, ``cylinders``, ``readonly``, ``owner``;
                                             ``control_unit``, ``serial``, ``unit_address``
``echo``            its own                  ``size``: the most bytes that it keeps
``fcp``             1731/03, 1732/03         (QDIO)
``osa``             1731/01, 1732/01         (QDIO)
``3270``            3270/00                  ``model``: 2 to 5, its largest screen
``scripted``        its own                  ``script``: what it answers, see `scripted`; ``latency`` in seconds
``tape-3490``       3490/10, 3490/40         ``image``: an AWSTAPE file; ``readonly``, ``capacity`` in bytes
``virtio-blk``      3832/02                  ``size`` in bytes, ``serial``, ``readonly``
``virtio-console``  3832/03                  ``port``: the name of its port
``virtio-rng``      3832/04
``virtio-9p``       3832/09                  ``mount_tag``
==================  =======================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyvfio_backends.software.hardware.css import ControlUnit
from pyvfio_backends.software.hardware.devices.dasd import make_dasd
from pyvfio_backends.software.hardware.devices.echo import Echo
from pyvfio_backends.software.hardware.devices.qdio import fcp, osa
from pyvfio_backends.software.hardware.devices.scripted import make_scripted
from pyvfio_backends.software.hardware.devices.tape import make_tape
from pyvfio_backends.software.hardware.devices.terminal3270 import Terminal3270
from pyvfio_backends.software.hardware.devices.virtio_models import virtio_9p, virtio_blk, virtio_console, virtio_rng
from pyvfio_backends.software.hardware.options import check_options

__all__ = ["UNITS", "Unit"]

_DISK_SIZE = 1 << 20
_DASD = {
    "image": str,
    "volser": str,
    "model": str,
    "cylinders": int,
    "readonly": bool,
    "owner": str,
    "control_unit": str,
    "serial": str,
    "unit_address": int,
}


@dataclass(frozen=True, slots=True)
class Unit:
    """A model of control unit: `factory` builds one from its options (`options` names them with their types).

    `qdio` says that its subchannels are for QDIO, `virtual` that only a hypervisor has it.
    """

    name: str
    factory: Callable[[Mapping[str, Any]], ControlUnit]
    options: Mapping[str, type]
    qdio: bool = False
    virtual: bool = False

    def make(self, options: Mapping[str, Any]) -> ControlUnit:
        """Build one.  Raise `Misuse` for an option that it does not have, of a wrong type or with a wrong value."""
        check_options("build control unit", self.name, options, self.options)
        return self.factory(options)


def _units(*units: Unit) -> dict[str, Unit]:
    return {unit.name: unit for unit in units}


UNITS: dict[str, Unit] = _units(
    Unit("dasd-3390", lambda options: make_dasd(**options), _DASD),
    Unit("echo", lambda options: Echo(**options), {"size": int}),
    Unit("fcp", lambda options: fcp(), {}, qdio=True),
    Unit("osa", lambda options: osa(), {}, qdio=True),
    Unit("tape-3490", lambda options: make_tape(**options), {"image": str, "readonly": bool, "capacity": int}),
    Unit(
        "scripted",
        lambda options: make_scripted(options.get("script", {}), options.get("latency", 0.0)),
        {"script": dict, "latency": float},
    ),
    Unit("3270", lambda options: Terminal3270(**options), {"model": int}),
    Unit(
        "virtio-blk",
        lambda options: virtio_blk(options.get("size", _DISK_SIZE)),
        {"size": int, "serial": str, "readonly": bool},
        virtual=True,
    ),
    Unit("virtio-console", lambda options: virtio_console(), {"port": str}, virtual=True),
    Unit("virtio-rng", lambda options: virtio_rng(), {}, virtual=True),
    Unit("virtio-9p", lambda options: virtio_9p(options.get("mount_tag", "")), {"mount_tag": str}, virtual=True),
)
