"""Turn the tables of `pyvfio.abi` into C assertions, and ask a compiler which of them the kernel's headers confirm.

Every size, offset, sign and number is one line `_Static_assert(...)`; a compiler that accepts the line has compared
it, so nothing is run and a cross compiler serves as well as the host's.  A line which names something that the header
does not have is told apart from a line which is wrong.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from pyvfio.abi import (
    iommufd,
    pci_bridge_regs,
    pci_capability_regs,
    pci_express_regs,
    pci_extended_regs,
    pci_regs,
    vfio,
    vfio_ccw,
    vfio_feature,
    vfio_gfx,
    vfio_spapr,
    vfio_type1,
    vfio_zdev,
    virtio_pci,
)
from pyvfio.abi.layout import AbiStructure
from pyvfio.abi.request import Request

TABLES: dict[str, tuple[ModuleType, ...]] = {
    "linux/vfio.h": (vfio, vfio_type1, vfio_feature, vfio_gfx, vfio_spapr),
    "linux/vfio_ccw.h": (vfio_ccw,),
    "linux/vfio_zdev.h": (vfio_zdev,),
    "linux/iommufd.h": (iommufd,),
    "linux/pci_regs.h": (pci_regs, pci_bridge_regs, pci_capability_regs, pci_express_regs, pci_extended_regs),
    "linux/virtio_pci.h": (virtio_pci,),
}
WRITTEN_FROM = (6, 12)
"""The Linux version whose headers the tables follow."""


@dataclass(frozen=True)
class Fact:
    """One claim: `condition` is a C expression over `subject`, a constant, a structure or ``structure.field``."""

    subject: str
    condition: str


@dataclass
class Verdict:
    """What a compiler said about the facts of one header."""

    checked: list[Fact] = field(default_factory=list)
    absent: list[Fact] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    outgrown: list[Fact] = field(default_factory=list)
    """Sizes of structures which have fewer fields in these headers."""
    version: tuple[int, int] = (0, 0)
    has_header: bool = True

    @property
    def absent_names(self) -> set[str]:
        return {fact.subject for fact in self.absent}


def constants(module: ModuleType, machine: str = "") -> dict[str, int | str]:
    """The numbers and texts of `module`; requests as `machine` (``uname -m``; default: this one) has them."""
    return {
        name: value.on(machine) if machine and isinstance(value, Request) else value
        for name, value in vars(module).items()
        if re.fullmatch(r"[A-Z][A-Za-z0-9]*_\w+", name) and type(value) in (int, str, Request)
    }


def structures(module: ModuleType) -> list[type[AbiStructure]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, AbiStructure) and value._c_name_
    ]


def constant_fact(name: str, value: int | str) -> Fact:
    if isinstance(value, str):
        return Fact(name, f'__builtin_strcmp({name}, "{value}") == 0')
    # Some numbers are negative ints in C ((1 << 31), -1) and live in fields of 32 unsigned bits.
    number = f"(({name}) < 0 ? (unsigned long long)(unsigned int)({name}) : (unsigned long long)({name}))"
    # How many interrupts or states there are may grow in a later kernel; nothing else may change.
    return Fact(name, _equal_or_grown(number, value) if re.search(r"_NUM_|_NR$", name) else f"{number} == {value}ULL")


def _equal_or_grown(number: str, value: int) -> str:
    return f"({number} == {value}ULL || (NEWER_HEADERS && {number} > {value}ULL))"


def structure_facts(cls: type[AbiStructure]) -> list[Fact]:
    name = f"struct {cls._c_name_}"
    facts = [Fact(cls._c_name_, _equal_or_grown(f"sizeof({name})", ctypes.sizeof(cls)))]
    for member, offset, kind in _members(cls, 0):
        subject, access = f"{cls._c_name_}.{member}", f"(({name} *)0)->{member}"
        facts.append(Fact(subject, f"__builtin_offsetof({name}, {member}) == {offset}"))
        if ctypes.sizeof(kind):
            facts.append(Fact(subject, f"sizeof({access}) == {ctypes.sizeof(kind)}"))
        # c_size_t stands for a pointer, which has no sign; arrays and structures have none either.
        if issubclass(kind, ctypes._SimpleCData) and kind is not ctypes.c_size_t:
            facts.append(Fact(subject, f"((__typeof__({access}))-1 < 0) == {int(kind(-1).value < 0)}"))
    return facts


def _members(cls: Any, base: int) -> list[tuple[str, int, Any]]:
    """Name, offset and type of each field, those of anonymous unions as if they were fields of `cls`."""
    found: list[tuple[str, int, Any]] = []
    for name, kind in cls._fields_:
        offset = base + getattr(cls, name).offset
        found += _members(kind, offset) if name in getattr(cls, "_anonymous_", ()) else [(name, offset, kind)]
    return found


def facts_of(header: str, machine: str = "") -> list[Fact]:
    """What `TABLES` says of `header` on `machine` (``uname -m``; default: this one)."""
    facts: list[Fact] = []
    for module in TABLES[header]:
        facts += [constant_fact(name, value) for name, value in constants(module, machine).items()]
        for cls in structures(module):
            facts += structure_facts(cls)
    return facts


_ABSENT = re.compile(r"undeclared|has no member|no member named|incomplete|undefined type")


def ask(compiler: str, header: str, facts: list[Fact], include: Path | None = None) -> Verdict:
    """Compile the facts of `header` with `compiler`, with the headers in `include` before the system's."""
    known = (WRITTEN_FROM[0] << 16) + (WRITTEN_FROM[1] << 8) + 255
    # vfio.h goes first, because the numbers of the channel device's interrupts and regions are there.
    prelude = ["#include <linux/version.h>", "#include <linux/vfio.h>", f"#include <{header}>"]
    if header == "linux/iommufd.h":
        del prelude[1]
    prelude.append(f"#define NEWER_HEADERS (LINUX_VERSION_CODE > {known})")
    prelude.append("int version = LINUX_VERSION_CODE;")
    lines = [*prelude, *(f'_Static_assert({fact.condition}, "{fact.subject}");' for fact in facts)]
    errors, assembly = _compile(compiler, "\n".join(lines) + "\n", include)
    if any("No such file" in text or "file not found" in text for text in errors.get(0, [])):
        return Verdict(has_header=False)
    verdict = Verdict(version=_version(compiler, include))
    for number, fact in enumerate(facts, start=len(prelude) + 1):
        said = errors.pop(number, [])
        if not said:
            verdict.checked.append(fact)
        elif any(_ABSENT.search(text) for text in said):
            verdict.absent.append(fact)
        else:
            verdict.wrong.append(f"{fact.subject}: {fact.condition}")
    verdict.wrong += [f"{header}: {text}" for said in errors.values() for text in said]
    # A structure that had fewer fields once may have had another size.
    grown = {name.partition(".")[0] for name in verdict.absent_names if "." in name}
    for fact in [fact for fact in facts if fact.subject in grown]:
        text = f"{fact.subject}: {fact.condition}"
        if text in verdict.wrong:
            verdict.wrong.remove(text)
            verdict.outgrown.append(fact)
    if assembly:
        verdict.wrong.append(assembly)
    return verdict


