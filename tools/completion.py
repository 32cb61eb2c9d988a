"""``pyvfio completion``: a completion script for the shell."""

from __future__ import annotations

import click

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script, live device names included.

    \b
    Examples:
      pyvfio completion bash > /etc/bash_completion.d/pyvfio
      pyvfio completion fish > ~/.config/fish/completions/pyvfio.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    root = ctx.find_root().command
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(root, {}, "pyvfio", "_PYVFIO_COMPLETE").source())
