"""The name by which `pyvfio.css.Subchannel` was known first; both are the same class."""

from __future__ import annotations

from pyvfio.css.subchannel import Subchannel

__all__ = ["CcwDevice"]

CcwDevice = Subchannel
