"""Trees of devices as values, and how they are drawn on a terminal, as SVG and as JSON."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = ["Branch", "draw", "lines", "plain", "svg_text"]

_STYLES = {"name": "bold", "driver": "cyan", "vfio": "green", "group": "magenta", "quiet": "dim", "what": ""}
_ENDLESS = 1 << 14
"""Columns of a line that is not to be wrapped."""
_MARGIN = 2
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


@dataclass(slots=True)
class Branch:
    """A node of a tree: what `kind` it is, its `name`, `words` about it with the role of each, and plain `facts`.

    `key` is unique in its tree.  The roles are those of the styles above.
    """

    key: str
    kind: str
    name: str
    words: list[tuple[str, str]] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    children: list[Branch] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The label without styles."""
        return "  ".join([self.name, *(word for word, _ in self.words)])


def plain(branch: Branch) -> dict[str, object]:
    """A branch and what is below it as plain data."""
    children: list[object] = [plain(child) for child in branch.children]
    return {"kind": branch.kind, "name": branch.name, **branch.facts, "children": children}


def draw(branches: list[Branch]) -> None:
    """Draw the trees on standard output, with colours on a terminal only and none with NO_COLOR."""
    from rich.console import Console

    # The terminal wraps what is too long; rich would cut it off.
    console = Console(width=_ENDLESS, highlight=False, markup=False, emoji=False)
    for branch in branches:
        console.print(_tree(branch))


def lines(branch: Branch) -> list[str]:
    """The drawing as lines without colours."""
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=_ENDLESS, highlight=False, markup=False, emoji=False).print(_tree(branch))
    return file.getvalue().splitlines()


def svg_text(branches: list[Branch], title: str) -> str:
    """A picture of the trees.  It needs nothing from the network: the viewer's own monospaced font is used."""
    from rich.console import Console

    width = max((len(line) for branch in branches for line in lines(branch)), default=0) + _MARGIN
    console = Console(file=io.StringIO(), record=True, width=width, highlight=False, markup=False, emoji=False)
    for branch in branches:
        console.print(_tree(branch))
    return _FONT_FACE.sub("", console.export_svg(title=title))


def _tree(branch: Branch) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    def label(one: Branch) -> Text:
        text = Text(one.name, style=_STYLES["name"], no_wrap=True, overflow="ignore")
        for word, role in one.words:
            text.append("  ")
            text.append(word, style=f"not bold {_STYLES[role]}".rstrip())
        return text

    root = Tree(label(branch), guide_style=_STYLES["quiet"])
    stack = [(root, branch)]
    while stack:
        tree, one = stack.pop()
        for child in one.children:
            stack.append((tree.add(label(child)), child))
    return root
