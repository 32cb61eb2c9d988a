"""Machine files: every mistake names the file, the key and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyvfio.errors import BadMachine
from pyvfio_backends.software.loader import find_machine, load_machine, machine_files

HEAD = '[machine]\nname = "m"\n'
PATH = "[[css.path]]\nchpid = 1\n"
SUBCHANNEL = '[[css.subchannel]]\nschid = "0.0.0001"\ndevice = "0.0.1000"\nunit = "echo"\nchpids = [1]\n'
FUNCTION = '[[zpci.function]]\nuid = 1\nfid = 2\nmodel = "virtio-rng"\n'

MISTAKES = {
    "no table": ("", "machine", None, "missing"),
    "no name": ("[machine]\npage_size = 4096\n", "machine", 1, "missing: name"),
    "unknown table": (HEAD + "[ccs]\n", "ccs", 3, "unknown table"),
    "unknown key": (HEAD + "pagesize = 4096\n", "machine.pagesize", 3, "unknown key"),
    "unknown key of css": (HEAD + "[css]\nchannel = 1\n", "css.channel", 3, "unknown key"),
    "wrong type": (HEAD + 'page_size = "4K"\n', "machine.page_size", 3, "must be a number, not a string"),
    "boolean as number": (HEAD + "seqnum = true\n", "machine.seqnum", 3, "must be a number, not true or false"),
    "architecture": (HEAD + 'architecture = "vax"\n', "machine.architecture", 3, "not modelled"),
    "module": (HEAD + 'modules = ["vfio", "foo"]\n', "machine.modules", 3, "no module 'foo'"),
    "page size": (HEAD + "page_size = 1000\n", "machine.page_size", 3, "4096, 16384 or 65536"),
    "not a list": (HEAD + "[css.path]\nchpid = 1\n", "css.path", 3, "[[css.path]]"),
    "chpid": (HEAD + "[[css.path]]\nchpid = 256\n", "css.path.chpid", 4, "between"),
    "unknown path": (HEAD + SUBCHANNEL, "css.subchannel.chpids", 7, "channel path 01"),
    "schid": (HEAD + PATH + SUBCHANNEL.replace("0.0.0001", "zero"), "css.subchannel", 5, "'zero'"),
    "twice": (HEAD + PATH + SUBCHANNEL + SUBCHANNEL, "css.subchannel.schid", 11, "twice"),
    "unit": (HEAD + PATH + SUBCHANNEL.replace("echo", "eco"), "css.subchannel.unit", 8, "no control unit 'eco'"),
    "nine paths": (HEAD + PATH + SUBCHANNEL.replace("[1]", "[1,1,1,1,1,1,1,1,1]"), "css.subchannel.chpids", 9, "eight"),
    "uid": (HEAD + FUNCTION.replace("uid = 1", "uid = 65536"), "zpci.function.uid", 4, "between"),
    "uid twice": (HEAD + FUNCTION + FUNCTION.replace("fid = 2", "fid = 3"), "zpci.function.uid", 8, "twice"),
    "model": (HEAD + FUNCTION.replace("-rng", "-gpu"), "zpci.function.model", 6, "no model"),
    "state": (HEAD + FUNCTION + 'state = "on"\n', "zpci.function.state", 7, "configured"),
    "option": (HEAD + FUNCTION + "options = { size = 1 }\n", "zpci.function.options", 7, "no option 'size'"),
    "option's type": (HEAD + FUNCTION + "options = { legacy = 1 }\n", "zpci.function.options", 7, "type bool"),
    "option's value": (HEAD + FUNCTION + 'options = { pfip = "0x" }\n', "zpci.function.options", 7, "hexadecimal"),
    "unit's option": (HEAD + PATH + SUBCHANNEL + "options = { room = 1 }\n", "css.subchannel.options", 10, "'room'"),
    "fid missing": (HEAD + FUNCTION.replace("fid = 2\n", ""), "zpci.function", 3, "missing: fid"),
    "not TOML": (HEAD + "x = \n", "machine", 3, "not TOML"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path) -> None:
    text, key, line, cause = MISTAKES[name]
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    error = caught.value
    assert cause in error.cause
    assert error.line == line
    assert error.key in (key, "")
    assert str(path) in str(error)
    assert error.exit_code == 2


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadMachine, match="cannot be read"):
        load_machine(tmp_path / "none.toml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadMachine, match="UTF-8"):
        load_machine(tmp_path / "binary.toml")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(BadMachine) as caught:
        find_machine("z15-lpr")
    assert "z15-lpar" in caught.value.next_step


@pytest.mark.parametrize("name", ["z15-lpar", "lab-s390x"])
def test_fixture_machines_load(name: str) -> None:
    spec = load_machine(machine_files()[name])
    assert spec.name == name
    assert spec.subchannels
    assert spec.functions


def test_a_virtual_function_that_is_there_already(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(
        '[machine]\nname = "m"\n'
        '[[zpci.function]]\nuid = 1\nfid = 1\nmodel = "virtio-bell"\noptions = { total_vfs = 2, vf_fid = 16 }\n'
        '[[zpci.function]]\nuid = 2\nfid = 2\nmodel = "virtio-bell"\n'
    )
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    assert "uid 0x2" in str(caught.value) or "0x2 is there twice" in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "line", "cause"),
    [
        ('[[process]]\npid = 0\nname = "a"\n', 4, "must be 1 or more"),
        ('[[process]]\npid = 5\nname = "a"\n[[process]]\npid = 5\nname = "b"\n', 7, "5 is there twice"),
        ('[[process]]\npid = 5\nname = ""\n', 5, "must not be empty"),
        ('[[process]]\npid = 5\nname = "a"\nopen = ["vda"]\n', 6, "no absolute path"),
        ('[[process]]\nname = "a"\n', 3, "missing: pid"),
    ],
)
def test_mistakes_with_programs(rows: str, line: int, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('[machine]\nname = "m"\n' + rows)
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    assert (caught.value.line, cause in caught.value.cause) == (line, True)
