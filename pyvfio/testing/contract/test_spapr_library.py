"""Endpoints of POWER through the library: the ways in, what sysfs and VFIO say of one, operations, and recovery.

No emulator freezes an endpoint, and its firmware does not always reset one: so the endpoints here work, and are
recovered without a reset.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.abi.eeh import EehErrorFunction
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.drivers import AsyncNvme, Nvme, Recovery, Stage
from pyvfio.errors import KernelRefused, Misuse, NotAvailable
from pyvfio.host import Host
from pyvfio.ioda import Pe
from pyvfio.ioda.status import asked_by_vfio, host_status, read_status
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.spapr import require_tce
from pyvfio.vfio import Device

STAGES = [Stage.NOTICED, Stage.LOGGED, Stage.RESET, Stage.CONFIGURED, Stage.RESTORED, Stage.RESUMED]


@pytest.fixture(autouse=True)
def on_power(host: Host) -> None:
    require_tce(host.backend)


@pytest.fixture
def device(host: Host, function: BoundFunction) -> Iterator[Device]:
    with pyvfio.open_device(host, function.address) as opened:
        yield opened


@pytest.fixture
def pe(device: Device, host: Host) -> Iterator[Pe]:
    found = host_status(host.sysfs)
    if found is None or not found.enabled:
        pytest.skip("this kernel has no adapter under EEH")
    with Pe(device) as opened:
        yield opened


@pytest.mark.parametrize(("way", "kind"), [("auto", "tcev2"), ("group", "tcev2"), ("tcev2", "tcev2"), ("tce", "tce")])
def test_the_way_in(host: Host, function: BoundFunction, way: str, kind: str) -> None:
    with pyvfio.open_device(host, function.address, way=way) as device:
        assert (device.way, device.space.kind) == ("group", kind)
        with device.space.buffer(1) as memory:
            assert any(one.start <= memory.iova <= one.last for one in device.space.ranges())


@pytest.mark.parametrize("kind", ["tce", "tcev2"])
def test_a_container_and_a_way(host: Host, function: BoundFunction, kind: str) -> None:
    with pyvfio.Container(host) as container:
        for way in ("iommufd", "noiommu"):
            with pytest.raises(Misuse, match="a container was given"):
                pyvfio.open_device(host, function.address, space=container, way=way)
        assert container.groups == []
        with pyvfio.open_device(host, function.address, space=container, way=kind) as opened:
            assert opened.space.kind == kind
        other = "tce" if kind == "tcev2" else "tcev2"
        with pytest.raises(Misuse, match=rf"a container was given \({kind}\), and way is '{other}'"):
            pyvfio.open_device(host, function.address, space=container, way=other)
        with pyvfio.open_device(host, function.address, space=container, way="group") as opened:
            assert opened.way == "group"


@pytest.mark.parametrize("way", ["iommufd", "type1", "type1v2"])
def test_ways_that_there_are_not(host: Host, function: BoundFunction, way: str) -> None:
    with pytest.raises(NotAvailable):
        pyvfio.open_device(host, function.address, way=way)


def test_sysfs_and_vfio_say_the_same(host: Host, function: BoundFunction, pe: Pe, device: Device) -> None:
    found = read_status(host.function(function.address))
    assert found is not None
    assert (found.state, pe.state) == (EehState.NORMAL, EehState.NORMAL)
    assert (found.driver, found.group) == ("vfio-pci", function.group_number)
    device.close()
    assert asked_by_vfio(host, host.function(function.address)) is EehState.NORMAL


def test_operations_on_one_that_works(pe: Pe, device: Device) -> None:
    for call in (pe.unfreeze_io, pe.unfreeze_dma, pe.configure, pe.disable, pe.enable):
        call()
        assert not pe.frozen
    assert device.config.vendor_id not in (0, 0xFFFF)


def test_errors_that_nobody_can_inject(pe: Pe) -> None:
    with pytest.raises(KernelRefused, match="functions 0 to 19") as caught:
        pe.inject(20)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(KernelRefused, match="types 0") as caught:
        pe.inject(EehErrorFunction.LD_CFG_ADDR, type=2)
    assert caught.value.errno == errno.ERANGE


@pytest.mark.parametrize("interrupts", ["msix", "poll"])
def test_a_disk_is_recovered(nvme_device: Device, host: Host, interrupts: str) -> None:
    """The endpoint is recovered behind the driver's back, which begins anew with the controller."""
    found = host_status(host.sysfs)
    if found is None or not found.enabled:
        pytest.skip("this kernel has no adapter under EEH")
    with (
        Recovery(nvme_device, reset="none") as recovery,
        Nvme(nvme_device, interrupts=interrupts, recovery=recovery) as disk,
    ):
        size = 1 << disk.namespaces[1].order
        for number in range(3):
            data = bytes([number + 1]) * size
            disk.write(number, data)
            freeze = recovery.run("on purpose")
            assert [stage for stage, _ in freeze.stages] == STAGES
            assert freeze.functions[0].answers
            assert disk.read(number) == data
        assert disk.read(0, 3) == b"".join(bytes([number + 1]) * size for number in range(3))


def test_a_disk_is_recovered_in_an_event_loop(nvme_device: Device, host: Host) -> None:
    found = host_status(host.sysfs)
    if found is None or not found.enabled:
        pytest.skip("this kernel has no adapter under EEH")

    async def main() -> list[bytes]:
        with Recovery(nvme_device, reset="none") as recovery:
            async with AsyncNvme(nvme_device, recovery=recovery) as disk:
                size = 1 << disk.namespaces[1].order
                await asyncio.gather(*(disk.write(at, bytes([at + 1]) * size) for at in range(32)))
                await recovery.run_async("on purpose")
                return list(await asyncio.gather(*(disk.read(at) for at in range(32))))

    found_data = asyncio.run(main())
    assert [set(one) for one in found_data] == [{at + 1} for at in range(32)]
