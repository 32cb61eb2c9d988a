"""Trees of devices in the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio_tools.tree import Branch

__all__ = ["dot_text"]

_SHAPES = {"function": "box", "device": "box", "mdev": "ellipse", "subchannel": "box"}
_DEFAULT_SHAPE = "plaintext"
_FILLS = {"vfio": "palegreen", "driver": "lightcyan"}


def dot_text(branches: list[Branch], title: str) -> str:
    """One directed graph of all the trees, each node with its words; a VFIO driver is green."""
    lines = [
        f"digraph {_quoted(title)} {{",
        "  rankdir=LR;",
        '  node [shape=box, fontname="sans-serif", fontsize=10];',
    ]
    for branch in branches:
        lines += _nodes(branch)
    for branch in branches:
        lines += _edges(branch)
    return "\n".join([*lines, "}"]) + "\n"


def _nodes(branch: Branch) -> Iterator[str]:
    label = "\\n".join(_escaped(text) for text in (branch.name, *(word for word, _ in branch.words)))
    attributes = [f'label="{label}"', f"shape={_SHAPES.get(branch.kind, _DEFAULT_SHAPE)}"]
    fill = next((_FILLS[role] for _, role in branch.words if role in _FILLS), None)
    if fill is not None:
        attributes += ["style=filled", f"fillcolor={fill}"]
    yield f"  {_quoted(branch.key)} [{', '.join(attributes)}];"
    for child in branch.children:
        yield from _nodes(child)


def _edges(branch: Branch) -> Iterator[str]:
    for child in branch.children:
        yield f"  {_quoted(branch.key)} -> {_quoted(child.key)};"
        yield from _edges(child)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'
