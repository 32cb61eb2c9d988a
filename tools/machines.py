"""``pyvfio machines``: the software machines that ``--machine`` takes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click

from pyvfio import plugins
from pyvfio_tools.output import print_json, print_table

__all__ = ["machines"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, on standard output.")
def machines(as_json: bool) -> None:
    """List the software machines that are installed.

    \b
    Examples:
      pyvfio machines
    """
    files: dict[str, Path] = {}
    for provide in plugins.load_all("pyvfio.machines"):
        files.update(provide())
    rows = []
    for name, path in sorted(files.items()):
        head = tomllib.loads(path.read_text(encoding="utf-8")).get("machine", {})
        rows.append((name, str(head.get("architecture", "s390x")), str(head.get("description", ""))))
    if as_json:
        print_json([dict(zip(("name", "architecture", "description"), row, strict=True)) for row in rows])
    else:
        print_table(("MACHINE", "ARCHITECTURE", "WHAT"), rows, empty="no machines are installed")
