"""The pages that `make docs` writes are committed and name what there is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import click

from pyvfio_tools.cli import EXIT_CODES, cli

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _paths(command: object, path: str) -> list[str]:
    found = [path]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found += _paths(command.get_command(context, name), f"{path} {name}")
    return found


COMMANDS = _paths(cli, "pyvfio")


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_command_has_its_section() -> None:
    headings = [line[4:-1] for line in (DOCS / "commands.md").read_text().splitlines() if line.startswith("## `")]
    assert headings == COMMANDS


def test_every_command_has_its_manual_page() -> None:
    # A verb of `plan` is described on the page of the command that does it.
    wanted = {f"{path.replace(' ', '-')}.1" for path in COMMANDS if not path.startswith("pyvfio plan ")}
    assert {page.name for page in (DOCS / "man").glob("*.1")} == wanted


def test_every_exit_code_is_on_every_page() -> None:
    for page in [DOCS / "commands.md", *(DOCS / "man").glob("*.1")]:
        text = page.read_text()
        for code, meaning in EXIT_CODES.items():
            assert meaning in text, f"{page.name}: {code}"


def test_the_list_of_what_is_not_modelled_is_current() -> None:
    generate = _generator()
    text = (DOCS / "not-modelled.md").read_text()
    for module, what in generate.raises():
        assert f"| {what} | `{module}` |" in text, "run make docs"
