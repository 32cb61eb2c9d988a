"""The names that packages give: each is there, whatever was imported before."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import pyvfio
import pyvfio.binding


@pytest.mark.parametrize("package", [pyvfio, pyvfio.binding], ids=lambda package: package.__name__)
def test_every_name_is_there(package: ModuleType) -> None:
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for name in package.__all__:
        assert not isinstance(getattr(package, name), ModuleType), name
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name


def test_importing_the_package_is_cheap() -> None:
    program = "import sys, pyvfio.binding; print(*[n for n in sys.modules if n.startswith('pyvfio')])"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "pyvfio.binding.running" not in loaded
    assert "pyvfio.host" not in loaded
