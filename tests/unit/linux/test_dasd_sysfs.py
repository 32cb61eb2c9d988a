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


# numbers and words

ONLINE_ONLY = {
    "expires": "30",
    "retries": "256",
    "timeout": "0",
    "aq_timeouts": "32768",
    "path_threshold": "256",
    "path_interval": "300",
    "copy_role": "none",
    "capacity/logical_capacity": "0",
    "extent_pool/pool_id": "0",
    "paths_info/0.42/fc_security": "Unsupported",
}


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("expires", "0", errno.EINVAL),
        ("expires", "40000001", errno.EINVAL),
        ("expires", "0x10", errno.EINVAL),
        ("retries", "32769", errno.EINVAL),
        ("aq_timeouts", "0", errno.EINVAL),
        ("path_interval", "0", errno.EINVAL),
        ("path_threshold", "99999999999999999999", errno.EINVAL),
        ("aq_mask", "256", errno.EINVAL),
        ("aq_requeue", "maybe", errno.EINVAL),
        ("path_autodisable", "2", errno.EINVAL),
        ("reservation_policy", "often", errno.EINVAL),
        ("last_known_reservation_state", "none", errno.EINVAL),
        ("copy_pair", "clear", errno.EINVAL),
        ("copy_pair", "0.0.0001,0.0.0002", errno.EINVAL),
    ],
)
def test_what_is_not_taken(sysfs: Sysfs, name: str, text: str, code: int) -> None:
    assert write(sysfs, name, text) == code


def test_what_only_an_online_device_has(sysfs: Sysfs) -> None:
    assert {name: sysfs.read_text(f"{DASD}/{name}") for name in ONLINE_ONLY} == ONLINE_ONLY
    assert write(sysfs, "expires", "60\n") == 0
    assert write(sysfs, "retries", "0") == 0
    assert sysfs.read_text(f"{DASD}/retries") == "256"
    assert sysfs.read_text(f"{DASD}/expires") == "60"
    assert write(sysfs, "ping", "1") == 0
    assert write(sysfs, "last_known_reservation_state", "reset") == 0
    assert write(sysfs, "online", "0") == 0
    assert {name: sysfs.attribute(f"{DASD}/{name}") for name in ONLINE_ONLY} == dict.fromkeys(ONLINE_ONLY)
    assert [write(sysfs, name, "60") for name in ("expires", "ping", "path_reset")] == [errno.ENODEV] * 3
    assert write(sysfs, "online", "1") == 0
    assert sysfs.read_text(f"{DASD}/expires") == "30"


def test_what_is_kept(sysfs: Sysfs) -> None:
    shown = {"aq_mask": "0", "aq_requeue": "0", "path_autodisable": "1", "reservation_policy": "ignore"}
    assert {name: sysfs.read_text(f"{DASD}/{name}") for name in shown} == shown
    for name, text in (
        ("aq_mask", "0x7"),
        ("aq_requeue", "y"),
        ("path_autodisable", "0"),
        ("reservation_policy", "fail"),
    ):
        assert write(sysfs, name, text) == 0
    assert write(sysfs, "online", "0") == 0
    kept = {"aq_mask": "7", "aq_requeue": "1", "path_autodisable": "0", "reservation_policy": "fail"}
    assert {name: sysfs.read_text(f"{DASD}/{name}") for name in kept} == kept
    assert sysfs.attribute(f"{DASD}/host_access_count") is None
    assert sysfs.attribute(f"{DASD}/copy_pair") is None
