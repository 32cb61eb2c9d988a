"""A guest's channel subsystem with the switches of the hardware below it, for scenarios that turn them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ccw_fixture import CSS, CcwHost

import pyvfio
from pyvfio.address import DeviceNumber
from pyvfio.passthrough import GuestChannelSubsystem
from pyvfio.testing.expect import settles
from pyvfio_backends.software.hardware.css import SubchannelConfig


class GuestCss(GuestChannelSubsystem):
    """What only hardware can (paths, plugging, unsolicited status) is done at the host's hardware.

    A subchannel that is added comes to the host, is given to vfio_ccw there, and to the guest by the same number.
    """

    host: CcwHost
    _uuids = 0

    def add_subchannel(self, config: SubchannelConfig, *, report: bool = False) -> None:
        """Plug a device."""
        machine = self.host.machine
        with machine.lock:
            machine.css.add_subchannel(config, report=True)
            machine.clock.settle()
        name = f"0.{config.schid.ssid:x}.{config.schid.number:04x}"
        assert settles(lambda: self.host.driver(name) is not None)
        self.host.write(f"{name}/driver_override", "vfio_ccw")
        if self.host.driver(name):
            self.host.write(f"{CSS}/drivers/{self.host.driver(name)}/unbind", name)
        self.host.write(f"{CSS}/drivers/vfio_ccw/bind", name)
        self._uuids += 1
        uuid = f"66826a94-72c4-557f-beca-d135a70628{self._uuids:02x}"
        self.host.create(name, uuid)
        library = pyvfio.Host(self.host.host)
        number = DeviceNumber(config.schid.cssid, config.schid.ssid, config.devno)
        self.attach(pyvfio.open_device(library, library.mdev(uuid)), number, schid=config.schid, report=report)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        hardware, machine = self.host.machine.css, self.host.machine
        method = getattr(hardware, name)

        def turn(*arguments: Any, **keywords: Any) -> Any:
            with machine.lock:
                result = method(*arguments, **keywords)
                machine.clock.settle()
            self.poll()
            return result

        return turn
