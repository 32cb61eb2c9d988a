"""Applying definitions: again and again, past a failing one, and beside what is active."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import replace

import pytest

import pyvfio
from pyvfio.address import MdevUuid
from pyvfio.binding import Plan, run
from pyvfio.errors import DeviceInUse
from pyvfio.files import HostFiles
from pyvfio.persistence import (
    Agreement,
    Applied,
    Definitions,
    Outcome,
    PersistentDriver,
    PersistentMdev,
    apply,
    compare,
)
from pyvfio_backends.software.backend import SoftwareBackend

UUID = MdevUuid("66826a94-72c4-557f-beca-d135a70628e9")
BELL = PersistentDriver("pci", "0022:00:00.0", "vfio-pci")
RNG = PersistentDriver("pci", "0011:00:00.0", "vfio-pci")
SUBCHANNEL = PersistentDriver("css", "0.0.0005", "vfio_ccw")
MDEV = PersistentMdev(UUID, "0.0.0005", "vfio_ccw-io", "auto")


def carry(plan: Plan) -> bool:
    run(plan)
    return True


def applied(host: pyvfio.Host, definitions: Iterable[object], **options: bool) -> dict[str, Applied]:
    return {one.name: one for one in apply(host, definitions, carry, **options)}  # type: ignore[arg-type]


def outcomes(host: pyvfio.Host, *definitions: object, **options: bool) -> list[str]:
    return [one.outcome.value for one in applied(host, definitions, **options).values()]


def test_what_is_not_there_is_absent(host: pyvfio.Host) -> None:
    gone = [PersistentDriver("pci", "0099:00:00.0", "vfio-pci"), replace(MDEV, parent="0.0.0042"), MDEV]
    assert set(outcomes(host, *gone)) == {"absent"}


def test_a_bus_of_others_is_left_alone(host: pyvfio.Host) -> None:
    assert outcomes(host, PersistentDriver("platform", "fff51000.ethernet", "vfio-platform")) == ["not for pyvfio"]


def test_one_that_fails_keeps_none_from_being_tried(host: pyvfio.Host) -> None:
    missing = PersistentDriver("pci", "0011:00:00.0", "no-such-driver")
    done = applied(host, [missing, BELL, SUBCHANNEL, replace(MDEV, type="no-such-type")])
    assert [one.outcome.value for one in done.values()] == ["failed", "applied", "applied", "failed"]
    assert done[missing.name].error is not None
    assert done[missing.name].error.exit_code == 6
    assert host.function("0011:00:00.0").driver == "virtio-pci"
    failed = done[MDEV.name].error
    assert failed is not None
    assert "vfio_ccw-io" in failed.cause
    assert failed.host == "nothing was changed"


def test_a_malformed_file_fails(host: pyvfio.Host, definitions: Definitions) -> None:
    files = HostFiles(host.backend)
    files.make_directory("/etc/driverctl.d")
    files.write("/etc/driverctl.d/pci-0011:00:00.0", "")
    (one,) = apply(host, definitions.all(), carry)
    assert one.outcome is Outcome.FAILED
    assert one.error is not None
    assert one.error.path == "/etc/driverctl.d/pci-0011:00:00.0"


def test_a_device_in_use_is_refused_with_its_evidence(host: pyvfio.Host) -> None:
    host.ccw_device("0.0.013f").set_online(True)
    (one,) = applied(host, [SUBCHANNEL]).values()
    assert one.outcome is Outcome.FAILED
    assert isinstance(one.error, DeviceInUse)
    assert {finding.probe for finding in one.error.findings} == {"online"}  # and not that the disk has a label
    assert host.subchannel("0.0.0005").driver == "io_subchannel"


def test_a_step_that_fails_is_rolled_back(host: pyvfio.Host) -> None:
    assert isinstance(host.backend, SoftwareBackend)
    host.backend.faults.fail("write", errno.EIO, path="/sys/bus/pci/drivers/vfio-pci/bind")
    (one,) = applied(host, [RNG]).values()
    host.backend.faults.clear()
    assert one.outcome is Outcome.FAILED
    assert one.error is not None
    assert one.error.host == "it is as it was before"
    assert (host.function("0011:00:00.0").driver, host.function("0011:00:00.0").override) == ("virtio-pci", None)


def test_a_mediated_device_of_another_type_is_in_the_way(host: pyvfio.Host, parent: str) -> None:
    host.mdev_parents()[0].type("vfio_ccw-io").create(UUID)
    (one,) = applied(host, [replace(MDEV, parent=parent, type="other")]).values()
    assert one.outcome is Outcome.FAILED
    assert "has this UUID already" in one.detail


def test_all_of_it_twice(host: pyvfio.Host) -> None:
    everything = [BELL, RNG, SUBCHANNEL, MDEV]
    assert set(outcomes(host, *everything)) == {"applied"}
    assert host.function("0011:00:00.0").driver == "vfio-pci"
    assert [str(mdev) for mdev in host.mdevs()] == [str(UUID)]
    assert set(outcomes(host, *everything)) == {"already so"}


def test_manual_ones_wait_until_they_are_named(host: pyvfio.Host, parent: str) -> None:
    manual = replace(MDEV, parent=parent, start="manual")
    assert outcomes(host, manual) == ["manual"]
    assert outcomes(host, manual, automatic=False) == ["applied"]


def test_no_driver_at_all(host: pyvfio.Host) -> None:
    none = replace(RNG, driver="none")
    assert outcomes(host, none) == ["applied"]
    function = host.function("0011:00:00.0")
    assert (function.driver, function.override) == (None, "none")
    assert outcomes(host, none) == ["already so"]


def test_a_driver_that_has_it_already_gets_the_override(host: pyvfio.Host) -> None:
    own = replace(RNG, driver="virtio-pci")
    assert outcomes(host, own) == ["applied"]
    assert (host.function("0011:00:00.0").driver, host.function("0011:00:00.0").override) == ("virtio-pci",) * 2


# side by side


def agreements(definitions: Definitions) -> dict[str, Agreement]:
    return {row.name: row.agreement for row in compare(definitions)}


def test_persistent_beside_active(host: pyvfio.Host, definitions: Definitions) -> None:
    pyvfio.bind(host.function("0011:00:00.0"))
    for definition in (BELL, SUBCHANNEL, PersistentDriver("pci", "0099:00:00.0", "vfio-pci")):
        run(definitions.plan_driver(definition))
    run(definitions.plan_mdev(MDEV))
    HostFiles(host.backend).write("/etc/driverctl.d/css-0.0.0006", "two words\n")
    assert agreements(definitions) == {
        "pci/0011:00:00.0": Agreement.TRANSIENT,
        "pci/0022:00:00.0": Agreement.DIFFERENT,
        "pci/0099:00:00.0": Agreement.ABSENT,
        "css/0.0.0005": Agreement.DIFFERENT,
        "css/0.0.0006": Agreement.UNREADABLE,
        str(UUID): Agreement.INACTIVE,
    }
    list(apply(host, definitions.all(), carry))
    now = agreements(definitions)
    assert [now[name] for name in ("pci/0022:00:00.0", "css/0.0.0005", str(UUID))] == [Agreement.SAME] * 3


def test_a_mediated_device_that_is_only_active(host: pyvfio.Host, definitions: Definitions, parent: str) -> None:
    host.mdev_parents()[0].type("vfio_ccw-io").create(UUID)
    assert agreements(definitions)[str(UUID)] is Agreement.TRANSIENT


def test_another_root_is_not_compared(host: pyvfio.Host) -> None:
    known = Definitions(host, "/run/image")
    run(known.plan_driver(BELL))
    run(known.plan_mdev(replace(MDEV, attrs=(("a", "1"),))))
    assert set(agreements(known).values()) == {Agreement.OFFLINE}
    assert agreements(Definitions(host)) == {}


@pytest.mark.parametrize("patience", [0.0, 30.0])
def test_a_device_that_another_run_is_at_work_on(host: pyvfio.Host, patience: float) -> None:
    tries = []

    def busy_once(plan: Plan) -> bool:
        tries.append(plan)
        if len(tries) == 1:
            raise pyvfio.errors.DeviceBusy("bind", plan.obj, cause="pyvfio (pid 1) is at work on it")
        return carry(plan)

    (one,) = apply(host, [BELL], busy_once, patience=patience)
    assert one.outcome is (Outcome.APPLIED if patience else Outcome.FAILED)
