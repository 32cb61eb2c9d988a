"""The README tells the truth: its program runs, its demo excerpt is real, its command lines parse."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import click
import pytest

from pyvfio_tools.cli import cli, run

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "docs/machines.md", "docs/commands.md"]


def _between(marker: str) -> list[str]:
    """The lines of the fenced block between two markers."""
    text = README.partition(f"<!-- {marker} -->\n")[2].partition(f"<!-- /{marker} -->")[0]
    return [line for line in text.splitlines() if not line.startswith("```")]


def test_the_program_runs_and_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    program = _between("program")
    assert 5 < len(program) <= 15
    exec(compile("\n".join(program), "README.md", "exec"), {"__name__": "__main__"})
    assert "b'hello'" in capsys.readouterr().out


def test_the_demo_excerpt_is_real_output_in_its_order() -> None:
    shown = [line for line in _between("demo") if line.strip() != "..." and not line.startswith("$ ")]
    assert 10 <= len(shown) <= 30, "a first screen"
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert run(["demo"]) == 0
    real = [re.sub(r" ─+$", "", line) for line in output.getvalue().splitlines()]
    at = 0
    for line in shown:
        assert line in real[at:], line
        at = real.index(line, at) + 1


def _command_lines() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for line in (ROOT / page).read_text().splitlines():
            match = re.match(r"\s+(?:\$ )?(pyvfio (?!COMMAND)[a-z].*)", line)
            if match:
                found.append((page, match.group(1)))
    return found


def test_there_are_command_lines_to_check() -> None:
    assert {page for page, _ in _command_lines()} == set(PAGES)


@pytest.mark.parametrize(("page", "line"), _command_lines(), ids=lambda value: value)
def test_command_lines_parse(page: str, line: str) -> None:
    words = shlex.split(re.split(r" [>|] ", line)[0], comments=True)
    command: click.Command = cli
    context = click.Context(cli, info_name="pyvfio")
    rest = words[1:]
    while isinstance(command, click.Group):
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, f"{page}: no command {name}"
        command = found
        context = click.Context(command, info_name=name, parent=context)
    command.parse_args(context, rest)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
