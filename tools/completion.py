"""``pyvfio completion``: a completion script for the shell."""

from __future__ import annotations

import click

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script; it offers the devices, drivers, groups and machines that are there at that moment.

    \b
    Examples:
      pyvfio completion bash > /etc/bash_completion.d/pyvfio
      pyvfio completion zsh > /usr/local/share/zsh/site-functions/_pyvfio
      pyvfio completion fish > ~/.config/fish/completions/pyvfio.fish
      eval "$(pyvfio completion bash)"
    """
    from pyvfio_tools.shells import SHELLS

    click.echo(SHELLS[shell](ctx.find_root().command, {}, "pyvfio", "_PYVFIO_COMPLETE").source(), nl=False)
