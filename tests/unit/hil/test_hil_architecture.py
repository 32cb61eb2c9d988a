"""What an architecture's guest is made with: QEMU's command lines, the emulator's tree, the x86 guest of the suite."""

from __future__ import annotations

import re
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest

from tests.hil import emulator, rootfs, suite
from tests.hil.architecture import ARCHITECTURES, S390X, X86, Architecture
from tests.hil.progress import StepFailed
from tests.hil.skips import X86_SKIPS

CONTRACT = Path(__file__).parents[3] / "pyvfio/testing/contract"
EACH = pytest.mark.parametrize("made_for", ARCHITECTURES.values(), ids=lambda one: one.name)
BUILT = pytest.mark.parametrize("made_for", [S390X, X86], ids=lambda one: one.name)


def command(made_for: Architecture, profile: str, more: tuple[str, ...] = ()) -> list[str]:
    return made_for.command(*(Path(name) for name in ("/k", "/d", "/s", "/o", "/t")), profile, list(more))


@EACH
def test_each_profile_gives_a_command(made_for: Architecture) -> None:
    for profile in made_for.profiles:
        words = command(made_for, profile, ("-device", "last"))
        assert words[0] == {"s390x": "qemu-system-s390x"}.get(made_for.name, made_for.qemu)
        assert words[-2:] == ["-device", "last"]
        assert not [word for word in words if "{sockets}" in word]
        assert "file:/o/console.log" in words or "file,id=con,path=/o/console.log" in words
        assert any("readonly=on" in word and "path=/s" in word for word in words)
        assert "socket,id=gqmp,path=/t/qmp" in words


@BUILT
def test_each_fragment_says_an_option_once(made_for: Architecture) -> None:
    assert made_for.config is not None
    lines = made_for.config.read_text().splitlines()
    options = Counter(found[0] for line in lines if (found := re.search(r"CONFIG_\w+", line)) and "=" in line)
    assert [name for name, count in options.items() if count > 1] == []


@BUILT
def test_the_modules_that_init_loads_are_built(made_for: Architecture) -> None:
    assert made_for.config is not None
    config = made_for.config.read_text()
    options = {"vfio-pci": "VFIO_PCI", "mdev": "VFIO_MDEV", "nvme": "BLK_DEV_NVME"}
    for module in made_for.modules:
        assert f"CONFIG_{options.get(module, module.upper())}=m\n" in config, module


def places(words: list[str]) -> list[tuple[str, str]]:
    """Bus and address, where a device names them."""
    found = []
    for word in words:
        keys = dict(part.split("=", 1) for part in word.split(",") if "=" in part)
        if "addr" in keys:
            found.append((keys.get("bus", "pcie.0"), keys["addr"]))
    return found


@pytest.mark.parametrize("profile", sorted(X86.profiles))
def test_no_two_devices_are_in_one_place(profile: str) -> None:
    words = command(X86, profile)
    assert [place for place, count in Counter(places(words)).items() if count > 1] == []
    ids = Counter(found[1] for word in words if (found := re.search(r"\bid=(\w+)", word)))
    assert [name for name, count in ids.items() if count > 1] == []
    slots = Counter(found[0] for word in words if (found := re.search(r"chassis=\d+,slot=\d+", word)))
    assert [slot for slot, count in slots.items() if count > 1] == []


def test_every_bus_of_the_x86_guest_is_there() -> None:
    words = command(X86, "all")
    ids = {found[1] for word in words if (found := re.search(r"\bid=(\w+)", word))}
    buses = {found[1] for word in words if (found := re.search(r"\bbus=([\w.]+)", word))}
    assert buses - ids == {"pcie.0"}


def test_what_the_contract_takes_is_for_no_hotplug() -> None:
    words = command(X86, "contract")
    ports = {found[1]: word for word in words if (found := re.search(r"pcie-root-port.*\bid=(\w+)", word))}
    assert len(ports) == 5
    assert all("hotplug=off" in word for word in ports.values())


