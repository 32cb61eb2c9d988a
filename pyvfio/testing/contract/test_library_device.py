"""An open PCI function through the library: regions, interrupts, DMA buffers, closing order, errors with causes."""

from __future__ import annotations

import asyncio
import gc
import os
import select

import pytest

import pyvfio
from pyvfio.abi import vfio
from pyvfio.abi.vfio import PciIrq, PciRegion
from pyvfio.errors import DeviceBusy, KernelRefused, Misuse, NotAvailable, PyvfioError, Timeout
from pyvfio.host import Host
from pyvfio.process import AnonymousMemory
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.plugin import Lab
from pyvfio.vfio import Device


def test_a_function_that_vfio_has_not(host: Host, lab: Lab) -> None:
    for other in host.functions():
        if other.driver not in (None, "vfio-pci"):
            for way in ("auto", "group", "iommufd"):
                with pytest.raises(NotAvailable) as caught:
                    pyvfio.open_device(host, other, way=way)
                assert caught.value.cause
            return
    pytest.skip("every function of this host is vfio-pci's")


def test_a_way_that_is_none(host: Host, function: BoundFunction) -> None:
    with pytest.raises(Misuse):
        pyvfio.open_device(host, function.address, way="telnet")


def test_it_is_open_already(host: Host, device: Device, function: BoundFunction, way: str) -> None:
    with pytest.raises((DeviceBusy, KernelRefused)) as caught:
        pyvfio.open_device(host, function.address, way=way)
    assert caught.value.errno_name in ("EBUSY", "EINVAL")


@pytest.mark.parametrize("index", [PciRegion.VGA, 9, 1000])
def test_a_region_that_is_none(device: Device, index: int) -> None:
    with pytest.raises(KernelRefused) as caught:
        device.region(index)
    assert caught.value.errno_name == "EINVAL"


@pytest.mark.parametrize("number", [-1, 6])
def test_a_bar_that_is_none(device: Device, number: int) -> None:
    with pytest.raises(Misuse):
        device.bar(number)


def test_registers_out_of_place(device: Device) -> None:
    bar = max((device.bar(number) for number in range(6)), key=lambda region: region.size)
    for offset in (1, bar.size, -4):
        with pytest.raises(Misuse):
            bar.read_u32(offset)
    with pytest.raises(Misuse):
        bar.write_u16(0, 1 << 16)


def test_an_empty_bar(device: Device) -> None:
    for number in range(6):
        if not device.bar(number).size:
            with pytest.raises(Misuse):
                device.bar(number).read_u8(0)
            return


@pytest.mark.parametrize("index", [PciIrq.ERR, 5])
def test_an_interrupt_that_is_none(device: Device, express: bool, index: int) -> None:
    if index == PciIrq.ERR and express:
        pytest.skip("a PCI Express function has an interrupt for errors")
    with pytest.raises(KernelRefused):
        device.irq(index)


def test_an_interrupt_that_is_not_enabled(device: Device) -> None:
    irq = device.irq(PciIrq.MSIX)
    with pytest.raises(Misuse):
        irq.wait(0)
    with pytest.raises(Misuse):
        irq.enable(irq.count + 1)
    with pytest.raises(KernelRefused):
        irq.trigger()


def test_nothing_comes(device: Device) -> None:
    with device.irq(PciIrq.MSIX) as irq:
        irq.enable()
        with pytest.raises(Timeout):
            irq.wait(0.02)


def test_a_mask_that_cannot_be(device: Device) -> None:
    with device.irq(PciIrq.MSIX) as irq:
        irq.enable()
        assert not irq.maskable
        with pytest.raises(KernelRefused) as caught:
            irq.mask()
        assert caught.value.errno_name == "ENOTTY"


def test_a_mapping_outside_the_ranges(device: Device, page: int) -> None:
    ranges = device.space.ranges()
    with AnonymousMemory(page) as memory, pytest.raises(KernelRefused) as caught:
        device.space.map(memory.address, page, iova=ranges[-1].last + 1)
    if device.space.kind.startswith("tce"):
        assert caught.value.errno_name == "ENXIO"
        assert "is not in a DMA window" in caught.value.cause
    else:
        assert caught.value.errno_name == "EINVAL"
        assert "can map" in caught.value.cause


def test_a_mapping_without_memory(device: Device, page: int, wild: int) -> None:
    with pytest.raises(KernelRefused) as caught:
        device.space.map(wild, page)
    assert caught.value.errno_name == "EFAULT"
    assert "no memory" in caught.value.cause


def test_a_mapping_over_another(device: Device, page: int) -> None:
    with device.space.buffer(page) as buffer, pytest.raises(KernelRefused) as caught:
        device.space.map(buffer.address, page, iova=buffer.iova)
    assert caught.value.errno_name == "EEXIST"


def test_no_oserror_leaves_the_library(host: Host, device: Device) -> None:
    for call in (lambda: device.region(99), lambda: device.irq(99), lambda: host.group(99999)):
        with pytest.raises(PyvfioError):
            call()


def test_information(device: Device, way: str) -> None:
    assert device.way == way
    assert device.why
    assert device.kind == "pci"
    assert device.info.num_regions == vfio.VFIO_PCI_NUM_REGIONS
    assert {region.index for region in device.regions()} >= {PciRegion.CONFIG}
    assert {irq.index for irq in device.irqs()} >= {PciIrq.MSIX, PciIrq.REQ}


