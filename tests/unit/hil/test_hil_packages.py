"""What the runner says when the host lacks something."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.hil import __main__ as runner
from tests.hil import debian, kernel, packages
from tests.hil.architecture import ARCHITECTURES, S390X, X86
from tests.hil.progress import StepFailed

BOOKWORM = {"ID": "debian", "VERSION_ID": "12"}


def test_each_missing_package_is_named_with_one_command() -> None:
    absent = packages.missing(packages.needed(BOOKWORM, [S390X]), lambda package: package.name not in ("bc", "flex"))
    text = packages.message(absent)
    assert text.splitlines()[0] == "2 package(s) of this host are missing:"
    assert "flex " in text
    assert "to configure the kernel" in text
    assert text.splitlines()[-1].strip() == "apt-get install --no-install-recommends flex bc"


def test_require_raises_with_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StepFailed, match=r"gcc-s390x-linux-gnu +to cross-build the kernel"):
        packages.require(packages.needed(BOOKWORM, [S390X]))


def test_install_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)
    with pytest.raises(StepFailed, match=r"needs root; run as root:\n +apt-get install --no-install-recommends make"):
        packages.install(packages.needed(BOOKWORM, [S390X]))


def test_install_without_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(StepFailed, match="has no apt-get; packages to find elsewhere: make "):
        packages.install(packages.needed(BOOKWORM, [S390X]))


def test_install_of_nothing_runs_nothing() -> None:
    packages.install([])


@pytest.mark.parametrize(
    ("release", "name"),
    [
        (BOOKWORM, "qemu-system-misc"),
        ({"ID": "debian", "VERSION_ID": "13"}, "qemu-system-s390x"),
        ({"ID": "debian"}, "qemu-system-s390x"),
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, "qemu-system-s390x"),
        ({}, "qemu-system-s390x"),
    ],
)
def test_qemu_package(release: dict[str, str], name: str) -> None:
    assert packages.qemu_package(release) == name


def test_os_release(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text('ID=debian\nVERSION_ID="12"\n\n')
    assert packages.os_release(path) == BOOKWORM
    assert packages.os_release(tmp_path / "absent") == {}


def test_another_architecture_is_not_modelled(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--arch", "ppc64le"]) == 2
    assert "architecture ppc64le; ARCH can be: s390x, x86, ppc64, all " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["boot", "--arch", "all", "true"], "architecture all; ARCH can be: s390x, x86, ppc64 "),
        (
            ["boot", "--arch", "x86", "--guest", "hercules", "true"],
            "x86 has no guest under hercules; it has: bare, qemu",
        ),
        (
            ["test", "--arch", "x86", "--profile", "zpci"],
            "the x86 guest has no profile zpci; it has: all, bare, contract, none",
        ),
        (["build", "--arch", "x86", "--stock", "linux-image-amd64"], "the kernel of x86 is built, not one of Debian's"),
    ],
)
def test_what_an_architecture_has_not(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(words) == 2
    assert message in capsys.readouterr().err


def test_another_of_debians_kernels() -> None:
    words = ["test", "--arch", "ppc64", "--guest", "qemu", "--stock", "linux-image-powerpc64le-64k"]
    (chosen,) = runner._architectures(runner.parser().parse_args(words))
    assert chosen == dataclasses.replace(ARCHITECTURES["ppc64"], stock="linux-image-powerpc64le-64k")


def test_each_architecture_adds_its_own() -> None:
    names = {one.name: {p.name for p in packages.needed({}, [one])} for one in ARCHITECTURES.values()}
    assert names["s390x"] - names["x86"] == {"gcc-s390x-linux-gnu", "qemu-system-s390x", "hercules", "ipxe-qemu"}
    assert names["x86"] - names["s390x"] == {"gcc-x86-64-linux-gnu", "libelf-dev"}
    assert names["ppc64"] - names["x86"] == {"gcc-powerpc64le-linux-gnu"}
    assert {p.name for p in packages.needed({}, [S390X, X86])} == names["s390x"] | names["x86"]


def test_mirror_is_the_main_archive() -> None:
    lines = [
        f"'http://mirror.example/{name}/dists/{suite}/InRelease' {name}_InRelease 0 "
        for name, suite in (("debian-security", "x-security"), ("debian", "x"), ("other/debian", "y"))
    ]
    assert debian.pick_mirror("\n".join(lines)) == "http://mirror.example/debian/"
    assert debian.pick_mirror(lines[0]) is None


def test_an_option_that_kconfig_dropped_is_named() -> None:
    fragment = 'CONFIG_A=y\n# a comment\nCONFIG_B=m\nCONFIG_S="x"\n# CONFIG_C is not set\n# CONFIG_D is not set\n'
    config = 'CONFIG_A=y\nCONFIG_B=y\nCONFIG_S="x"\n# CONFIG_C is not set\nCONFIG_D=y\n'
    assert kernel.dropped(fragment, config) == ["CONFIG_B=m", "# CONFIG_D is not set"]
