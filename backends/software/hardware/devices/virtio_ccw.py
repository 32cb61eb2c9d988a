"""Virtio devices behind a virtual channel subsystem: control unit 3832, model = virtio device type.

====  =================  ======  ===============================================================
code  command            length  data
====  =================  ======  ===============================================================
11    WRITE_FEAT         5       features (32 bits, little-endian), index (8 bits)
12    READ_FEAT          5       the same; the program gives the index, the device the features
13    SET_VQ             32      desc, reserved, index, num, avail, used (16 in revision 0)
21    WRITE_CONF         any     configuration space from its beginning
22    READ_CONF          any     the same
31    WRITE_STATUS       1       device status; 0 resets
32    READ_VQ_CONF       4       queue index in, largest size out (16 bits each, big-endian)
33    VDEV_RESET         0       back to the initial state, but for the revision
43    SET_IND            8       address of the 64 classic indicators
53    SET_CONF_IND       8       address of the configuration indicator
72    READ_STATUS        1       device status
73    SET_IND_ADAPTER    25      addresses of adapter indicators
83    SET_VIRTIO_REV     4+n     revision, length (16 bits each, big-endian)
====  =================  ======  ===============================================================

A wrong length is a "check condition" of the specification, which the virtual channel subsystem shows as a program
check; an unknown command, or one in the wrong state, is a command reject.  Whatever command comes first, if it is not
SET_VIRTIO_REV, fixes revision 0 until the subchannel is disabled; a device without a legacy interface rejects it.

Multi-byte configuration fields have the guest's (big) endianness until the driver has accepted VERSION_1, and are
little-endian after that, and always for a device without a legacy interface.  Queues are configured but never served:
there is no virtqueue engine behind them.

Classic indicators and adapter indicators exclude each other until a reset.

Source: Virtual I/O Device specification 1.1, "Virtio Over Channel I/O"; the answers of QEMU 7.2 in the golden files
ccw-blk.json, section "virtio-ccw commands", and ccw-virtio.json.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from pyvfio.css.scsw import Cstat, Dstat
from pyvfio.css.senseid import SenseId
from pyvfio_backends.software.hardware.css.controlunit import (
    COMMAND_REJECT,
    DONE,
    Channel,
    ControlUnit,
    Ending,
    unit_check,
)

__all__ = ["ConfigSpace", "VirtioCcw"]

#: A configuration space: ``struct`` codes with their values, in order, without padding.
ConfigSpace: TypeAlias = tuple[tuple[str, int | bytes], ...]

_CU_TYPE: Final = 0x3832
_SENSE_ID_SIZE: Final = 256
_REVISION_MAX: Final = 2
_DRIVER_OK: Final = 0x04
_VERSION_1: Final = 1 << 32
#: Offered by every device: indirect descriptors, event index, version 1, ring reset.
_TRANSPORT_FEATURES: Final = 1 << 28 | 1 << 29 | _VERSION_1 | 1 << 40
#: What only the legacy interface offers: notify when empty, any layout.
_LEGACY_FEATURES: Final = 1 << 24 | 1 << 27
_QUEUES_MAX: Final = 1024
_FEATURES_OK: Final = 0x08
_LEGACY_ALIGNMENT: Final = 1 << 12

_CHECK: Final = Ending(Dstat(0), cstat=Cstat.PROGRAM_CHECK)
_REJECT: Final = unit_check(COMMAND_REJECT, dstat=Dstat(0))


#: Kinds of indicators for queues, each with the other one.
_EXCLUSIVE: Final = {"classic": "adapter", "adapter": "classic"}


@dataclass(slots=True)
class _Queue:
    desc: int = 0
    avail: int = 0
    used: int = 0
    size: int = 0


class VirtioCcw(ControlUnit):
    """A virtio device of type `model`; `queues` are the largest sizes of its virtqueues, in order.

    `legacy` are features that only revision 0 offers; None: the device has no revision 0.  `writable` are the numbers
    of the configuration's fields that a driver can change, unless it has accepted one of the features `fixed_by`.
    """

    def __init__(
        self,
        model: int,
        features: int = 0,
        config: ConfigSpace = (),
        queues: tuple[int, ...] = (),
        *,
        legacy: int | None = 0,
        writable: tuple[int, ...] = (),
        fixed_by: int = 0,
    ) -> None:
        super().__init__(SenseId(_CU_TYPE, model))
        self.sense_id_data = self.sense_id_data.ljust(_SENSE_ID_SIZE, b"\0")
        self.modern_only = legacy is None
        self._legacy = _LEGACY_FEATURES | (legacy or 0)
        self._writable = writable
        self._fixed_by = fixed_by
        self.features = features | _TRANSPORT_FEATURES
        self._codes = "".join(code for code, _ in config)
        self._initial: tuple[int | bytes, ...] = tuple(value for _, value in config)
        self._limits = queues
        self.revision: int | None = None
        self._reset()
        self._handlers: dict[int, Callable[[Channel], Ending]] = {
            0x11: self._write_feat,
            0x12: self._read_feat,
            0x13: self._set_vq,
            0x21: self._write_conf,
            0x22: self._read_conf,
            0x31: self._write_status,
            0x32: self._read_vq_conf,
            0x33: self._vdev_reset,
            0x43: self._set_ind,
            0x53: self._set_conf_ind,
            0x72: self._read_status,
            0x73: self._set_ind_adapter,
        }

    def _reset(self) -> None:
        """Back to the initial state, but for the revision."""
        self.status = 0
        self.accepted = 0
        self._values = self._initial
        self.indicators: dict[str, bytes] = {}
        self.queues = [_Queue(size=limit) for limit in self._limits]

    @property
    def config(self) -> bytes:
        """The configuration space as the driver sees it now (see the module's text on endianness)."""
        return struct.pack(self._order() + self._codes, *self._values)

    def _order(self) -> str:
        return "<" if self.modern_only or self.accepted & _VERSION_1 else ">"

    def no_operation(self, channel: Channel) -> Ending:
        """NOP: takes the bytes of the program without looking at them, so that nothing is left over."""
        channel.ignore_data()
        return DONE

    def subchannel_disabled(self) -> None:
        """Open the choice of the revision again."""
        self.revision = None

    def command(self, code: int, channel: Channel) -> Ending:
        """Do a virtio-ccw command."""
        if code == 0x83:
            return self._set_virtio_rev(channel)
        if self.revision is None:
            if self.modern_only:
                return _REJECT
            self.revision = 0
        handler = self._handlers.get(code)
        return _REJECT if handler is None else handler(channel)

    @staticmethod
    def _bad_length(channel: Channel, size: int) -> bool:
        return channel.left < size or (channel.exact_length and channel.left != size)

    def _set_virtio_rev(self, channel: Channel) -> Ending:
        if channel.left < 4:
            return _CHECK
        revision, length = struct.unpack(">HH", channel.read_from_memory(4))
        if channel.left < length or (channel.exact_length and channel.left != length):
            return _CHECK
        if length:
            channel.read_from_memory(length)
        # The revision is chosen once; a revision the device has not is refused.
        if self.revision is not None or revision > _REVISION_MAX or (self.modern_only and not revision):
            return _REJECT
        self.revision = revision
        return DONE

    def _read_feat(self, channel: Channel) -> Ending:
        if self._bad_length(channel, 5):
            return _CHECK
        # The program gives the index in byte 4 of the area that the features are stored into.
        return self._exchange(channel, 5, self._features_at)

    def _features_at(self, raw: bytes) -> bytes:
        index = raw[4]
        offered = self.features if self.revision else self.features & ~_VERSION_1 | self._legacy
        part = offered >> 32 * index & 0xFFFFFFFF if index < 2 and (index == 0 or self.revision) else 0
        return part.to_bytes(4, "little") + raw[4:]

    @staticmethod
    def _exchange(channel: Channel, size: int, answer: Callable[[bytes], bytes]) -> Ending:
        """Read `size` bytes of the area and store the answer over them."""
        channel.write_to_memory(answer(channel.peek_memory(size)))
        return DONE

    def _write_feat(self, channel: Channel) -> Ending:
        if self._bad_length(channel, 5):
            return _CHECK
        raw = channel.read_from_memory(5)
        value, index = int.from_bytes(raw[:4], "little"), raw[4]
        # Features are final once the driver has said FEATURES_OK; words that the device does not have are passed over.
        if index < 2 and (index == 0 or self.revision) and not self.status & _FEATURES_OK:
            shift = 32 * index
            self.accepted = (self.accepted & ~(0xFFFFFFFF << shift) | value << shift) & self.features
        return DONE

    def _read_conf(self, channel: Channel) -> Ending:
        config = self.config
        if channel.exact_length and channel.left > len(config):
            return _CHECK
        channel.write_to_memory(config[: channel.left])
        return DONE

    def _write_conf(self, channel: Channel) -> Ending:
        config = self.config
        if channel.exact_length and channel.left > len(config):
            return _CHECK
        written = channel.read_from_memory(min(channel.left, len(config)))
        values = struct.unpack(self._order() + self._codes, written + config[len(written) :])
        writable = () if self.accepted & self._fixed_by else self._writable
        pairs = enumerate(zip(self._values, values, strict=True))
        self._values = tuple(new if number in writable else old for number, (old, new) in pairs)
        self._configured()
        return DONE

    def _configured(self) -> None:
        """The driver has written the configuration."""

    def _read_status(self, channel: Channel) -> Ending:
        if self._bad_length(channel, 1):
            return _CHECK
        channel.write_to_memory(bytes([self.status]))
        return DONE

    def _write_status(self, channel: Channel) -> Ending:
        if self._bad_length(channel, 1):
            return _CHECK
        status = channel.read_from_memory(1)[0]
        if status:
            self.status = status
        else:
            self._reset()
        return DONE

    def _read_vq_conf(self, channel: Channel) -> Ending:
        if self._bad_length(channel, 4):
            return _CHECK
        if int.from_bytes(channel.peek_memory(2), "big") >= _QUEUES_MAX:
            return _CHECK
        return self._exchange(channel, 4, self._queue_at)

    def _queue_at(self, raw: bytes) -> bytes:
        index = int.from_bytes(raw[:2], "big")
        return raw[:2] + (self._limits[index] if index < len(self._limits) else 0).to_bytes(2, "big")

    def _set_vq(self, channel: Channel) -> Ending:
        legacy = not self.revision
        size = 16 if legacy else 32
        if self._bad_length(channel, size):
            return _CHECK
        raw = channel.read_from_memory(size)
        if legacy:
            desc, align, index, num = struct.unpack(">QIHH", raw)
            avail = used = 0
        else:
            desc, align, index, num, avail, used = struct.unpack(">QIHHQQ", raw)
        limit = self._limits[index] if index < len(self._limits) else 0
        if index >= _QUEUES_MAX or (legacy and desc and align != _LEGACY_ALIGNMENT):
            return _CHECK
        if desc and (num < limit if legacy else num > limit):
            return _CHECK
        if index < len(self.queues):
            self.queues[index] = _Queue(desc, avail, used, num)
        return DONE

    def _vdev_reset(self, channel: Channel) -> Ending:
        self._reset()
        return DONE

    def _set_ind(self, channel: Channel) -> Ending:
        return self._indicator(channel, "classic", 8)

    def _set_conf_ind(self, channel: Channel) -> Ending:
        return self._indicator(channel, "configuration", 8)

    def _set_ind_adapter(self, channel: Channel) -> Ending:
        return self._indicator(channel, "adapter", 25)

    def _indicator(self, channel: Channel, kind: str, size: int) -> Ending:
        if self._bad_length(channel, size):
            return _CHECK
        if kind in _EXCLUSIVE and _EXCLUSIVE[kind] in self.indicators:
            return _REJECT
        self.indicators[kind] = channel.read_from_memory(size)
        return DONE

    def __str__(self) -> str:
        revision = "revision open" if self.revision is None else f"revision {self.revision}"
        return f"virtio-ccw {self.sense_id}, {revision}, status {self.status:02x}"
