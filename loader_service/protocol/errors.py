"""Every error that a user of loader-service can meet.

    LoaderError
    |-- DatasetError        the declaration, or what it names, is wrong
    |   |-- SpecMismatch    a sample is not what the spec says
    |   `-- SampleError     a sample could not be made: carries its id, file and the worker's traceback
    |-- ConfigError         a setting is wrong
    |-- AddressError        an address cannot be used
    |   |-- AddressInUse    a live daemon holds it
    |   `-- NoDaemon        nobody answers there
    |-- NotEnoughMemory     the slots do not fit
    |-- BackupError         a training cannot go on from its backups
    |-- StreamClosed        a stream or connection was used after its end
    `-- RemoteError         the other process did it
        |-- ProtocolError   a message that cannot be understood, or another protocol version
        |-- DaemonStopped   somebody stopped the daemon
        `-- DaemonLost      the daemon vanished

An error crosses the wire as text: class name, message and notes, the worker's traceback among them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loader_service.protocol.ledger import BadSample

MAX_TEXT = 100_000  # characters of a message or note that travel: a user's exception may show a whole array
MAX_NOTES = 16


class LoaderError(Exception):
    """The base of all errors of loader-service."""


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return the end of a sentence about a name that is none: the one that may be meant, or all that there are.

    >>> nearest("workes", ["workers", "memory"])
    "did you mean 'workers'?"
    >>> nearest("x", ["workers", "memory"])
    "there are 'memory', 'workers'"
    """
    names = sorted(valid)
    close = difflib.get_close_matches(wrong, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are {', '.join(map(repr, names))}" if names else "there is none"


class DatasetWarning(UserWarning):
    """Something about a dataset is probably not what its author wants."""


class DatasetError(LoaderError):
    """A dataset's declaration, or something that it names, is wrong."""

    sample: BadSample | None = None  # the one that it is about; see ledger.py. It does not cross the wire with the text


class SpecMismatch(DatasetError):
    """A sample does not have the shape or dtype that the dataset's spec declares."""


class SampleError(DatasetError):
    """A sample could not be made: the message names it; the notes hold the traceback."""


class ConfigError(LoaderError):
    """A setting is unknown, of the wrong type or out of range."""


class AddressError(LoaderError):
    """An address is malformed, too long, or its folder cannot be used."""


class AddressInUse(AddressError):
    """A live daemon holds the address."""


class NoDaemon(AddressError):
    """No daemon answers at the address."""


class NotEnoughMemory(LoaderError):
    """The shared memory that a stream needs is more than there is."""


class BackupError(LoaderError):
    """A training cannot go on from its backups: none is whole, or none fits the model."""


class StreamClosed(LoaderError):
    """A stream or connection was used after it was closed."""


class RemoteError(LoaderError):
    """The other process failed; nothing that the caller did is known to be wrong."""


class ProtocolError(RemoteError):
    """A message broke the protocol, or the peer speaks another version of it."""


class DaemonStopped(RemoteError):
    """The daemon was stopped on purpose: its streams have ended."""


class DaemonLost(RemoteError):
    """The daemon vanished without a word, and did not come back in time."""


def _tree(root: type[LoaderError]) -> dict[str, type[LoaderError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_BY_NAME = _tree(LoaderError)


def error_to_plain(error: BaseException) -> tuple[str, str, list[str]]:
    """Return what crosses the wire of an error: class name, message, notes.

    >>> error_to_plain(NoDaemon("nobody"))
    ('NoDaemon', 'nobody', [])
    >>> error_to_plain(ZeroDivisionError("oh"))
    ('RemoteError', 'ZeroDivisionError: oh', [])
    """
    notes = [plain_text(str(note)) for note in getattr(error, "__notes__", [])[:MAX_NOTES]]
    name = type(error).__name__
    if _BY_NAME.get(name) is type(error):
        return name, plain_text(str(error)), notes
    return RemoteError.__name__, plain_text(f"{name}: {error}"), notes


def plain_text(told: str) -> str:
    """Return text that can travel: bytes of a file's name that are no UTF-8 are spelt out, the too long is cut."""
    if len(told) > MAX_TEXT:
        told = f"{told[: MAX_TEXT // 2]} [...] {told[-MAX_TEXT // 4 :]}"
    return told.encode(errors="backslashreplace").decode()


def error_from_plain(name: str, message: str, notes: list[str]) -> LoaderError:
    """Return the error that `error_to_plain` described; an unknown class becomes a RemoteError."""
    error = _BY_NAME.get(name, RemoteError)(message)
    for note in notes:
        error.add_note(note)
    return error
