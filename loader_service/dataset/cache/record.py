"""A prepared sample as bytes, and back without a copy.

    record   | u32: bytes of the head | head | pad | field | pad | field | pad |

The head is msgpack: name, dtype and shape of each field; strings are their UTF-8 bytes. Fields begin at multiples of
ALIGNMENT within the record. Little-endian, whatever the machine.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.layout import ALIGNMENT, round_up

LENGTH = struct.Struct("<I")
TEXT, BYTES = "str", "bytes"  # in the place of a dtype


def pack(sample: Mapping[str, Any]) -> list[bytes | memoryview]:
    """Return the parts of a record, to be written one after the other.

    Raises:
        DatasetError: If a field holds what cannot be kept.
    """
    head, fields = [], []
    for name, value in sample.items():
        kind, array = _kind_and_bytes(name, value)
        head.append((name, kind, array.shape))
        fields.append(array.reshape(-1).view(np.uint8).data)
    packed = msgpack.packb(head)
    parts: list[bytes | memoryview] = [LENGTH.pack(len(packed)) + packed + _padding(LENGTH.size + len(packed))]
    for field in fields:
        parts += [field, _padding(field.nbytes)]
    return parts


def unpack(record: np.ndarray) -> dict[str, Any]:
    """Return the sample of a record: views of it, and numbers and strings by themselves."""
    (length,) = LENGTH.unpack_from(record.data)
    at = LENGTH.size
    head = msgpack.unpackb(record[at : at + length].data)
    at = round_up(at + length, ALIGNMENT)
    sample: dict[str, Any] = {}
    for name, kind, shape in head:
        dtype = np.dtype(np.uint8 if kind in (TEXT, BYTES) else kind)
        array: np.ndarray = np.ndarray(shape, dtype, record, at)
        at += round_up(math.prod(shape) * dtype.itemsize, ALIGNMENT)
        if kind == TEXT:
            sample[name] = array.tobytes().decode()
        elif kind == BYTES:
            sample[name] = array.tobytes()
        else:
            sample[name] = array if shape else array[()]
    return sample


def _kind_and_bytes(name: str, value: Any) -> tuple[str, np.ndarray]:
    if isinstance(value, str | bytes):
        text = value.encode() if isinstance(value, str) else value
        return (TEXT if isinstance(value, str) else BYTES), np.frombuffer(text, np.uint8)
    array = np.asarray(value)
    if array.dtype.kind in "US" and not array.ndim:
        return _kind_and_bytes(name, array.item())
    if array.dtype.hasobject or array.dtype.kind in "USV":
        raise DatasetError(f"cache: field {name!r} is {array.dtype}: only numbers and strings can be kept")
    return array.dtype.newbyteorder("<").str, np.array(array, array.dtype.newbyteorder("<"), order="C", copy=None)


def _padding(nbytes: int) -> bytes:
    return bytes(-nbytes % ALIGNMENT)
