"""Plans that define and undefine: files, and nothing but files."""

from __future__ import annotations

from dataclasses import replace

import pytest

import pyvfio
from pyvfio.address import DeviceNumber, MdevUuid, PciAddress, SubchannelId
from pyvfio.binding import run, undo
from pyvfio.binding.step import step_from_dict
from pyvfio.binding.steps_files import WriteFile
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.files import HostFiles
from pyvfio.persistence import Definitions, PersistentDriver, PersistentMdev

FUNCTION = PciAddress.parse("0011:00:00.0")
UUID = MdevUuid("66826a94-72c4-557f-beca-d135a70628e9")
MDEV = PersistentMdev(UUID, "0.0.0006", "vfio_ccw-io", "auto", (("a", "1"),), {"x": [1]})


def text(host: pyvfio.Host, path: str) -> str | None:
    return HostFiles(host.backend).read(path)


@pytest.mark.parametrize("driver", ["", "a b", "../x"])
def test_what_is_no_driver_is_refused(definitions: Definitions, driver: str) -> None:
    with pytest.raises(Misuse):
        definitions.plan_device(FUNCTION, driver or " ")


def test_a_mediated_device_gets_no_driver(definitions: Definitions) -> None:
    with pytest.raises(Misuse):
        definitions.plan_device(UUID, "vfio-pci")
    with pytest.raises(NoSuchDevice):
        definitions.plan_device(UUID)


@pytest.mark.parametrize("name", ["0011:00:00.0", "css/0.0.0005", str(UUID), "0.0.013f"])
def test_what_is_not_defined(definitions: Definitions, name: str) -> None:
    with pytest.raises(NoSuchDevice, match="nothing persistent"):
        definitions.find(name)


def test_another_definition_is_not_overwritten(definitions: Definitions) -> None:
    run(definitions.plan_mdev(MDEV))
    assert definitions.plan_mdev(MDEV).empty
    with pytest.raises(Misuse, match="modify"):
        definitions.plan_mdev(replace(MDEV, start="manual"))


def test_nothing_to_write_to_an_attribute(definitions: Definitions) -> None:
    with pytest.raises(Misuse):
        definitions.plan_mdev(replace(MDEV, attrs=(("a", ""),)))


def test_a_driver(host: pyvfio.Host, definitions: Definitions) -> None:
    plan = definitions.plan_device(FUNCTION)
    assert text(host, "/etc/driverctl.d/pci-0011:00:00.0") is None
    run(plan)
    assert text(host, "/etc/driverctl.d/pci-0011:00:00.0") == "vfio-pci\n"
    assert definitions.plan_device(FUNCTION).empty
    assert host.function("0011:00:00.0").driver == "virtio-pci"
    for name in ("0011:00:00.0", "pci/0011:00:00.0", "pci-0011:00:00.0", "0011:0:0.0"):
        assert definitions.find(name) == [PersistentDriver("pci", "0011:00:00.0", "vfio-pci")]
    undo(plan)
    assert not host.sysfs.exists("/etc/driverctl.d")


def test_a_device_that_is_not_there(definitions: Definitions) -> None:
    run(definitions.plan_device(SubchannelId.parse("0.1.0042")))
    assert definitions.all() == [PersistentDriver("css", "0.1.0042", "vfio_ccw")]


def test_a_channel_device_stands_for_its_subchannel_and_a_new_mediated_device(definitions: Definitions) -> None:
    number = DeviceNumber.parse("0.0.013f")
    run(definitions.plan_device(number))
    driver, mdev = definitions.all()
    assert driver == PersistentDriver("css", "0.0.0005", "vfio_ccw")
    assert isinstance(mdev, PersistentMdev)
    assert (mdev.parent, mdev.type, mdev.start) == ("0.0.0005", "vfio_ccw-io", "auto")
    assert definitions.plan_device(number).empty
    assert definitions.find("0.0.013f") == [driver, mdev]


def test_a_channel_device_keeps_its_active_mediated_device(
    host: pyvfio.Host, definitions: Definitions, parent: str
) -> None:
    made = host.mdev_parents()[0].type("vfio_ccw-io").create(UUID)
    run(definitions.plan_device(DeviceNumber.parse("0.0.0140")))
    assert [one.name for one in definitions.mdevs.all(parent)] == [made.name]


def test_an_active_mediated_device(host: pyvfio.Host, definitions: Definitions, parent: str) -> None:
    host.mdev_parents()[0].type("vfio_ccw-io").create(UUID)
    run(definitions.plan_device(UUID))
    assert definitions.mdevs.get(UUID) == PersistentMdev(UUID, parent, "vfio_ccw-io")


def test_a_change_keeps_what_is_unknown_and_its_inverse_restores(host: pyvfio.Host, definitions: Definitions) -> None:
    run(definitions.plan_mdev(MDEV))
    path = f"/etc/mdevctl.d/0.0.0006/{UUID}"
    before = text(host, path)
    plan = definitions.plan_modified(replace(MDEV, start="manual", attrs=()))
    run(plan)
    now = definitions.mdevs.get(UUID)
    assert now == replace(MDEV, start="manual", attrs=())
    undo(plan)
    assert text(host, path) == before


def test_undefine_and_back(host: pyvfio.Host, definitions: Definitions) -> None:
    run(definitions.plan_mdev(MDEV))
    plan = definitions.plan_undefine(MDEV)
    run(plan)
    assert definitions.all() == []
    assert definitions.plan_undefine(MDEV).empty
    undo(plan)
    assert definitions.all() == [MDEV]


def test_undefine_a_malformed_file(host: pyvfio.Host, definitions: Definitions) -> None:
    files = HostFiles(host.backend)
    files.make_directory("/etc/driverctl.d")
    files.write("/etc/driverctl.d/pci-0011:00:00.0", "")
    (bad,) = definitions.find("0011:00:00.0")
    run(definitions.plan_undefine(bad))
    assert definitions.all() == []


def test_a_step_of_a_journal_undoes_in_another_process(host: pyvfio.Host, definitions: Definitions) -> None:
    plan = definitions.plan_device(FUNCTION)
    run(plan)
    (step,) = plan.steps
    again = step_from_dict(step.as_dict())
    assert again == step
    again.undo(host.sysfs)
    again.undo(host.sysfs)
    assert definitions.all() == []


def test_permissions_are_kept(host: pyvfio.Host, definitions: Definitions) -> None:
    run(definitions.plan_device(FUNCTION))
    host.backend.chmod("/etc/driverctl.d/pci-0011:00:00.0", 0o600)
    plan = definitions.plan_device(FUNCTION, "none")
    run(plan)
    assert isinstance(plan.steps[0], WriteFile)
    assert host.backend.stat("/etc/driverctl.d/pci-0011:00:00.0").st_mode & 0o777 == 0o600
