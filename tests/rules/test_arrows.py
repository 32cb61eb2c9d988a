"""The rules of the house that a program can check: who imports whom, and who makes system calls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "pyvfio": "pyvfio",
    "backends": "pyvfio_backends",
    "fixtures": "pyvfio_fixtures",
    "tools": "pyvfio_tools",
}
ALLOWED = {
    "pyvfio": {"pyvfio"},
    "backends": {"pyvfio", "pyvfio_backends"},
    "fixtures": {"pyvfio", "pyvfio_fixtures"},
    "tools": {"pyvfio", "pyvfio_tools"},
}
SYSTEM = {"fcntl", "mmap", "subprocess", "pyudev", "pyroute2"}
SYSTEM_CALLS = re.compile(r"\bos\.(open|eventfd|memfd_create|system|popen|fork|exec\w*)\(")
MAY_CALL = ("backends/kernel/", "pyvfio/process/")
# the seam names the mapping object and the flags of `mmap`; these modules make no mapping
NAMES_ONLY = {
    "pyvfio/backend.py",
    "pyvfio/binding/patience.py",
    "pyvfio/vfio/region.py",
    "backends/software/backend.py",
    "backends/software/linux/block_device.py",
    "backends/software/linux/copier_vfio_pci.py",
    "backends/software/linux/file.py",
    "backends/software/linux/nodes.py",
    "backends/software/linux/pci_access.py",
    "backends/software/linux/pci_sysfs.py",
    "backends/software/linux/tmpfs.py",
    "backends/software/linux/vfio_core.py",
    "backends/software/linux/vfio_file.py",
    "backends/software/linux/vfio_pci.py",
}
MAKES_A_MAPPING = re.compile(r"\b_?mmap\.mmap\(|(?<![.\w])mmap\(-?\w")


def modules(folder: str) -> Iterator[Path]:
    yield from sorted((ROOT / folder).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def house_import_breaks(source: str, folder: str) -> list[str]:
    """The imports of `source` that point against the arrows."""
    breaks = []
    for name, line in imports(ast.parse(source)):
        top = name.split(".")[0]
        if top in PACKAGES.values() and top not in ALLOWED[folder]:
            breaks.append(f"line {line}: {name}")
    return breaks


@pytest.mark.parametrize("folder", sorted(PACKAGES))
def test_arrows(folder: str) -> None:
    broken = {
        str(path.relative_to(ROOT)): found
        for path in modules(folder)
        if (found := house_import_breaks(path.read_text(), folder))
    }
    assert broken == {}


def test_the_check_sees_a_wrong_arrow() -> None:
    assert house_import_breaks("from pyvfio_backends.kernel import x\n", "pyvfio") == ["line 1: pyvfio_backends.kernel"]
    assert house_import_breaks("import pyvfio_tools.cli\n", "backends") == ["line 1: pyvfio_tools.cli"]
    assert house_import_breaks("import pyvfio.host\n", "tools") == []


def test_hardware_knows_nothing_of_linux() -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules("backends/software/hardware")
        for name, line in imports(ast.parse(path.read_text()))
        if name.startswith("pyvfio_backends") and not name.startswith("pyvfio_backends.software.hardware")
    ]
    assert broken == []


def runtime_imports(source: str) -> Iterator[tuple[str, int]]:
    """The imports that are not only for types."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    yield from imports(tree)


def test_the_pci_core_knows_no_architecture() -> None:
    """``docs/decisions/2026-11-21-what-an-architecture-gives-to-pci.md``."""
    core = [
        path
        for path in modules("backends/software/linux")
        if path.name.startswith(("pci_", "vfio_pci")) or path.stem in ("pci", "pcieport")
    ]
    broken = [
        f"{path.name}:{line}: {name}"
        for path in core
        for name, line in runtime_imports(path.read_text())
        if "zpci" in name or ".hardware." in name
    ]
    assert len(core) > 10
    assert broken == []


def test_only_two_places_make_system_calls() -> None:
    broken = []
    for folder in PACKAGES:
        for path in modules(folder):
            name = str(path.relative_to(ROOT))
            if name.startswith(MAY_CALL):
                continue
            source = path.read_text()
            for module, line in imports(ast.parse(source)):
                if module.split(".")[0] in SYSTEM and not (name in NAMES_ONLY and module == "mmap"):
                    broken.append(f"{name}:{line}: import {module}")
            for number, text in enumerate(source.splitlines(), 1):
                makes_mapping = name in NAMES_ONLY and MAKES_A_MAPPING.search(text) and "def " not in text
                if SYSTEM_CALLS.search(text) or makes_mapping:
                    broken.append(f"{name}:{number}: {text.strip()}")
    assert broken == []


ABI = re.compile(r"(?<![\w.])(0x1000|4096)(?!\w)")
DOMAIN = re.compile(r"""["']0000:""")


def test_no_fixed_page_size_and_no_fixed_domain() -> None:
    broken = []
    for folder in ("pyvfio", "backends", "tools"):
        for path in modules(folder):
            name = str(path.relative_to(ROOT))
            if name.startswith(("pyvfio/abi/", "pyvfio/testing/contract/")):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and (
                    node.value == 4096 or (isinstance(node.value, str) and node.value.startswith("0000:"))
                ):
                    broken.append(f"{name}:{node.lineno}: {node.value!r}")
    allowed = {
        # the default of a machine description, and the sizes it may have
        "backends/software/description.py",
        "backends/software/loader.py",
        # 4 KiB blocks of format-2 IDAWs, records of a DASD and BAR sizes are the hardware's, not the host's page
        "backends/software/hardware",
        "pyvfio/css",
    }
    assert [line for line in broken if not line.startswith(tuple(allowed))] == []
