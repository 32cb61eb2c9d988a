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
``3270``            3270/00                  ``model``: 2 to 5, its largest screen; ``answers`` queries
``scripted``        its own                  ``script``: what it answers, see `scripted`; ``latency`` in seconds
``tape-3480``       3480/31, 3480/31         as tape-3490
``tape-3490``       3490/10, 3490/40         ``image``: an AWSTAPE file; ``readonly``, ``capacity`` in bytes; ``serial``
``virtio-net``      3832/01                  ``mac``
``virtio-blk``      3832/02                  ``size`` in bytes, ``serial``, ``readonly``, ``block_size``, ``queues``
``virtio-console``  3832/03                  ``port``: the name of its port; ``ports``: how many it can have
``virtio-rng``      3832/04
``virtio-balloon``  3832/05
``virtio-scsi``     3832/08
``virtio-9p``       3832/09                  ``mount_tag``
``virtio-gpu``      3832/10
``virtio-keyboard`` 3832/12
``virtio-tablet``   3832/12
``virtio-crypto``   3832/14
==================  =======================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from pyvfio_backends.software.hardware.css import ControlUnit
from pyvfio_backends.software.hardware.options import check_options

__all__ = ["UNITS", "Unit"]

_DISK_SIZE = 1 << 20
_BLOCK_SIZE = 512
_CONSOLE_PORTS = 31
_MAC = "52:54:00:12:34:56"
_DASD = {
    "image": str,
    "volser": str,
    "model": str,
    "cylinders": int,
    "readonly": bool,
    "owner": str,
    "partition": bool,
    "control_unit": str,
    "serial": str,
    "unit_address": int,
}
_TAPE = {"image": str, "readonly": bool, "capacity": int, "serial": int}


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


def _in(module: str) -> ModuleType:
    """A module of models, which is imported for machines that have one of its units."""
    return import_module(f"pyvfio_backends.software.hardware.devices.{module}")


def _units(*units: Unit) -> dict[str, Unit]:
    return {unit.name: unit for unit in units}


UNITS: dict[str, Unit] = _units(
    Unit("dasd-3390", lambda options: _in("dasd").make_dasd(**options), _DASD),
    Unit("echo", lambda options: _in("echo").Echo(**options), {"size": int}),
    Unit("fcp", lambda options: _in("qdio").fcp(), {}, qdio=True),
    Unit("osa", lambda options: _in("qdio").osa(), {}, qdio=True),
    Unit("tape-3480", lambda options: _in("tape").make_tape(model="3480", **options), _TAPE),
    Unit("tape-3490", lambda options: _in("tape").make_tape(**options), _TAPE),
    Unit(
        "scripted",
        lambda options: _in("scripted").make_scripted(options.get("script", {}), options.get("latency", 0.0)),
        {"script": dict, "latency": float},
    ),
    Unit("3270", lambda options: _in("terminal3270").Terminal3270(**options), {"model": int, "answers": bool}),
    Unit(
        "virtio-blk",
        lambda options: _in("virtio_models").virtio_blk(
            options.get("size", _DISK_SIZE), options.get("block_size", _BLOCK_SIZE), options.get("queues", 1)
        ),
        {"size": int, "serial": str, "readonly": bool, "block_size": int, "queues": int},
        virtual=True,
    ),
    Unit(
        "virtio-net",
        lambda options: _in("virtio_models").virtio_net(options.get("mac", _MAC)),
        {"mac": str},
        virtual=True,
    ),
    Unit(
        "virtio-console",
        lambda options: _in("virtio_models").virtio_console(options.get("ports", _CONSOLE_PORTS)),
        {"port": str, "ports": int},
        virtual=True,
    ),
    Unit("virtio-rng", lambda options: _in("virtio_models").virtio_rng(), {}, virtual=True),
    Unit("virtio-balloon", lambda options: _in("virtio_models").virtio_balloon(), {}, virtual=True),
    Unit("virtio-scsi", lambda options: _in("virtio_models").virtio_scsi(), {}, virtual=True),
    Unit("virtio-gpu", lambda options: _in("virtio_models").virtio_gpu(), {}, virtual=True),
    Unit("virtio-keyboard", lambda options: _in("virtio_input").virtio_keyboard(), {}, virtual=True),
    Unit("virtio-tablet", lambda options: _in("virtio_input").virtio_tablet(), {}, virtual=True),
    Unit("virtio-crypto", lambda options: _in("virtio_models").virtio_crypto(), {}, virtual=True),
    Unit(
        "virtio-9p",
        lambda options: _in("virtio_models").virtio_9p(options.get("mount_tag", "")),
        {"mount_tag": str},
        virtual=True,
    ),
)
