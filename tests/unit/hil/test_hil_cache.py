"""The cache of `make hil`: keys by content, entries whole or absent, one builder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hil import kernel
from tests.hil.architecture import ARCHITECTURES, S390X, Architecture
from tests.hil.cache import KEEP, Cache, default_root, key
from tests.hil.progress import StepFailed


def fill(directory: Path) -> None:
    (directory / "file").write_text("content")


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def half(directory: Path) -> None:
        fill(directory)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.build("kernel", "a", half)
    assert cache.find("kernel", "a") is None
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_killed_build_is_removed_by_the_next_builder(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (tmp_path / "tmp/x/entry").mkdir(parents=True)
    with cache.lock(pytest.fail):
        assert not (tmp_path / "tmp").exists()


def test_too_little_room_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"MiB are needed to build the guest's kernel.*XDG_CACHE_HOME"):
        Cache(tmp_path).build("kernel", "a", pytest.fail, need=1 << 60)


def test_a_second_builder_is_told_who_has_the_lock(tmp_path: Path) -> None:
    class Told(Exception):
        pass

    def tell(text: str) -> None:
        raise Told(text)

    with Cache(tmp_path).lock(pytest.fail):
        with pytest.raises(Told, match=f"process {os.getpid()} builds"):
            with Cache(tmp_path).lock(tell):
                pass
    with Cache(tmp_path).lock(pytest.fail):
        pass


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry = cache.build("kernel", "a", fill)
    assert (entry / "file").read_text() == "content"
    assert cache.build("kernel", "a", pytest.fail) == entry


def test_only_the_entries_used_last_are_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for age, name in enumerate(("other-1", "x-a", "x-b", "x-c")):
        os.utime(cache.build("kernel", name, fill), (age, age))
    cache.build("kernel", "x-d", fill)
    assert sorted(path.name for path in (tmp_path / "kernel").iterdir()) == ["other-1", "x-c", "x-d"]
    assert KEEP == 2


def test_newest_entry_of_a_recipe(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for age, name in enumerate(("s390x-1-x", "s390x-2-x", "s390x-3-y")):
        entry = tmp_path / "kernel" / name
        entry.mkdir(parents=True)
        os.utime(entry, (age, age))
    assert cache.newest("kernel", "s390x-", "-x") == "s390x-2-x"
    assert cache.newest("kernel", "s390x-", "-z") is None


def test_key_depends_on_content_not_on_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "f").write_text("x")
    one, two = tmp_path / "one/f", tmp_path / "two/f"
    assert key("s390x", files=(one,)) == key("s390x", files=(two,))
    assert key("s390x", files=(one,)).startswith("s390x-")
    two.write_text("y")
    assert key("s390x", files=(one,)) != key("s390x", files=(two,))
    assert key("s390x", texts=("a", "b")) != key("s390x", texts=("ab",))


@pytest.mark.parametrize("made_for", ARCHITECTURES.values(), ids=lambda one: one.name)
def test_kernel_key_names_the_version(made_for: Architecture) -> None:
    assert kernel.key(made_for, "6.12.1-1") == f"{made_for.name}-6.12.1-1-{kernel.recipe(made_for)}"
    assert kernel.key(made_for, "6.12.1-1") != kernel.key(made_for, "6.12.1-2")


def test_kernel_key_depends_on_the_configuration(tmp_path: Path) -> None:
    assert S390X.config is not None
    other = tmp_path / S390X.config.name
    other.write_bytes(S390X.config.read_bytes())
    assert kernel.recipe(replace(S390X, config=other)) == kernel.recipe(S390X)
    other.write_bytes(S390X.config.read_bytes() + b"#")
    assert kernel.recipe(replace(S390X, config=other)) != kernel.recipe(S390X)
    assert kernel.recipe(replace(S390X, unread_source=())) != kernel.recipe(S390X)


def test_a_name_that_a_recipe_kept_is_in_use() -> None:
    made = {kernel.recipe(made_for) for made_for in ARCHITECTURES.values()}
    assert set(kernel._SAME_AS.values()) <= made, "a recipe has changed: the name of the old one is of no use any more"


def test_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_root() == Path("/somewhere/pyvfio/hil")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_root() == Path("/home/me/.cache/pyvfio/hil")


def test_the_source_of_the_kernels_own_structures_is_kept(tmp_path: Path) -> None:
    for name in S390X.kept_source:
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_text(name)
    kernel.keep_source(S390X, tmp_path / "from", tmp_path / "to")
    for name in S390X.kept_source:
        assert (tmp_path / "to/source" / name).read_text() == name
