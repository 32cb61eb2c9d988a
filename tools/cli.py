"""The command ``pyvfio``: its subcommands, what they share, and the exit codes.

Subcommands are imported when they are used, so that ``pyvfio list`` starts fast.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from pyvfio.errors import Misuse, PyvfioError, from_oserror
from pyvfio.process.streams import open_standard_streams
from pyvfio_tools.commands import Commands

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["COMMANDS", "EXIT_CODES", "main"]

COMMANDS = {
    "aer": "pyvfio_tools.aer:aer",
    "apply": "pyvfio_tools.persistent:apply_",
    "bind": "pyvfio_tools.bind:bind",
    "ccw": "pyvfio_tools.channel:ccw",
    "chccwdev": "pyvfio_tools.chccwdev:chccwdev",
    "chchp": "pyvfio_tools.chchp:chchp",
    "clp": "pyvfio_tools.clp:clp",
    "completion": "pyvfio_tools.completion:completion",
    "dasd": "pyvfio_tools.dasd:dasd",
    "define": "pyvfio_tools.persistent:define",
    "defined": "pyvfio_tools.persistent:defined",
    "demo": "pyvfio_tools.demo:demo",
    "doctor": "pyvfio_tools.doctor:doctor",
    "edu": "pyvfio_tools.edu:edu",
    "eeh": "pyvfio_tools.eeh:eeh",
    "install-units": "pyvfio_tools.persistent:install_units",
    "group": "pyvfio_tools.group:group",
    "grant": "pyvfio_tools.grant:grant",
    "list": "pyvfio_tools.listing:list_",
    "lschp": "pyvfio_tools.lschp:lschp",
    "lscss": "pyvfio_tools.lscss:lscss",
    "lsdasd": "pyvfio_tools.lsdasd:lsdasd",
    "machines": "pyvfio_tools.machines:machines",
    "mdev": "pyvfio_tools.mdev:mdev",
    "monitor": "pyvfio_tools.monitor:monitor",
    "nvme": "pyvfio_tools.nvme:nvme",
    "plan": "pyvfio_tools.plan:plan",
    "release": "pyvfio_tools.bind:release",
    "reset": "pyvfio_tools.reset:reset",
    "restore": "pyvfio_tools.restore:restore_",
    "sandbox": "pyvfio_tools.sandbox:sandbox",
    "show": "pyvfio_tools.show:show",
    "slot": "pyvfio_tools.slot:slot",
    "sriov": "pyvfio_tools.sriov:sriov",
    "topology": "pyvfio_tools.topology:topology_",
    "unbind": "pyvfio_tools.bind:unbind",
    "undefine": "pyvfio_tools.persistent:undefine",
    "zpci": "pyvfio_tools.zpci:zpci",
}
"""Subcommand -> where its function lives."""

SHORT = {
    "aer": "errors of PCI Express: show, inject and watch them",
    "apply": "make active what is persistent, now or at boot",
    "bind": "give devices to a VFIO driver",
    "ccw": "take a channel device for a guest, or give it back",
    "chccwdev": "set channel devices online or offline, and their attributes, as with s390-tools",
    "chchp": "vary and configure channel paths, as with s390-tools",
    "clp": "what the machine's logical processor tells of PCI functions (IBM Z)",
    "completion": "print a completion script for bash, zsh or fish",
    "dasd": "look at, read, write, copy and format a DASD that was taken from the kernel",
    "define": "make drivers and mediated devices persistent, in the files of driverctl and mdevctl",
    "defined": "what is persistent beside what is active",
    "demo": "the main job on the software machine, step by step",
    "doctor": "is this host ready for VFIO, and what to do if not",
    "eeh": "partitionable endpoints of POWER: their state, errors on purpose, recovery",
    "install-units": "write a udev rule and systemd units that apply what is persistent",
    "edu": "use an edu, QEMU's device to learn on, that was taken from the kernel",
    "group": "the members of an IOMMU group, who blocks it, and why they are together",
    "grant": "let a user or a group use a device",
    "list": "devices that VFIO can take, with drivers and groups",
    "lschp": "channel paths, in the table format of s390-tools",
    "lscss": "subchannels, in the table format of s390-tools",
    "lsdasd": "DASDs with their disks and sizes, in the table format of s390-tools",
    "machines": "the software machines that --machine takes",
    "mdev": "mediated devices: types, create, remove, define, attributes, list",
    "monitor": "what happens to devices, as it happens",
    "nvme": "look at, read and write an NVMe disk that was taken from the kernel",
    "plan": "what a command would do: facts, findings, steps and inverses",
    "release": "give devices back to the kernel's own drivers",
    "reset": "reset a PCI function, or everything behind a bridge",
    "restore": "undo what a killed run left",
    "sandbox": "a shell in which all commands work with one software machine",
    "show": "all facts of one device",
    "slot": "hot-plug slots: list, switch on and off, press buttons, watch",
    "sriov": "the virtual functions of a physical function: show, make, remove",
    "topology": "the tree of PCI functions and channel devices, also as a picture",
    "unbind": "take devices away from their driver",
    "undefine": "remove what is persistent",
    "zpci": "PCI functions of IBM Z: show, configure, reset, measure and watch them",
}

EXIT_CODES = {
    0: "success",
    1: "an internal error (please report it)",
    2: "bad usage: a malformed address, option or machine file",
    3: "no such device, or it is on another bus",
    4: "permission denied",
    5: "the device is busy",
    6: "something the operation needs is missing on this host (no /dev/vfio, a module)",
    7: "the kernel refused",
    8: "a channel program, or a command of a disk, ended with an error status; a device gave back other data",
    9: "an awaited event did not come in time",
    10: "a step failed; the host is as it was before",
    11: "a step failed and could not be undone; the message says what is left",
    12: "the software machine does not model this",
    13: "doctor found a problem",
    130: "interrupted",
}
"""The documented exit codes."""


_OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HELP = "pyvfio --help, and pyvfio COMMAND --help"


class _Lazy(Commands):
    """A group whose subcommands are imported on use."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            more = "The options of a command follow it, as in pyvfio list --machine z15-lpar."
            raise click.UsageError(f"{error.format_message()} {more}", ctx) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem  # only needed by a shell

        if not incomplete.startswith("-"):  # click would import every command for its one line of help
            return [CompletionItem(name, help=SHORT[name]) for name in COMMANDS if name.startswith(incomplete)]
        return super().shell_complete(ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SHORT[name]) for name in self.list_commands(ctx)])


