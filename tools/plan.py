"""``pyvfio plan``: what a command would do, without doing it."""

from __future__ import annotations

import copy
import importlib

import click

from pyvfio_tools.acting import PLANNING
from pyvfio_tools.commands import Commands

__all__ = ["plan"]

VERBS = {
    "apply": "pyvfio_tools.persistent:apply_",
    "bind": "pyvfio_tools.bind:bind",
    "chccwdev": "pyvfio_tools.chccwdev:chccwdev",
    "chchp": "pyvfio_tools.chchp:chchp",
    "ccw-give-back": "pyvfio_tools.channel:give_back",
    "ccw-take": "pyvfio_tools.channel:take",
    "define": "pyvfio_tools.persistent:define",
    "grant": "pyvfio_tools.grant:grant",
    "install-units": "pyvfio_tools.persistent:install_units",
    "mdev-attributes": "pyvfio_tools.mdev:attributes",
    "mdev-create": "pyvfio_tools.mdev:create",
    "mdev-define": "pyvfio_tools.mdev_defined:define",
    "mdev-modify": "pyvfio_tools.mdev_defined:modify",
    "mdev-remove": "pyvfio_tools.mdev:remove",
    "release": "pyvfio_tools.bind:release",
    "reset": "pyvfio_tools.reset:reset",
    "sriov": "pyvfio_tools.sriov:sriov",
    "unbind": "pyvfio_tools.bind:unbind",
    "undefine": "pyvfio_tools.persistent:undefine",
    "zpci-disable": "pyvfio_tools.zpci:disable",
    "zpci-enable": "pyvfio_tools.zpci:enable",
    "zpci-reset": "pyvfio_tools.zpci:reset",
}
"""Verb -> the command that does it."""


def _hidden(parameter: click.Parameter) -> click.Parameter:
    """The same option, not shown: it goes without saying here."""
    hidden = copy.copy(parameter)
    if isinstance(hidden, click.Option):
        hidden.hidden = True
    return hidden


class _Verbs(Commands):
    """The commands that act, imported on use, without ``--dry-run``, which goes without saying here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = VERBS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = copy.copy(getattr(importlib.import_module(module), name))
        command.name = cmd_name
        command.params = [_hidden(one) if one.name == "dry_run" else one for one in command.params]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_text(", ".join(self.list_commands(ctx)))


@click.group(cls=_Verbs)
@click.pass_context
def plan(ctx: click.Context) -> None:
    """Show what a command would do: the facts of now, what speaks against it, the steps and their inverses.

    Nothing is changed. The exit code is that of the command: 5 when it would be refused because a device is in use.

    \b
    Examples:
      pyvfio plan bind 0011:00:00.0
      pyvfio plan ccw-take 0.0.1234 --json
    """
    ctx.meta[PLANNING] = True
