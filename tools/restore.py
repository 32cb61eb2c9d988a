"""``pyvfio restore``: undo what a killed run left."""

from __future__ import annotations

import click

from pyvfio.binding import Record, records, restore
from pyvfio.errors import DeviceBusy, NoSuchDevice, PyvfioError
from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio_tools.acting import force_option, journal_directory
from pyvfio_tools.complete import complete_journal
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.progress import watcher

__all__ = ["restore_"]


def _as_dict(host: Host, record: Record) -> dict[str, object]:
    return {
        "journal": record.path,
        "title": record.title,
        "objects": list(record.objects),
        "time": record.time,
        "pid": record.pid,
        "at_work": record.alive(host.sysfs),
        "waits": record.waits,
        "damaged": record.damaged,
        "before": [dict(zip(("device", "what", "value"), fact, strict=False)) for fact in record.before],
        "undo": [{"step": step.text, "undo": step.undo_text} for step in record.left()],
    }


def _show(host: Host, record: Record) -> None:
    state = "at work" if record.alive(host.sysfs) else record.damaged or record.waits or "killed"
    click.echo(click.style(record.title, bold=True) + f"  ({record.time} pid {record.pid}: {state})")
    for device, what, value in record.before:
        click.echo(f"  before: {device} {what} {value}")
    for step in record.left():
        click.echo(f"  {step.text}: {step.undo_text}")
    click.echo(f"  journal: {record.path}")


@click.command("restore")
@click.argument("journals", metavar="[JOURNAL]...", nargs=-1, shell_complete=complete_journal)
@click.option("--list", "only_list", is_flag=True, help="Show what there is to undo, and change nothing.")
@click.option("--dry-run", is_flag=True, help="The same as --list.")
@click.option("--forget", is_flag=True, help="Remove the journals without undoing anything: the state is as wanted.")
@force_option
@host_options
def restore_(
    host: Host,
    as_json: bool,
    journals: tuple[str, ...],
    only_list: bool,
    dry_run: bool,
    forget: bool,
    force: tuple[str, ...],
) -> None:
    """Undo what killed runs left, as their journals say: all of them, or the JOURNAL files that are named.

    Every command that changes a host writes a journal before its first step. A run that is killed leaves it behind;
    this puts drivers, overrides, online states and mediated devices back where they were. A device that somebody began
    to use since is refused, with the evidence.

    \b
    Examples:
      pyvfio restore --list
      pyvfio restore
      pyvfio restore --forget /var/lib/pyvfio/journal/20261121T101500.000000-4711.json
    """
    found = records(host.sysfs, journal_directory())
    if journals:
        known = {record.path: record for record in found} | {record.path.rpartition("/")[2]: record for record in found}
        for name in journals:
            if name not in known:
                raise NoSuchDevice(
                    "restore",
                    name,
                    cause=f"there is no such journal in {journal_directory()}",
                    next_step="pyvfio restore --list shows what there is",
                )
        found = list({known[name].path: known[name] for name in journals}.values())
    documents = [_as_dict(host, record) for record in found]
    acts = not (only_list or dry_run)
    if not as_json and not found:
        click.echo("there is nothing to undo")
    failures: list[PyvfioError] = []
    for record, document in zip(found, documents, strict=True):
        if not as_json:
            _show(host, record)
        document["done"] = False
        try:
            if acts:
                _end(host, record, forget=forget, force=force, quiet=as_json)
                document["done"] = True
        except PyvfioError as error:  # the others are undone all the same
            failures.append(error)
            if not as_json and error is not failures[0]:
                click.echo(f"pyvfio: {error}", err=True)
            continue
        if acts and not as_json:
            click.echo(click.style("forgotten" if forget else "restored", fg="green") + f": {record.title}")
    if as_json and not failures:
        print_json(documents)
    if failures:
        raise failures[0]


def _end(host: Host, record: Record, *, forget: bool, force: tuple[str, ...], quiet: bool) -> None:
    if not forget:
        restore(host.sysfs, record, watcher(quiet), force=force)
        return
    if record.alive(host.sysfs):
        raise DeviceBusy(
            "forget",
            record.path,
            cause=f"pyvfio (pid {record.pid}) is at work on it: {record.title}",
            next_step="wait for its end",
        )
    HostFiles(host.backend).remove(record.path)
