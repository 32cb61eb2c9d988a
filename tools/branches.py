"""The topologies of the PCI bus and of the channel subsystem, as trees with words for people."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from pyvfio.css.topology import ChannelPath, CssImage, DeviceNode, MdevNode, PathSet, SubchannelNode
from pyvfio.pci.topology import PciNode, RootBus
from pyvfio.sysfs import Sysfs
from pyvfio_tools.tree import Branch

__all__ = ["css_branch", "mdevs_by_parent", "parents_branch", "pci_branch"]

Words = list[tuple[str, str]]
_SUBCHANNELS = ("I/O", "chsc", "message", "adm")


def pci_branch(roots: Iterable[RootBus], mdevs: Mapping[str, list[MdevNode]], *, whole: bool = True) -> Branch:
    """The PCI tree, `whole` or a part; `mdevs` are those of each function, by the path of its directory.

    A root bus that a zPCI function has for itself is left out: the function stands in its place.
    """
    top = Branch("pci", "bus", "PCI")
    count = buses = 0
    for root in roots:
        buses += 1
        count += sum(1 for _ in root.walk())
        alone = len(root.children) == 1 and root.children[0].uid is not None
        if alone:
            top.children.append(_function(root.children[0], mdevs))
            continue
        facts: dict[str, object] = {"path": root.path}
        below = [_function(child, mdevs) for child in root.children]
        top.children.append(Branch(f"bus {root.path}", "root bus", root.name, [("root bus", "quiet")], facts, below))
    if whole:
        top.words.append((f"{count} function{'s' * (count != 1)} on {buses} root bus{'es' * (buses != 1)}", "quiet"))
    return top


def css_branch(images: Iterable[CssImage], *, whole: bool = True) -> Branch:
    """The channel subsystem, `whole` or a part: image, sets of paths, subchannels, devices, mediated devices."""
    top = Branch("css", "bus", "channel subsystem")
    for image in images:
        below = [_paths(image.name, one) for one in image.sets]
        count = sum(len(one.subchannels) for one in image.sets)
        words = [(f"{count} subchannel{'s' * (count != 1)}", "quiet")] if whole else []
        top.children.append(Branch(image.name, "css", image.name, words, {}, below))
    return top


def mdevs_by_parent(sysfs: Sysfs) -> dict[str, list[MdevNode]]:
    """All mediated devices by the path of their parent's directory."""
    found: dict[str, list[MdevNode]] = {}
    for name in sysfs.names("/sys/bus/mdev/devices"):
        path = sysfs.link(f"/sys/bus/mdev/devices/{name}")
        if path is None:
            continue
        group = sysfs.link_name(f"{path}/iommu_group")
        number = int(group) if group is not None and group.isdecimal() else None
        kind, driver = sysfs.link_name(f"{path}/mdev_type") or "", sysfs.link_name(f"{path}/driver")
        found.setdefault(posixpath.dirname(path), []).append(MdevNode(name, kind, driver, number))
    return found


def parents_branch(paths: Iterable[str], mdevs: Mapping[str, list[MdevNode]]) -> Branch:
    """Parents of mediated devices that are in neither tree, by the paths of their directories."""
    top = Branch("mdev", "bus", "other parents of mediated devices")
    for path in paths:
        below = [_mdev(mdev) for mdev in mdevs.get(path, ())]
        top.children.append(Branch(f"parent {path}", "device", posixpath.basename(path), [], {"path": path}, below))
    return top


def _function(node: PciNode, mdevs: Mapping[str, list[MdevNode]]) -> Branch:
    words: Words = [(node.kind, "what"), _driver(node.driver)]
    facts: dict[str, object] = {
        "path": node.path,
        "class": f"0x{node.class_code:06x}",
        "what": node.kind,
        "driver": node.driver,
        "group": node.group,
    }
    if node.group is not None:
        words.append((f"group {node.group}", "group"))
    if node.uid is not None and node.fid is not None:
        words.append((f"uid 0x{node.uid:04x} fid 0x{node.fid:08x}", "quiet"))
        facts |= {"uid": node.uid, "fid": node.fid}
    below = [_function(child, mdevs) for child in node.children]
    below += [_mdev(mdev) for mdev in mdevs.get(node.path, ())]
    return Branch(f"pci {node.name}", "function", node.name, words, facts, below)


def _paths(image: str, one: PathSet) -> Branch:
    numbers = " ".join(f"{path.chpid:02x}" for path in one.paths)
    name = f"channel path{'s' * (len(one.paths) != 1)} {numbers}" if one.paths else "no channel path"
    facts: dict[str, object] = {
        "paths": [{"chpid": path.chpid, "type": path.type, "online": path.online} for path in one.paths]
    }
    words: Words = [(text, "quiet") for text in (_path_types(one.paths), _offline(one.paths)) if text]
    return Branch(f"{image} paths {numbers}", "paths", name, words, facts, [_subchannel(s) for s in one.subchannels])


def _path_types(paths: tuple[ChannelPath, ...]) -> str:
    types = {f"{path.type:02x}" for path in paths if path.type is not None}
    return f"type {' '.join(sorted(types))}" if types else ""


def _offline(paths: tuple[ChannelPath, ...]) -> str:
    off = [f"{path.chpid:02x}" for path in paths if path.online is False]
    return f"offline: {' '.join(off)}" if off else ""


def _subchannel(node: SubchannelNode) -> Branch:
    kind = _SUBCHANNELS[node.type] if node.type < len(_SUBCHANNELS) else f"type {node.type}"
    words: Words = [(f"{kind} subchannel", "what"), _driver(node.driver)]
    facts: dict[str, object] = {"type": node.type, "driver": node.driver}
    below = [_device(node.device)] if node.device is not None else []
    below += [_mdev(mdev) for mdev in node.mdevs]
    return Branch(f"css {node.name}", "subchannel", node.name, words, facts, below)


def _device(node: DeviceNode) -> Branch:
    if not node.registered:
        return Branch(f"ccw {node.name}", "device", node.name, [("not registered", "quiet")], {"registered": False})
    what = f"{node.devtype} behind {node.cutype}" if node.devtype not in ("", "n/a") else node.cutype
    words: Words = [(what, "what"), _driver(node.driver), ("online" if node.online else "offline", "quiet")]
    facts: dict[str, object] = {
        "registered": True,
        "devtype": node.devtype,
        "cutype": node.cutype,
        "driver": node.driver,
        "online": node.online,
    }
    return Branch(f"ccw {node.name}", "device", node.name, words, facts)


def _mdev(node: MdevNode) -> Branch:
    words: Words = [("mediated device", "what"), (node.type, "quiet"), _driver(node.driver)]
    if node.group is not None:
        words.append((f"group {node.group}", "group"))
    facts: dict[str, object] = {"type": node.type, "driver": node.driver, "group": node.group}
    return Branch(f"mdev {node.name}", "mdev", node.name, words, facts)


def _driver(driver: str | None) -> tuple[str, str]:
    if driver is None:
        return "no driver", "quiet"
    return driver, "vfio" if "vfio" in driver else "driver"
