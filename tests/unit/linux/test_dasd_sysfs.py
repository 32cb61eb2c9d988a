"""The attributes that dasd-eckd gives its devices: refusals, then what each shows and takes."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from pyvfio.host import Host
from pyvfio.sysfs import Sysfs

DASD = "/sys/bus/ccw/devices/0.0.013f"


@pytest.fixture
def sysfs() -> Iterator[Sysfs]:
    with Host("software", machine="z15-lpar") as host:
        yield host.sysfs


def write(sysfs: Sysfs, name: str, text: str) -> int:
    """Write an attribute; the errno, 0 when it was taken."""
    fd = sysfs.backend.open(f"{DASD}/{name}", 1)
    try:
        sysfs.backend.write(fd, text.encode())
    except OSError as error:
        return error.errno or -1
    finally:
        sysfs.backend.close(fd)
    return 0


@pytest.mark.parametrize("name", ["readonly", "erplog", "failfast", "eer_enabled", "use_diag"])
@pytest.mark.parametrize("text", ["2", "x", "-1", "1 1"])
def test_no_truth_value(sysfs: Sysfs, name: str, text: str) -> None:
    assert write(sysfs, name, text) == errno.EINVAL


def test_diag_is_chosen_offline_and_not_with_raw_tracks(sysfs: Sysfs) -> None:
    assert write(sysfs, "use_diag", "1") == errno.EPERM
    assert write(sysfs, "online", "0") == 0
    assert write(sysfs, "use_diag", "1") == 0
    assert write(sysfs, "raw_track_access", "1") == errno.EPERM
    assert sysfs.read_text(f"{DASD}/use_diag") == "1"


def test_offline(sysfs: Sysfs) -> None:
    assert write(sysfs, "safe_offline", "0") == 0
    assert sysfs.read_text(f"{DASD}/online") == "0"
    assert write(sysfs, "safe_offline", "0") == errno.ENODEV
    assert write(sysfs, "eer_enabled", "1") == errno.ENODEV
    shown = {name: sysfs.attribute(f"{DASD}/{name}") for name in ("discipline", "status", "uid", "alias", "hpf", "ese")}
    assert shown == {"discipline": "none", "status": "unknown", "uid": "", "alias": "0", "hpf": None, "ese": None}
    assert sysfs.read_text(f"{DASD}/path_masks") == "0"


def test_online(sysfs: Sysfs) -> None:
    shown = {
        name: sysfs.read_text(f"{DASD}/{name}") for name in ("discipline", "status", "uid", "vendor", "path_masks")
    }
    assert shown == {
        "discipline": "ECKD",
        "status": "online",
        "uid": "IBM.75000000000001.0a00.00",
        "vendor": "IBM",
        "path_masks": "f0 00 00 00 00 00",
    }
    assert sysfs.read_text(f"{DASD}/block/dasda/queue/logical_block_size") == "4096"


def test_features_stay(sysfs: Sysfs) -> None:
    for name in ("erplog", "failfast"):
        assert sysfs.read_text(f"{DASD}/{name}") == "0"
        assert write(sysfs, name, "1\n") == 0
    assert write(sysfs, "online", "0") == 0
    assert sysfs.read_text(f"{DASD}/erplog") == "1"
    assert sysfs.read_text(f"{DASD}/readonly") == "0"
    assert write(sysfs, "readonly", "1") == 0
    assert sysfs.read_text(f"{DASD}/readonly") == "1"
    assert write(sysfs, "failfast", "0") == 0
    assert sysfs.read_text(f"{DASD}/failfast") == "0"
