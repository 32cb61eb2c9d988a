"""VF tokens: who opens a virtual function of a physical one that vfio-pci has shows that its user trusts him.

The kernel's rules (``vfio_pci_validate_vf_token()`` in ``drivers/vfio/pci/vfio_pci_core.c``):

* a virtual function whose physical one vfio-pci has is opened with the token of that (EACCES without it or with a wrong
  one); any other device takes none (EINVAL);
* the physical function is opened without one, or with a new one, which it has from then on; while a virtual function is
  open, with its present one only (EACCES);
* at first a physical function has a random token, which nobody knows.
"""

from __future__ import annotations

import errno
from uuid import UUID

from pyvfio.causes import Cause
from pyvfio.errors import BadAddress

__all__ = ["token_refused", "vf_token"]


def vf_token(token: UUID | str) -> UUID:
    """The token as a value.  Raise `BadAddress` for what is no UUID."""
    if isinstance(token, UUID):
        return token
    try:
        return UUID(token)
    except ValueError:
        raise BadAddress("VF token", token, "a VF token is a UUID: 8-4-4-4-12 hexadecimal digits") from None


def token_refused(number: int | None, device: str, physical: str | None, *, given: bool) -> Cause:
    """EACCES or EINVAL on opening `device`; `physical` is the function that it is a share of, if it is."""
    if number == errno.EACCES:
        of = f"the token of {physical}, which vfio-pci has" if physical else "the token that its virtual functions use"
        if given:
            return Cause(f"the VF token is wrong: {device} needs {of}", "ask the user of the physical function for it")
        return Cause(f"{device} needs a VF token: {of}", "give it: open_device(..., vf_token=...)")
    if number == errno.EINVAL and given:
        why = f"{physical} is not vfio-pci's" if physical else "it is no function of a device with SR-IOV"
        return Cause(f"{device} takes no VF token: {why}", "open it without one")
    return Cause()
