"""The library on a machine that has nothing: no VFIO, no udev, no psutil, no pytest."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pyvfio

BLOCKED = "pyudev pyroute2 psutil pytest hypothesis click rich"

PROGRAM = f"""
import builtins, importlib, pkgutil
real = builtins.__import__
def limited(name, *rest, **options):
    if name.split(".")[0] in {BLOCKED.split()!r}:
        raise ImportError("blocked: " + name)
    return real(name, *rest, **options)
builtins.__import__ = limited
"""

EVERYTHING = """
import pyvfio
for name in pyvfio.__all__:
    getattr(pyvfio, name)
for module in pkgutil.walk_packages(pyvfio.__path__, "pyvfio."):
    if not module.name.startswith("pyvfio.testing.") or module.name.endswith(".bell"):
        importlib.import_module(module.name)
with pyvfio.Host("kernel") as host:
    host.functions()
with pyvfio.Host("software") as host:
    assert host.functions()
"""

FEW = """
import sys
import pyvfio
heavy = {"asyncio", "ctypes", "tomllib", "sortedcontainers"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("program", [EVERYTHING, FEW], ids=["everything", "few"])
def test_import(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_name_that_is_none() -> None:
    with pytest.raises(AttributeError, match="Hosts"):
        _ = pyvfio.Hosts


def test_every_public_name_is_there() -> None:
    assert sorted(pyvfio.__all__) == dir(pyvfio)
    for name in pyvfio.__all__:
        assert getattr(pyvfio, name).__doc__, f"{name} has no docstring"


@pytest.mark.parametrize(
    ("machine", "left_alone"),
    [
        ("lab-s390x", "pyvfio.pci.aer .pciehp .pcie_aer .pcie_dpc .hardware.devices.dasd pyvfio.drivers.vtoc"),
        ("lab-x86", ".linux.css .linux.zpci_boot .hardware.devices.dasd pyvfio.drivers.vtoc"),
    ],
)
def test_a_machine_needs_only_what_it_has(machine: str, left_alone: str) -> None:
    """Most of the time of ``pyvfio list --machine`` is that of imports."""
    program = f"import sys, pyvfio; pyvfio.open_backend('software', machine={machine!r}).close(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "pyvfio_backends.software.machine" in modules
    assert not [name for name in modules for end in left_alone.split() if name.endswith(end)]
