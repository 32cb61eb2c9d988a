"""Whatever call fails while probes look, a device in use never passes as free: something always stops the plan."""

from __future__ import annotations

import errno

import pytest

from pyvfio.backend import open_backend
from pyvfio.binding.inspection import in_use
from pyvfio.errors import PyvfioError
from pyvfio.host import Host
from pyvfio_backends.software import software_of


@pytest.mark.parametrize("code", [errno.ENODEV, errno.EIO], ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("address", ["0001:00:00.0", "0002:00:00.0", "0004:00:00.0", "0011:00:00.0", "0012:00:00.0"])
def test_no_failing_call_makes_it_free(address: str, code: int) -> None:
    with open_backend("software", machine="s390x-server") as backend:
        function = Host(backend).function(address)
        found = {finding.probe for finding in in_use(function)}
        assert found
        log = software_of(backend).faults.log = []
        in_use(function)
        software_of(backend).faults.log = None
        for number, (verb, path) in enumerate(tuple(log), 1):
            software_of(backend).faults.fail("*", code, nth=number)
            try:
                left = in_use(function)
            except PyvfioError:
                continue  # no plan is made
            finally:
                software_of(backend).faults.clear()
            assert left, f"{verb} {path}: free"
            unseen = any("could not be seen" in finding.summary for finding in left)
            assert unseen or found <= {finding.probe for finding in left}, f"{verb} {path}: {left}"
