"""``pyvfio chchp``: vary and configure channel paths, as with s390-tools."""

from __future__ import annotations

import click

from pyvfio.binding.chp_settings import PathSettings, plan_channel_paths
from pyvfio.channel_paths import parse_channel_paths
from pyvfio.host import Host
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.complete import complete_channel_path

__all__ = ["chchp"]

_ATTRIBUTES = ("configure=0", "configure=1", "status=0", "status=1")
_SWITCH = click.Choice(["0", "1"])


def _given(vary: str | None, configure: str | None, attributes: tuple[str, ...]) -> PathSettings:
    """What the options ask for; of an attribute that is given twice, the last value counts."""
    values = {"status": vary, "configure": configure}
    for text in attributes:
        name, equals, value = text.partition("=")
        value = {"online": "1", "offline": "0"}.get(value, value) if name == "status" else value
        if not equals or name not in values or value not in ("0", "1"):
            raise click.UsageError(f"-a takes status=0, status=1, configure=0 or configure=1, not {text!r}.")
        values[name] = value
    if not any(values.values()):
        raise click.UsageError("Say what shall be done: -v 0, -v 1, -c 0 or -c 1.")
    switches = {name: None if value is None else value == "1" for name, value in values.items()}
    return PathSettings(switches["status"], switches["configure"])


def _complete_attribute(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [text for text in _ATTRIBUTES if text.startswith(incomplete)]


@click.command()
@click.argument("chpids", metavar="CHPID...", nargs=-1, required=True, shell_complete=complete_channel_path)
@click.option("-v", "--vary", type=_SWITCH, help="Use the paths (1), or do not (0).")
@click.option("-c", "--configure", type=_SWITCH, help="Get the paths from the machine (1), or give them back (0).")
@click.option(
    "-a",
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=_complete_attribute,
    help="The same by attribute: status or configure.",
)
@acting_options
def chchp(
    host: Host,
    acting: Acting,
    chpids: tuple[str, ...],
    vary: str | None,
    configure: str | None,
    attributes: tuple[str, ...],
) -> None:
    """Vary channel paths on or off, and configure them. All of it is done, or nothing.

    CHPID is a channel path (0.4b, 4b), a range (0.40-0.43) or a list of them; a range stands for those of it that are
    there. A path is not taken from a device that is in use and has no other one, unless the probe that found the use is
    named with --force=PROBE.

    \b
    Examples:
      pyvfio chchp -v 0 0.42 --machine z15-lpar
      pyvfio chchp -v 1 0.40-0.43,0.4b
      pyvfio chchp -c 1 0.4b --dry-run
    """
    wanted = _given(vary, configure, attributes)
    ids = [one for one, named in parse_channel_paths(chpids) if named or host.sysfs.exists(one.path)]
    acting.carry_out(plan_channel_paths(host, ids, wanted))
