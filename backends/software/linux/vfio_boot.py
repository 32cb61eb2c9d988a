"""VFIO's modules at boot: their parameters, classes and the two nodes that are always there."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.kstrtox import kstrtobool, kstrtoul
from pyvfio_backends.software.linux.majors import vfio_majors
from pyvfio_backends.software.linux.misc import add_misc_device
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.vfio_state import VfioCore, vfio_core
from pyvfio_backends.software.linux.vfs import Attribute, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.machine import Machine

__all__ = ["boot"]

_UNSAFE = "enable_unsafe_noiommu_mode"
_SPAPR = "vfio_iommu_spapr_tce"
_VFIO_MINOR = 196
_IOMMU_MINOR = 259  # what a dynamic minor came out as on the machines of ``fixtures/golden``


def boot(machine: Machine) -> None:
    """Load the modules vfio, its IOMMUs (type 1, sPAPR TCE) and iommufd as far as the machine's description names them.

    Without iommufd there is no ``/dev/iommu``, and devices have no node of their own.
    """
    kernel, core = machine.kernel, vfio_core(machine.kernel)
    names = {name.replace("-", "_") for name in machine.spec.modules}
    core.cdev = machine.spec.iommufd and "iommufd" in names
    core.type1 = "vfio_iommu_type1" in names
    if _SPAPR in names:
        core.load_spapr_tce()
    if core.cdev:
        kernel.modules.load(Module("iommufd", parameters={"allow_unsafe_interrupts": _switch()}))
        add_misc_device(kernel, "iommu", _IOMMU_MINOR, "iommu", 0o660, lambda path, flags: _iommufd(core))
    if "vfio" in names or core.type1 or core.registered is not None:
        core.can_do_without = machine.spec.architecture == "x86_64"
        switches = {_UNSAFE: _unsafe_switch(core)} if core.can_do_without else {}
        module = Module("vfio", version="0.3", parameters=switches)
        kernel.modules.load(module, needs=("iommufd",))
        consoles = (run for run in machine.spec.subchannels if run.unit == "virtio-console" and run.online)
        vfio_majors(kernel, sum(run.count for run in consoles))
        kernel.class_("vfio")
        kernel.class_("vfio-dev")
        add_misc_device(kernel, "vfio", _VFIO_MINOR, "vfio/vfio", 0o666, lambda path, flags: _container(core))
        if core.indexes:
            core.hold("vfio")  # devices that were registered before
    if core.type1:
        parameters = {
            "allow_unsafe_interrupts": _switch(),
            "disable_hugepages": _switch(),
            "dma_entry_limit": Attribute(lambda: f"{core.dma_entry_limit}\n", lambda data: _set_limit(core, data)),
        }
        kernel.modules.load(Module("vfio_iommu_type1", version="0.2", parameters=parameters), needs=("vfio",))
    if core.registered is not None:
        kernel.modules.load(Module(_SPAPR, version="0.1"), needs=("vfio",))


# What opens the nodes is imported then: most runs only look at a machine.


def _iommufd(core: VfioCore) -> File:
    from pyvfio_backends.software.linux.iommufd import IommufdFile

    return IommufdFile(core)


def _container(core: VfioCore) -> File:
    from pyvfio_backends.software.linux.vfio_container import ContainerFile

    return ContainerFile(core)


def _set_limit(core: VfioCore, data: bytes) -> None:
    limit = kstrtoul(data, 0)
    if limit >= 1 << 32:
        raise fail(errno.ERANGE)
    core.dma_entry_limit = limit


def _unsafe_switch(core: VfioCore) -> Attribute:
    return Attribute(
        lambda: "Y\n" if core.without_iommu else "N\n",
        lambda data: setattr(core, "without_iommu", kstrtobool(data)),
    )


def _switch() -> Attribute:
    """A parameter of type bool; nothing in the machine depends on these."""
    value = "N"

    def store(data: bytes) -> None:
        nonlocal value
        word = data[:2].lower()
        if word[:1] in (b"y", b"t", b"1") or word == b"on":
            value = "Y"
        elif word[:1] in (b"n", b"f", b"0") or word == b"of":
            value = "N"
        else:
            raise fail(errno.EINVAL)  # kstrtobool

    return Attribute(lambda: f"{value}\n", store)