def tree(folder: Path) -> Path:
    """Put a program and a loader where an unpacked QEMU has them."""
    for name in ("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "usr/bin/qemu-system-x86_64", "usr/share/qemu/x.rom"):
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_qemu_is_started_with_its_own_loader(tmp_path: Path) -> None:
    loader, flag, libraries, program, *firmware = emulator.words(tree(tmp_path), X86.qemu)
    assert loader == f"{libraries}/ld-linux-x86-64.so.2"
    assert flag == "--library-path"
    assert program == f"{tmp_path}/tree/usr/bin/qemu-system-x86_64"
    assert firmware == ["-L", f"{tmp_path}/tree/usr/share/qemu"]


@pytest.mark.parametrize("missing", ["ld-linux-x86-64.so.2", "qemu-system-x86_64"])
def test_an_incomplete_tree_is_told(tmp_path: Path, missing: str) -> None:
    next(tree(tmp_path).rglob(missing)).unlink()
    with pytest.raises(StepFailed, match="holds no qemu-system-x86_64 with its loader"):
        emulator.words(tmp_path, X86.qemu)


def test_the_disk_belongs_to_an_architecture_and_a_kernel() -> None:
    names = [rootfs.key(S390X, "k"), rootfs.key(X86, "k"), rootfs.key(X86, "other")]
    assert len(set(names)) == 3
    assert [name.partition("-")[0] for name in names] == ["s390x", "x86", "x86"]


@pytest.fixture
def x86_guest() -> suite.Guest:
    (found,) = (one for one in suite.GUESTS if one.name == "x86")
    return found


def test_files_that_a_whole_run_leaves_out(x86_guest: suite.Guest, tmp_path: Path) -> None:
    for pattern in x86_guest.without:
        assert list(CONTRACT.glob(f"{pattern}.py")), pattern
    place = tmp_path / "pyvfio/testing/contract"
    place.mkdir(parents=True)
    for name in ("test_dasd_info.py", "test_pci_info.py", "conftest.py"):
        (place / name).touch()
    whole = suite._target(x86_guest, Namespace(suite=None, words=[]), tmp_path)
    assert whole == ["pyvfio/testing/contract/test_pci_info.py"]
    part = suite._target(x86_guest, Namespace(suite=None, words=["-k", "dasd"]), tmp_path)
    assert part == [f"pyvfio/testing/contract/test_{name}_info.py" for name in ("dasd", "pci")]


def test_each_listed_skip_is_of_files_that_are_there(x86_guest: suite.Guest) -> None:
    texts = {path: path.read_text() for path in CONTRACT.parent.rglob("*.py")}
    for skip in X86_SKIPS:
        module, _, function = skip.tests.partition("::")
        if module != "*":
            assert f"def {function.rstrip('*')}" in (CONTRACT / f"{module}.py").read_text()
        words = max(re.split(r"\d\S*", skip.reason), key=len).strip()
        assert any(words in text for text in texts.values()), skip
        left_out = any(CONTRACT.joinpath(f"{module}.py") in CONTRACT.glob(f"{one}.py") for one in x86_guest.without)
        assert not (left_out and skip.whole), skip


def test_a_guest_apart_has_its_own_devices_and_no_iommu(tmp_path: Path) -> None:
    (found,) = (one for one in suite.GUESTS if one.apart and one.architecture is X86)
    assert found.name == "x86-bare"
    shown = {
        profile: X86.command(tmp_path, tmp_path, tmp_path, tmp_path, tmp_path, profile, [])
        for profile in ("all", found.profile)
    }
    assert [any("iommu" in word for word in words) for words in shown.values()] == [True, False]
    (edu,) = (word.removeprefix("--pyvfio-edu=") for word in found.options)
    assert f"edu,id=edu0,addr={edu.partition(':')[2][3:]}" in shown[found.profile]
