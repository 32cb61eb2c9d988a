"""The guest of POWER: Debian's kernel and its modules, the initial RAM disk, two machines of QEMU."""

from __future__ import annotations

import gzip
import lzma
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hil import devices_ppc64, emulator, initrd, kernel, stock_kernel, suite
from tests.hil.__main__ import main
from tests.hil.architecture import PPC64, X86
from tests.hil.guest import _PANIC
from tests.hil.progress import StepFailed

GUESTS = {one.name: one for one in suite.GUESTS if one.architecture is PPC64}
CONTRACT = Path(__file__).parents[3] / "pyvfio/testing/contract"


def command(profile: str) -> list[str]:
    return PPC64.command(*(Path(name) for name in ("/k", "/made/d", "/s", "/o", "/t")), profile, [])


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """An indexed folder of modules: two need a third, one is alone, one is built in."""
    folder = tmp_path / "from"
    index = {"fs/ext4/ext4.ko.xz": ["lib/crc16.ko.xz"], "lib/crc16.ko.xz": [], "net/9p-net.ko": ["lib/crc16.ko.xz"]}
    index["sound/sound.ko.xz"] = []
    for name in index:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content = f"module {name}".encode()
        (folder / name).write_bytes(lzma.compress(content) if name.endswith(".xz") else content)
    lines = [f"{name}: {' '.join(needs)}".rstrip() for name, needs in index.items()]
    (folder / "modules.dep").write_text("\n".join(lines) + "\n")
    (folder / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    for name in ("modules.order", "modules.builtin.modinfo"):
        (folder / name).write_text("")
    return folder


def test_chosen_modules_come_unpacked_with_what_they_need(modules: Path, tmp_path: Path) -> None:
    stock_kernel.choose(modules, tmp_path / "to", ("ext4", "9p_net", "virtio-pci"))
    made = {str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*.ko*")}
    assert made == {"fs/ext4/ext4.ko", "lib/crc16.ko", "net/9p-net.ko"}
    assert (tmp_path / "to/fs/ext4/ext4.ko").read_bytes() == b"module fs/ext4/ext4.ko.xz"
    assert (tmp_path / "to/modules.builtin").is_file()


def test_a_module_that_the_kernel_has_not(modules: Path, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="this kernel has no module iommufd"):
        stock_kernel.choose(modules, tmp_path / "to", ("iommufd",))


def test_the_kernel_belongs_to_its_package_and_modules() -> None:
    assert kernel.recipe(PPC64) == stock_kernel.recipe(PPC64)
    assert kernel.recipe(replace(PPC64, stock="linux-image-other")) != kernel.recipe(PPC64)
    assert kernel.recipe(replace(PPC64, stock_modules=())) != kernel.recipe(PPC64)


def test_the_initial_ram_disk_loads_in_order(tmp_path: Path) -> None:
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/usr/bin/busybox").write_bytes(b"shell")
    for name in ("virtio_blk", "ext4"):
        path = tmp_path / f"kernel/usr/lib/modules/v/{name}.ko"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    made = tmp_path / initrd.NAME
    initrd.build(tmp_path / "root", tmp_path / "kernel", ("virtio_blk", "ext4"), made)
    assert b"virtio_blk\next4\n" in gzip.decompress(made.read_bytes())


def test_the_ram_disk_knows_the_root_disk() -> None:
    for profile in PPC64.profiles:
        words = command(profile)
        assert words[words.index("-initrd") + 1] == f"/made/{initrd.NAME}"
        assert f"HIL_DISK={devices_ppc64.SERIAL}" in words[words.index("-append") + 1]
        assert any(word.startswith("virtio-blk-pci,drive=root,serial=hil-root,") for word in words)


def test_two_machines() -> None:
    machines = {profile: command(profile)[command(profile).index("-M") + 1] for profile in PPC64.profiles}
    assert {machines.pop(name) for name in ("pseries", "pseries-contract")} == {"pseries"}
    assert set(machines.values()) == {"powernv9"}
    assert "-nodefaults" not in command("all")  # powernv would be without PHBs
    assert "-nodefaults" in command("pseries")


@pytest.mark.parametrize("profile", sorted(PPC64.profiles))
def test_no_two_devices_are_in_one_place(profile: str) -> None:
    places, ids = [], []
    for word in command(profile):
        keys = dict(part.split("=", 1) for part in word.split(",") if "=" in part)
        if "bus" in keys:
            places.append((keys["bus"], keys.get("addr", "00.0")))
        ids += re.findall(r"\bid=(\w+)", word)
    assert [place for place, count in Counter(places).items() if count > 1] == []
    assert [name for name, count in Counter(ids).items() if count > 1] == []


@pytest.mark.parametrize(
    ("name", "profile", "bus", "place"),
    [
        ("ppc64", "contract", r"pcie\.(\d)", ("01", "00.0")),
        ("pseries", "pseries-contract", r"phb(\d)\.0", ("00", "01.0")),
    ],
)
def test_what_the_contract_takes_is_alone_at_its_phb(name: str, profile: str, bus: str, place: tuple[str, str]) -> None:
    buses = [found[1] for word in command(profile) if (found := re.search(rf"\bbus={bus}", word))]
    assert GUESTS[name].profile in ("", profile)
    for option in (one for one in GUESTS[name].options if one.startswith("--pyvfio-")):
        domain, *found = option.partition("=")[2].split(":")
        assert tuple(found) == place
        assert buses.count(str(int(domain, 16))) == 1


@pytest.mark.parametrize("guest", GUESTS.values(), ids=list(GUESTS))
def test_modules_and_skips_are_there(guest: suite.Guest) -> None:
    texts = {path: path.read_text() for path in CONTRACT.parent.rglob("*.py")}
    for pattern in (*guest.without, *guest.modules):
        assert list(CONTRACT.glob(f"{pattern}.py")), pattern
    for skip in guest.skips:
        words = max(re.split(r"\d\S*|\*", skip.reason), key=len).strip()
        assert any(words in text for text in texts.values()), skip


def test_qemu_loads_no_parts_of_another_build(tmp_path: Path) -> None:
    loader = tmp_path / "tree/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.touch()
    assert emulator.environment(tmp_path) == {"QEMU_MODULE_DIR": f"{loader.parent}/qemu"}


def test_a_partition_for_messages_is_no_panic() -> None:
    """The kernel of powernv says this at every start without NVRAM (arch/powerpc/kernel/nvram_64.c)."""
    assert not _PANIC.search("nvram: Failed to find or create lnx,oops-log partition, err -28")
    assert not _PANIC.search("nvram: Failed to initialize oops partition!")
    assert _PANIC.search("Oops: Kernel access of bad area, sig: 11 [#1]")


def test_each_architecture_has_its_own_emulator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", "--arch", "ppc64", "--guest", "hercules", "true"]) == 2
    assert "ppc64 has no guest under hercules" in capsys.readouterr().err
    assert X86.qemu != PPC64.qemu