def _command(compiler: str, include: Path | None) -> list[str]:
    command = [compiler, "-std=gnu11", "-x", "c", "-w"]
    return [*command, "-isystem", str(include)] if include else command


def _compile(compiler: str, source: str, include: Path | None) -> tuple[dict[int, list[str]], str]:
    """The errors by line (0: a header is missing), and what went wrong beyond them."""
    limit = ["-ferror-limit=0"] if "clang" in _run([compiler, "--version"]).stdout else ["-fmax-errors=0"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.c")
        path.write_text(source)
        done = _run([*_command(compiler, include), *limit, "-fsyntax-only", str(path)])
    errors: dict[int, list[str]] = {}
    for line in done.stderr.splitlines():
        if match := re.match(r".*?:(\d+):(?:\d+:)? (fatal )?error: (.*)", line):
            errors.setdefault(0 if match[2] else int(match[1]), []).append(match[3])
    strange = done.stderr if done.returncode and not errors else ""
    return errors, strange


def _version(compiler: str, include: Path | None) -> tuple[int, int]:
    """The Linux version of the headers."""
    done = _run([*_command(compiler, include), "-E", "-P", "-"], "#include <linux/version.h>\nLINUX_VERSION_CODE\n")
    code = int(done.stdout.split()[-1])
    return code >> 16, code >> 8 & 0xFF


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, input=text, capture_output=True, text=True, env=environment, timeout=120)


def names_in_header(compiler: str, header: str, include: Path | None = None) -> set[str]:
    """The constants and ``struct`` names that a header defines itself, of macros only those without arguments."""
    source = f"#include <{header}>\n"
    done = _run([*_command(compiler, include), "-E", "-dD", "-"], source)
    inside, names = False, set()
    for line in done.stdout.splitlines():
        if marker := re.match(r'# \d+ "(.*?)"', line):
            inside = marker[1].endswith(header)
        elif inside:
            names.update(re.findall(r"^#define ([A-Z]\w+)(?= )", line))
            names.update(re.findall(r"^\s*(?:VFIO|IOMMUFD?)_\w+(?=\s*[,=]|$)", line.rstrip()))
            names.update(re.findall(r"^struct (\w+) \{", line))
    guard = header.rpartition("/")[2].upper().replace(".", "_")
    return {name.strip() for name in names} - {guard}
