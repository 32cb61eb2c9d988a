"""Modules: loaded, built in, or to be had by ``modprobe``; and the VFIO drivers on the buses that are there.

A module that is loaded has ``/sys/module/NAME/initstate``; ``modules.builtin`` and ``modules.dep`` below
``/lib/modules/RELEASE`` list what is in the kernel and what can be loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.doctor.remark import OK, PROBLEM, WARNING, Patient, Remark

__all__ = ["drivers", "loaded", "state_of"]

TYPE1, TCE = "vfio_iommu_type1", "vfio_iommu_spapr_tce"
LOADED, BUILT_IN, AVAILABLE, ABSENT, UNKNOWN = "loaded", "built in", "available", "absent", "unknown"


def _listed(patient: Patient, module: str, file: str) -> bool | None:
    """Whether a list of modules names this one; None when there is no such list."""
    release = patient.read("/proc/sys/kernel/osrelease")
    text = None if release is None else patient.read(f"/lib/modules/{release}/{file}")
    if text is None:
        return None
    for line in text.splitlines():
        path = line.partition(":")[0]
        name = path.rpartition("/")[2].partition(".ko")[0]
        if name.replace("-", "_") == module:
            return True
    return False


def state_of(patient: Patient, module: str) -> str:
    """``loaded``, ``built in``, ``available``, ``absent``, or ``unknown`` without lists of modules."""
    if any(line.split()[:1] == [module] for line in (patient.read("/proc/modules") or "").splitlines()):
        return LOADED
    if patient.exists(f"/sys/module/{module}"):
        return LOADED if patient.exists(f"/sys/module/{module}/initstate") else BUILT_IN
    if _listed(patient, module, "modules.builtin"):
        return BUILT_IN
    available = _listed(patient, module, "modules.dep")
    return UNKNOWN if available is None else AVAILABLE if available else ABSENT


def _by_group(patient: Patient) -> str:
    """The module that groups need: a kernel of POWER has its own and no type 1 (drivers/vfio/Kconfig)."""
    without = (ABSENT, UNKNOWN)
    return TCE if state_of(patient, TYPE1) in without and state_of(patient, TCE) not in without else TYPE1


def _wanted(patient: Patient) -> Iterator[tuple[str, str]]:
    """The modules that this host can use, with what for."""
    pci, css = patient.exists("/sys/bus/pci"), patient.exists("/sys/bus/css")
    yield "vfio", "all of VFIO"
    yield _by_group(patient), "DMA by the group"
    if not patient.is_power:
        yield "iommufd", "DMA by the device's own node"
    if pci:
        yield "vfio_pci", "PCI functions"
    if css:
        yield "vfio_ccw", "channel devices"
        yield "mdev", "mediated devices"


def loaded(patient: Patient) -> Iterator[Remark]:
    """Each module of VFIO."""
    wanted = dict(_wanted(patient))
    states = {module: state_of(patient, module) for module in wanted}
    ready = (LOADED, BUILT_IN)
    mapping = any(states.get(module) in ready for module in (TYPE1, TCE, "iommufd"))
    for module, purpose in wanted.items():
        state, name = states[module], f"module {module}"
        if state in ready:
            yield Remark(name, OK, state)
            continue
        needed = module == "vfio" or (module in (TYPE1, TCE) and not mapping)
        what = {ABSENT: f"this kernel has none ({purpose})", AVAILABLE: f"not loaded ({purpose})"}
        detail = what.get(
            state, f"not loaded; whether this kernel has it cannot be seen: /lib/modules has no list ({purpose})"
        )
        step = f"modprobe {module}" if state != ABSENT else f"a kernel with CONFIG_{_option(module)}"
        yield Remark(name, PROBLEM if needed else WARNING, detail, step)


def _option(module: str) -> str:
    return {"mdev": "VFIO_MDEV"}.get(module, module.upper())


def drivers(patient: Patient) -> Iterator[Remark]:
    """The VFIO drivers on the buses that have devices."""
    for bus, driver, module in (("pci", "vfio-pci", "vfio-pci"), ("css", "vfio_ccw", "vfio_ccw")):
        if not patient.exists(f"/sys/bus/{bus}"):
            continue
        if patient.exists(f"/sys/bus/{bus}/drivers/{driver}"):
            count = sum(":" in name or "." in name for name in patient.names(f"/sys/bus/{bus}/drivers/{driver}"))
            yield Remark(f"driver {driver}", OK, f"on bus {bus}" + (f", has {count}" if count else ""))
        else:
            used = bool(patient.names(f"/sys/bus/{bus}/devices"))
            yield Remark(f"driver {driver}", PROBLEM if used else WARNING, f"not on bus {bus}", f"modprobe {module}")
