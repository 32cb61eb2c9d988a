"""Public names are documented and named in ``__all__``; what is private to a module begins with an underscore."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABI = "pyvfio/abi/"  # a kernel header each: all of its names are public, and the header documents them
CONTRACT = "pyvfio/testing/contract/"  # tests
OVERRIDES = "backends/software/"  # what overrides a documented method needs no words of its own
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith(("_", "pytest_")):
            decorators = [ast.unparse(one) for one in node.decorator_list]
            if not any(one == "overload" or one.endswith(".setter") for one in decorators):
                yield node


def exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def unnamed(source: str) -> list[str]:
    tree = ast.parse(source)
    return [node.name for node in definitions(tree.body) if node.name not in exported(tree)]


def undocumented(source: str, *, methods: bool) -> list[str]:
    tree = ast.parse(source)
    missing = [] if not tree.body or ast.get_docstring(tree) else ["the module"]
    for node in definitions(tree.body):
        missing += [] if ast.get_docstring(node) else [node.name]
        if methods and isinstance(node, ast.ClassDef):
            missing += [f"{node.name}.{one.name}" for one in definitions(node.body) if not ast.get_docstring(one)]
    return missing


@pytest.mark.parametrize("folder", ["pyvfio", "backends", "fixtures"])
def test_public_names(folder: str) -> None:
    broken: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name.startswith(CONTRACT):
            continue
        source = path.read_text()
        found = undocumented(source, methods=not name.startswith(OVERRIDES))
        if not name.startswith(ABI):
            found += [f"{one} is not in __all__" for one in unnamed(source)]
        if found:
            broken[name] = found
    assert broken == {}


def test_the_check_sees_what_is_missing() -> None:
    source = '"""m"""\n__all__ = ["a"]\ndef a():\n    """d"""\nclass B:\n    """d"""\n    def c(self): ...\n'
    source += "    def _d(self): ...\n    @c.setter\n    def e(self, value): ...\n"
    assert unnamed(source) == ["B"]
    assert undocumented(source, methods=True) == ["B.c"]
    assert undocumented(source, methods=False) == []
    assert undocumented("x = 1\n", methods=True) == ["the module"]
    assert undocumented("", methods=True) == []
