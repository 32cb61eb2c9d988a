"""Images whose links lead to the host: nothing is written through them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pyvfio.address import SubchannelId
from pyvfio.binding import Plan, run
from pyvfio.errors import Misuse
from pyvfio.host import Host
from pyvfio.persistence import Definitions
from pyvfio.persistence.units import plan_install

SUBCHANNEL = SubchannelId.parse("0.0.0313")


def directory(image: Path, outside: Path) -> None:
    (image / "etc").symlink_to(outside)


def in_two_leaps(image: Path, outside: Path) -> None:
    (image / "elsewhere").symlink_to(outside)
    (image / "etc").symlink_to("elsewhere/below")


def climbing(image: Path, outside: Path) -> None:
    (image / "etc").symlink_to(f"../{outside.name}")


PLANS: list[Callable[[Host, str], Plan]] = [
    lambda host, root: Definitions(host, root=root).plan_device(SUBCHANNEL),
    lambda host, root: plan_install(host, root),
]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("build", [directory, in_two_leaps, climbing])
def test_a_link_that_leads_out(tmp_path: Path, build: Callable[[Path, Path], None], plan: Callable[..., Plan]) -> None:
    image, outside = tmp_path / "image", tmp_path / "outside"
    image.mkdir()
    (outside / "below").mkdir(parents=True)
    build(image, outside)
    with Host("kernel") as host, pytest.raises(Misuse, match="leads out of"):
        plan(host, str(image))
    assert [one.name for one in outside.rglob("*")] == ["below"]


def test_a_link_within_the_image_is_followed(tmp_path: Path) -> None:
    image = tmp_path / "image"
    (image / "usr/etc").mkdir(parents=True)
    (image / "etc").symlink_to("usr/etc")
    with Host("kernel") as host:
        run(Definitions(host, root=str(image)).plan_device(SUBCHANNEL), journal=None)
    assert (image / "usr/etc/driverctl.d/css-0.0.0313").read_text() == "vfio_ccw\n"