@pytest.mark.usefixtures("iommufd")
def test_auto_takes_iommufd_where_it_is(host: Host, function: BoundFunction) -> None:
    with pyvfio.open_device(host, function.address) as opened:
        assert opened.way == "iommufd"


def test_configuration_space(host: Host, device: Device, function: BoundFunction) -> None:
    through_sysfs = host.function(function.address).config
    assert device.config.vendor_id == through_sysfs.vendor_id
    assert device.config.class_code == through_sysfs.class_code
    names = [capability.id for capability in device.config.capabilities()]
    assert names == [capability.id for capability in through_sysfs.capabilities()]


def test_zpci(host: Host, device: Device, function: BoundFunction) -> None:
    if device.zpci is None:
        pytest.skip("this function is no zPCI function")
    assert device.zpci.base is not None
    assert device.zpci.base.fh == host.function(function.address).fh
    assert device.zpci.base.start_dma == device.space.ranges()[0].start


def test_a_register(device: Device) -> None:
    bar = max((device.bar(number) for number in range(6)), key=lambda region: region.size)
    device.region(PciRegion.CONFIG).write(4, b"\x02\x00")
    whole = bar.read(0, 8)
    assert bar.read_u8(0) == whole[0]
    assert bar.read_u16(0) == int.from_bytes(whole[:2], "little")
    assert bar.read_u32(0) == int.from_bytes(whole[:4], "little")
    assert bar.read_u64(0) == int.from_bytes(whole, "little")


def test_interrupts(device: Device) -> None:
    with device.irq(PciIrq.MSIX) as irq:
        irq.enable()
        for vector in range(irq.count):
            irq.trigger(vector)
            assert irq.wait(5, vector) == 1
            assert irq.poll(vector) == 0
        irq.trigger_bool([True] * irq.count)
        assert [irq.poll(vector) for vector in range(irq.count)] == [1] * irq.count
        assert select.select([irq.fileno()], [], [], 0)[0] == []


def test_disable_and_enable_again(device: Device) -> None:
    irq = device.irq(PciIrq.MSIX)
    for count in (1, irq.count):
        irq.enable(count)
        irq.trigger(count - 1)
        assert irq.wait(5, count - 1) == 1
        irq.disable()
    irq.disable()


def test_an_interrupt_in_asyncio(device: Device) -> None:
    with device.irq(PciIrq.MSIX) as irq:
        irq.enable()

        async def fire() -> int:
            asyncio.get_running_loop().call_later(0.02, irq.trigger, 0)
            return await irq.wait_async(5)

        assert asyncio.run(fire()) == 1


def test_a_buffer(device: Device, page: int) -> None:
    with device.space.buffer(page + 1) as buffer:
        assert buffer.length == 2 * page
        assert bytes(buffer.view[:16]) == bytes(16)
        buffer.view[:4] = b"abcd"
        first, last = device.space.ranges()[0].start, device.space.ranges()[-1].last
        assert first <= buffer.iova <= last - buffer.length
        assert len(device.space.mappings()) == 1
    assert device.space.mappings() == []


def test_many_buffers_do_not_overlap(device: Device, page: int) -> None:
    buffers = [device.space.buffer(page) for _ in range(16)]
    assert len({buffer.iova for buffer in buffers}) == 16
    for buffer in buffers[::2] + buffers[1::2]:
        buffer.close()
    assert device.space.unmap_all() == 0


def test_reset(device: Device) -> None:
    if vfio.DeviceFlags.RESET not in device.info.flags:
        with pytest.raises(Misuse):
            device.reset()
        return
    device.reset()
    assert device.config.vendor_id


def test_features(device: Device) -> None:
    from pyvfio.abi import vfio_feature

    assert device.feature.probe(vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, set=True)
    assert not device.feature.probe(vfio_feature.VFIO_DEVICE_FEATURE_MIGRATION, get=True)


def test_closing_leaves_nothing(host: Host, function: BoundFunction, way: str) -> None:
    gc.collect()  # what earlier tests left is not this one's
    before = len(os.listdir("/proc/self/fd"))
    with pyvfio.open_device(host, function.address, way=way) as opened:
        opened.irq(PciIrq.MSIX).enable()
        opened.space.buffer(host.page_size)  # the address space unmaps it
    assert opened.fileno() == -1
    assert len(os.listdir("/proc/self/fd")) == before
    opened.close()


def test_a_buffer_may_be_closed_after_the_device(host: Host, function: BoundFunction, way: str) -> None:
    with pyvfio.open_device(host, function.address, way=way) as opened:
        buffer = opened.space.buffer(host.page_size)
    buffer.close()


def test_two_functions_in_one_container(
    host: Host, function: BoundFunction, function2: BoundFunction, guest_on_power: bool
) -> None:
    if guest_on_power:
        pytest.skip("groups of a guest on POWER share no windows")
    with pyvfio.Container(host) as container:
        with (
            pyvfio.open_device(host, function.address, space=container) as one,
            pyvfio.open_device(host, function2.address, space=container) as two,
            one.space.buffer(host.page_size) as buffer,
        ):
            assert one.space is two.space
            assert two.space.mapping_at(buffer.iova) is not None


@pytest.mark.usefixtures("iommufd")
def test_two_functions_in_one_ioas(host: Host, function: BoundFunction, function2: BoundFunction) -> None:
    with (
        pyvfio.open_device(host, function.address, way="iommufd") as one,
        pyvfio.open_device(host, function2.address, space=one.space) as two,
    ):
        assert two.way == "iommufd"
        assert two.space is one.space
