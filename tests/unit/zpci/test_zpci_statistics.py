"""The kernel's text of a function's measurements as a value: all formats of the block, older kernels, nonsense.

The texts are made as ``arch/s390/pci/pci_debug.c`` prints them (`pci_perf_show`).
"""

from __future__ import annotations

import pytest

from pyvfio.errors import MalformedAnswer, NotAvailable
from pyvfio.host import Host
from pyvfio.zpci.statistics import Statistics, read_statistics
from pyvfio_backends.software import software_of

COMMON = {"Load operations": 11, "Store operations": 12, "Store block operations": 13, "Refresh operations": 14}
FORMATS = {
    0: {"DMA read bytes": 1, "DMA write bytes": 2},
    1: {"Received bytes": 1, "Received packets": 2, "Transmitted bytes": 3, "Transmitted packets": 4},
    2: {"Consumed work units": 1, "Maximum work units": 1 << 63},
    3: {"Transmitted bytes": 9},
}
SOFTWARE = {"Mapped pages": 5, "Unmapped pages": 4, "Global RPCITs": 3, "Sync Map RPCITs": 2, "Sync RPCITs": 1}
OLDER = {"Allocated pages": 6, "Mapped pages": 5, "Unmapped pages": 4}


def text(*counters: dict[str, int], samples: int = 3, updated: int = 0x895DC6ED8) -> str:
    head = f"Update interval: 4000 ms\nSamples: {samples}\nLast update TOD: {updated:x}\n"
    return head + "".join(f"{name:>26}:\t{value}\n" for part in counters for name, value in part.items())


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense\n",
        "Samples: 1\n",
        "Update interval: ms\n",
        "Update interval: 4000 ms\nSamples: 1f\n",
        text({"Load operations": -1}),
    ],
)
def test_what_is_no_such_text(wrong: str) -> None:
    with pytest.raises(MalformedAnswer):
        Statistics.parse(wrong)


@pytest.mark.parametrize("fmt", FORMATS)
def test_formats(fmt: int) -> None:
    found = Statistics.parse(text(COMMON, FORMATS[fmt], SOFTWARE))
    assert (found.enabled, found.interval, found.samples, found.updated) == (True, 4000, 3, 0x895DC6ED8)
    assert found.counters == {name.lower(): value for name, value in {**COMMON, **FORMATS[fmt]}.items()}
    assert found.software == {name.lower(): value for name, value in SOFTWARE.items()}


def test_an_older_kernel() -> None:
    assert Statistics.parse(text(COMMON, OLDER)).software == {name.lower(): value for name, value in OLDER.items()}


def test_an_unknown_format() -> None:
    found = Statistics.parse(text(COMMON) + "Unknown format\n" + "".join(text(SOFTWARE).splitlines(True)[3:]))
    assert found.counters["refresh operations"] == 14
    assert found.software["sync rpcits"] == 1


def test_dma_blocked() -> None:
    assert Statistics.parse(text(COMMON)).software == {}


def test_disabled() -> None:
    assert Statistics.parse("FMB statistics disabled\n") == Statistics(False)


def test_the_time() -> None:
    """The last bit says that the machine writes; a microsecond is 4096 units."""
    assert Statistics.parse(text(COMMON, updated=2 * 4_096_000_000 + 1)).seconds == 1.0
    assert Statistics.parse(text(COMMON, updated=0)).seconds is None


def test_since() -> None:
    before = Statistics.parse(text(COMMON, samples=3))
    after = Statistics.parse(text({**COMMON, "Load operations": 15}, samples=4))
    assert after.since(before)["load operations"] == 4
    assert after.since(before)["store operations"] == 0
    anew = Statistics.parse(text({**COMMON, "Load operations": 2}, samples=0))
    assert anew.since(before)["load operations"] == 2
    assert anew.since(before)["store operations"] == 12


@pytest.mark.parametrize("machine", ["x86", "disabled"])
def test_why_there_is_none(machine: str) -> None:
    from pyvfio_backends.software.description import FunctionSpec, MachineSpec

    spec = MachineSpec("one", functions=[FunctionSpec(0x11, 0x10, "virtio-rng")])
    with Host("software", machine=spec) as host:
        function = host.function("0011:00:00.0")
        if machine == "x86":
            del software_of(host.backend).machine.kernel.debug["pci"]
        with pytest.raises(NotAvailable) as caught:
            read_statistics(function)
        assert ("mounted" if machine == "x86" else "enabled") in str(caught.value.cause)