_EPILOG = """\b
Examples:
  pyvfio list --machine z15-lpar
  pyvfio show 0.0.013f --machine z15-lpar
  pyvfio bind 0011:00:00.0
  pyvfio ccw take 0.0.1234

\b
Exit codes:
""" + "\n".join(f"  {code:<4} {text}" for code, text in EXIT_CODES.items())


@click.group(cls=_Lazy, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pyvfio", prog_name="pyvfio")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Take a device away from the kernel and give it to a program or a guest, and give it back.

    Every command works on this host (--backend kernel, the default) or on a software machine (--machine NAME).
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main(arguments: list[str] | None = None) -> None:
    """Run the command and end the process with a documented exit code."""
    gc.set_threshold(50_000)  # a short life with little garbage: collections would cost a tenth of it
    open_standard_streams()
    status = run(sys.argv[1:] if arguments is None else arguments)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        status = status or _output_failed(error)
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    completing = "_PYVFIO_COMPLETE" in os.environ
    if completing:
        importlib.import_module("pyvfio_tools.shells")  # the shell asks what it may offer
    try:
        result: Any = cli.main(args=arguments, prog_name="pyvfio", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        notes = getattr(stop.__cause__ or stop.__context__ or stop, "__notes__", [])
        _say("\n  ".join(["interrupted", *notes]))
        return 130
    except click.ClickException as error:
        if "--json" not in arguments:
            with contextlib.suppress(OSError):  # nobody can be told
                error.show()
            return error.exit_code
        return _tell(Misuse("read the command line", cause=error.format_message(), next_step=_HELP), True)
    except PyvfioError as error:
        return _tell(error, "--json" in arguments)
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        return _output_failed(error)
    except SystemExit as stop:  # click's own answer to a closed pipe, and to a shell
        if completing:
            return 0 if stop.code is None else int(stop.code)
        return _output_failed(BrokenPipeError())
    return result if isinstance(result, int) else 0


def _output_failed(error: OSError) -> int:
    """Whoever reads has gone (``| head -1``): that is no error.  A full disk is one."""
    sys.stdout = open(os.devnull, "w")  # the interpreter flushes it at the end  # noqa: SIM115
    if isinstance(error, BrokenPipeError):
        return 0
    return _tell(from_oserror(error, "write the output", "standard output", cause="not all of it was written"), False)


def _tell(error: PyvfioError, as_json: bool) -> int:
    if as_json:
        import json

        _say(json.dumps(error.as_dict()))
    else:
        _say(f"pyvfio: {error}")
    return error.exit_code


def _say(text: str) -> None:
    """Print on standard error; where that cannot be written, the exit code has to do."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w")  # the interpreter flushes it at the end  # noqa: SIM115
