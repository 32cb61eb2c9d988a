"""The names of vendors and devices, where the host has the list of the PCI ID repository (``pci.ids``).

The list is text: a vendor's line begins with four hexadecimal digits, those of its devices follow with a tab before.
Only the vendors that are asked for are read.  Source: the head of the file, https://pci-ids.ucw.cz/.
"""

from __future__ import annotations

from pyvfio.backend import Backend
from pyvfio.errors import PyvfioError
from pyvfio.files import HostFiles

__all__ = ["PLACES", "PciNames"]

PLACES = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids")
"""Where distributions put the list."""


class PciNames:
    """The names that the host behind `backend` has, from the first list found; it is read at the first question."""

    def __init__(self, backend: Backend) -> None:
        self._files = HostFiles(backend)
        self._text: str | None = None
        self._vendors: dict[int, tuple[str, dict[int, str]]] = {}

    def vendor(self, vendor: int) -> str | None:
        """The name of a vendor (16 bits), None when it is not listed."""
        return self._of(vendor)[0] or None

    def device(self, vendor: int, device: int) -> str | None:
        """The name of a vendor's device (16 bits each), None when it is not listed."""
        return self._of(vendor)[1].get(device)

    def _of(self, vendor: int) -> tuple[str, dict[int, str]]:
        if vendor not in self._vendors:
            self._vendors[vendor] = self._section(vendor)
        return self._vendors[vendor]

    def _section(self, vendor: int) -> tuple[str, dict[int, str]]:
        if self._text is None:
            self._text = "\n" + self._read()
        start = self._text.find(f"\n{vendor:04x}  ")
        if start < 0:
            return "", {}
        head, *rest = self._text[start + 1 : self._text.find("\nC ", start)].split("\n", 1)
        devices: dict[int, str] = {}
        for line in (rest[0] if rest else "").split("\n"):
            if line.startswith(("\t\t", "#")) or not line.strip():
                continue  # a subsystem, or a comment
            if not line.startswith("\t"):
                break  # the next vendor
            number, _, name = line[1:].partition("  ")
            try:
                devices[int(number, 16)] = name.strip()
            except ValueError:
                continue
        return head[6:].strip(), devices

    def _read(self) -> str:
        for place in PLACES:
            try:
                text = self._files.read(place)
            except PyvfioError:
                continue  # names are a courtesy
            if text is not None:
                return text
        return ""
