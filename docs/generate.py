"""`make docs`: writes the pages that come from the code.

* ``docs/man/*.1``: the manual pages, from the commands themselves (click-man)
* ``docs/commands.md``: the same help texts for reading on the web
* ``docs/not-modelled.md``: everything that raises "not modelled"
"""

from __future__ import annotations

import ast
import warnings
from importlib import metadata
from pathlib import Path
from unittest import mock

import click

from pyvfio_tools.cli import EXIT_CODES, cli

_LONGEST = 300
ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
DATE = "2026-11-21"
"""On the manual pages: the day of the version, so that the pages change only with the commands."""


def man() -> None:
    """One page for the command and one for each subcommand."""
    from click_man import core  # only this page needs it; it is in the extra "docs"

    target = DOCS / "man"
    target.mkdir(exist_ok=True)
    for old in target.glob("*.1"):
        old.unlink()
    whole = click.Group("pyvfio", help=cli.help, epilog=cli.epilog, params=cli.params)
    context = click.Context(cli, info_name="pyvfio")
    for name in cli.list_commands(context):  # click-man looks at `commands`, where a lazy group has none yet
        whole.add_command(cli.get_command(context, name), name)
    with warnings.catch_warnings(), mock.patch.object(core, "get_short_help_str", _sentence):
        warnings.simplefilter("ignore")
        core.write_man_pages("pyvfio", whole, version=metadata.version("pyvfio"), target_dir=str(target), date=DATE)
    codes = [f".TP\n\\fB{code}\\fP\n{meaning}\n" for code, meaning in EXIT_CODES.items()]
    for page in sorted(target.glob("*.1")):
        page.write_text(page.read_text().rstrip() + "\n.SH EXIT STATUS\n" + "".join(codes))


def _sentence(command: click.Command, limit: int = 0) -> str:
    """The whole first sentence of a command's help, for the NAME of its page; click-man cuts it to 45 characters."""
    return command.get_short_help_str(_LONGEST).rstrip(".")


def commands() -> None:
    """All help texts."""
    text = ["# Commands", "", "Written by `make docs` from the commands themselves.", ""]

    def walk(command: click.Command, path: list[str], parent: click.Context | None) -> None:
        settings = {"help_option_names": ["-h", "--help"]} if parent is None else {}
        context = click.Context(
            command, info_name=path[-1], parent=parent, terminal_width=100, max_content_width=100, **settings
        )
        text.extend([f"## `{' '.join(path)}`", "", "```", command.get_help(context), "```", ""])
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                if child is not None:
                    walk(child, [*path, name], context)

    walk(cli, ["pyvfio"], None)
    text += ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    text += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    (DOCS / "commands.md").write_text("\n".join(text) + "\n")


def raises() -> list[tuple[str, str]]:
    """(module, what) of every `NotModelled` in the tree."""
    found = []
    for folder in ("pyvfio", "backends", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "NotModelled" and node.args:
                    found.append((str(path.relative_to(ROOT)), _text(node.args[0])))
    return found


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ast.unparse(node)


def not_modelled() -> None:
    """The list of what the software machine leaves out."""
    preface = (DOCS / "not-modelled.in.md").read_text()
    rows = [f"| {what} | `{module}` |" for module, what in raises()]
    table = ["| not modelled | raised in |", "|---|---|", *rows]
    (DOCS / "not-modelled.md").write_text(preface + "\n" + "\n".join(table) + "\n")


if __name__ == "__main__":
    man()
    commands()
    not_modelled()
