"""What is used after it was closed says so, and never reaches the file that has its descriptor number now."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from pyvfio.binding import bind, plan_bind, run
from pyvfio.errors import DeviceBusy, KernelRefused, Misuse
from pyvfio.host import Host
from pyvfio.iommu.iommufd import Iommufd
from pyvfio.process import EventFd
from pyvfio.vfio import Device, open_device
from pyvfio.vfio.container import Container
from pyvfio.vfio.group import Group
from pyvfio.vfio.handed_over import is_usable
from pyvfio.vfio.watch_thread import WatchThread

FUNCTION = "0030:00:00.0"
OTHER = "0020:00:00.0"
MSIX = 2


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("software", machine="lab-s390x") as opened:
        for name in (FUNCTION, OTHER):
            bind(opened.function(name))
        yield opened


@pytest.mark.parametrize("way", ["group", "iommufd"])
@pytest.mark.parametrize(
    "use",
    [
        lambda device: device.reset(),
        lambda device: device.irq(MSIX).enable(),
        lambda device: device.irq(MSIX).trigger(),
        lambda device: device.region(3),
        lambda device: device.feature.probe(0),
        lambda device: device.space.ranges(),
    ],
)
def test_a_closed_device_leaves_the_next_one_alone(host: Host, way: str, use: Callable[[Device], object]) -> None:
    """The descriptors of the second device have the numbers of the first one's."""
    first = open_device(host, FUNCTION, way=way)
    assert first.irq(MSIX).count > 0
    assert first.info.num_irqs
    number = first.fileno()
    first.close()
    with open_device(host, OTHER, way=way) as second:
        assert second.fileno() == number
        with pytest.raises(Misuse, match="it was closed"):
            use(first)
        second.irq(MSIX).enable()


def test_closed_nodes_say_so(host: Host) -> None:
    container, iommufd = Container(host), Iommufd(host)
    group = Group(host, host.function(FUNCTION).group.number)  # type: ignore[union-attr]
    space = iommufd.allocate()
    for node in (group, container, iommufd):
        node.close()
        node.close()
    for use in (group.status, lambda: container.supports(1), iommufd.allocate, space.ranges):
        with pytest.raises(Misuse, match="it was closed"):
            use()


@pytest.mark.parametrize("way", ["group", "iommufd"])
def test_closing_after_the_host_is_an_error_of_this_library(host: Host, way: str) -> None:
    device = open_device(host, FUNCTION, way=way)
    host.close()
    with pytest.raises(KernelRefused, match="EBADF"):
        device.close()
    device.close()


def test_a_device_that_is_open_names_its_holder(host: Host) -> None:
    with open_device(host, FUNCTION, way="iommufd") as device:
        with pytest.raises(DeviceBusy, match=f"fd {device.fileno()}"):
            open_device(host, FUNCTION, way="iommufd")


def test_an_error_is_not_hidden_by_a_slice_that_it_keeps(host: Host) -> None:
    def work() -> None:
        with open_device(host, FUNCTION) as device, device.space.buffer(1) as buffer:
            slice_ = buffer.view[:4]
            raise KeyError(bytes(slice_))

    with pytest.raises(KeyError):
        work()


def test_memory_is_freed_when_the_slice_is_gone(host: Host) -> None:
    with open_device(host, FUNCTION) as device:
        buffer = device.space.buffer(1)
        memory, kept = buffer._memory, buffer.view[:4]
        with pytest.raises(BufferError):
            buffer.close()
        kept.release()
        buffer.close()
        assert memory._map.closed


def test_a_log_ends_with_its_device(host: Host) -> None:
    """Somebody else closes the device inside the block: a program that lets go on another thread."""
    with open_device(host, FUNCTION, way="group") as device, device.space.dirty_log() as log:
        device.close()
        with pytest.raises(Misuse, match="it was closed"):
            log.take(0, 1 << 12)
    log.close()


def test_the_log_of_a_device_ends_with_it() -> None:
    with Host("software", machine="x86-copiers") as host:
        plan = plan_bind(host.device("0000:01:00.0"), driver="copier-vfio-pci")
        run(plan)
        with open_device(host, "0000:01:00.0") as device, device.log_dma([(0, 1 << 16)]) as log:
            device.close()
        log.close()


def test_a_device_that_is_not_detached_stays_in_its_address_space(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_device(host, FUNCTION, way="iommufd") as device:
        assert device.cdev is not None
        call, space = device.cdev._call, device.cdev.space

        def refuse(operation: str, request: int, arg: object = 0) -> int:
            raise KernelRefused(operation, call.obj, errno=errno.EINVAL)

        with monkeypatch.context() as patched:
            patched.setattr(device.cdev, "_call", refuse)
            with pytest.raises(KernelRefused):
                device.detach()
        assert device.cdev.space is space is not None
        device.detach()
        assert device.cdev.space is None
        device.attach(device.space)


def test_a_device_that_is_not_attached_leaves_no_page_table(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_device(host, FUNCTION, way="iommufd") as device:
        before, table = device.space, device.space.table
        given_up: list[int] = []
        monkeypatch.setattr(table, "page_table", lambda number: 4242, raising=False)
        monkeypatch.setattr(table, "give_up", given_up.append, raising=False)
        with pytest.raises(KernelRefused, match="attach device"):
            device.attach(before, dirty_tracking=True)
        assert given_up == [4242]
        assert device.cdev is not None
        assert device.cdev.space is before


@pytest.mark.parametrize("usable", [False, True])
def test_a_descriptor_is_the_callers_again_after_an_error(
    host: Host, monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    """The device was open already when it turned out that nobody can ask it back."""

    def refuse(device: Device, callback: object) -> None:
        raise Misuse("watch for requests", device.name, cause="it has no such interrupt")

    with open_device(host, FUNCTION, way="iommufd") if usable else contextlib.nullcontext() as opener:
        node = f"/dev/vfio/devices/{host.device(FUNCTION).vfio_name}"
        fd = os.dup(opener.fileno()) if opener is not None else host.backend.open(node, os.O_RDWR)
        with monkeypatch.context() as patched:
            patched.setattr(Device, "on_request", refuse)
            with pytest.raises(Misuse, match="no such interrupt"):
                open_device(host, FUNCTION, fd=fd, let_go=True)
        assert is_usable(host.backend, fd, FUNCTION)  # bound by the one who opened it, or above
        host.backend.close(fd)
    with open_device(host, FUNCTION, way="iommufd") as again:
        assert again.config.vendor_id


def test_a_request_before_the_watch_is_known(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may ask while the watch is being made; who closes then ends its thread all the same."""
    ended = threading.Event()

    def early(event: EventFd, each: Callable[[int], None], name: str) -> WatchThread:
        event.signal()
        thread = WatchThread(event, each, name)
        ended.wait(0.2)
        return thread

    def let_go(device: Device) -> None:
        device.close()
        ended.set()

    wrong: list[object] = []
    monkeypatch.setattr(threading, "excepthook", wrong.append)
    monkeypatch.setattr("pyvfio.vfio.request.WatchThread", early)
    device = open_device(host, FUNCTION)
    device.on_request(let_go)
    assert ended.wait(5)
    for thread in threading.enumerate():
        if thread.name.startswith("pyvfio-request"):
            thread.join(5)
            assert not thread.is_alive()
    assert not wrong
