"""Groups of commands: what they say of their commands, and of one that they do not have."""

from __future__ import annotations

from collections.abc import Sequence

import click

__all__ = ["Commands", "similar"]

_WHOLE = 300


def similar(name: str, known: Sequence[str]) -> list[str]:
    """Which of the `known` commands somebody may have meant who wrote `name`."""
    import difflib  # only who mistyped needs it

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return close or [one for one in known if len(name) > 1 and (one.startswith(name) or one.endswith(f"-{name}"))]


class Commands(click.Group):
    """A group which shows the whole first sentence of each command, and names what may be meant by an unknown one."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, none cut short."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(_WHOLE)) for name, one in found.items() if one is not None]
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's.  Raise `click.UsageError` that names similar commands."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            found = similar(name, self.list_commands(ctx))
            more = f" Did you mean {', or '.join(f'{ctx.command_path} {one}' for one in found)}?" if found else ""
            ctx.fail(f"No such command {name!r}.{more}")
        return super().resolve_command(ctx, args)
