"""Messages to bytes and back: msgpack, bounded, validated at the door. Never pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
from pydantic import ValidationError

from loader_service.protocol.errors import LoaderError, ProtocolError, error_from_plain, error_to_plain
from loader_service.protocol.messages import TAGS, Failed

MAX_NBYTES = 16 * 2**20  # of one message; whatever is larger travels as a table
BRIEF = 200  # characters that are repeated of what cannot be understood


def encode(message: Any) -> bytes:
    """Return the bytes of a message: its tag, then its fields by name.

    Raises:
        ProtocolError: If it is larger than MAX_NBYTES, or holds what cannot travel.
    """
    try:
        packed: bytes = msgpack.packb([message.tag, message.__dict__], default=_fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"message {message.tag!r} cannot be packed: {error}") from error
    if len(packed) > MAX_NBYTES:
        raise ProtocolError(
            f"message {message.tag!r} has {len(packed):,} bytes, at most {MAX_NBYTES:,} may travel: "
            "pass long lists of ids or labels as NumPy arrays."
        )
    return packed


def decode(packed: bytes, tags: Mapping[str, type[Any]] = TAGS) -> Any:
    """Return the message that `encode` packed.

    >>> from loader_service.protocol.messages import CloseStream
    >>> decode(encode(CloseStream(3)))
    CloseStream(stream=3)

    Args:
        tags: The messages that are taken here.
    Raises:
        ProtocolError: If the bytes are no valid message, or another one.
    """
    if len(packed) > MAX_NBYTES:
        raise ProtocolError(f"a message of {len(packed):,} bytes, at most {MAX_NBYTES:,} are read")
    try:
        tag, fields = msgpack.unpackb(packed, strict_map_key=True, raw=False)
        return tags[tag](**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProtocolError(f"message {tag!r}, field {where[:BRIEF]!r}: {first['msg'][:BRIEF]}") from error
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise ProtocolError(f"{len(packed)} bytes that are no message of ours: {repr(error)[:BRIEF]}") from error


def failed(error: BaseException) -> Failed:
    """Return the message that carries `error`."""
    return Failed(*error_to_plain(error))


def error_of(failure: Failed) -> LoaderError:
    """Return the error that a `Failed` carries."""
    return error_from_plain(failure.name, failure.message, failure.notes)


def _fields(value: Any) -> Any:
    """Pack a message or spec inside a message; anything else cannot travel."""
    try:
        return value.__dict__
    except AttributeError:
        raise TypeError(f"{type(value).__name__} {value!r} cannot travel in a message") from None
