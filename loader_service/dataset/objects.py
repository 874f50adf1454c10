"""Users' objects that have no import path, as bytes: for the workers of a private daemon, and for nobody else.

    | length of the head | head: JSON | pickle | buffer | buffer | ...       each at a multiple of 64 bytes

Arrays lie beside the pickle, as buffers. Each worker maps the bytes privately: an array of many gigabytes is there
once, whatever the number of workers, until somebody writes to it, who then has a copy of that page alone. An array that
is mapped from a file stays that: only the file's name travels.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import sys
from collections import ChainMap
from pathlib import Path
from types import CodeType
from typing import Annotated, Any, ClassVar

import cloudpickle
import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Tag
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.sources.source import ReadTable
from loader_service.dataset.user_code import UserCode, digest_of_own, file_and_line
from loader_service.protocol.arena import address_of
from loader_service.protocol.errors import DatasetError, ProtocolError
from loader_service.protocol.layout import ALIGNMENT, round_up
from loader_service.protocol.tables import TableRef

PRIVATELY = (
    "Or start a daemon of your own, which takes it as it is: loader_client.connect(workers=N). This one is not your own"
)
CODE_TAGS = ("by name", "by bytes")  # stand in the places of pydantic's errors
HEAD = 8  # bytes of its length
SMALL = 4096  # bytes: smaller arrays stay in the pickle
PLAIN = (str, bytes, int, float, tuple)
STATELESS = (random.Random, np.random.Generator, np.random.RandomState)  # always seeded before they are used


class Carried(BaseModel):
    """An object that travels by its bytes; `why` is what those are told who cannot take it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    why: str
    digest: str  # what the dataset's key knows of it: the bytes are others in each process that makes the object
    carried: TableRef

    def check(self, packed: np.ndarray) -> None:
        """See to it that bytes are those of the object: others may hand over what they say is the same.

        Raises:
            ProtocolError: If they are not.
        """
        if TableRef.of(packed) != self.carried:
            raise ProtocolError(f"the bytes of {self.name} are not those that its sender has named")

    def load(self, packed: np.ndarray) -> Any:
        """Return the object.

        Args:
            packed: What `carried` names, and what nobody else reads or writes.
        Raises:
            DatasetError: If it cannot be made here.
        """
        try:
            return unpack(packed)
        except Exception as error:
            raise DatasetError(f"{self.name} cannot be made again in a worker: {error!r}") from error


def _kind_of_code(code: Any) -> str:
    travels = isinstance(code, Carried) or (isinstance(code, dict) and "carried" in code)
    return CODE_TAGS[1] if travels else CODE_TAGS[0]


AnyCode = Annotated[
    Annotated[UserCode, Tag(CODE_TAGS[0])] | SkipJsonSchema[Annotated[Carried, Tag(CODE_TAGS[1])]],
    Discriminator(_kind_of_code),
]


def loaded(code: UserCode | Carried, table: ReadTable) -> Any:
    """Return what users' code is, in a copy of one's own where it travels by its bytes."""
    if isinstance(code, UserCode):
        return code.load()
    code.check(table(code.carried))
    return code.load(table(code.carried, private=True))


def named_or_carried(target: Any, what: str, advice: str, tables: dict[str, np.ndarray]) -> UserCode | Carried:
    """Return how workers get `target`: by its import path, or, if it has none, by its bytes.

    Args:
        what: As in `carry`, and so is `advice`.
        tables: Takes the bytes.
    Raises:
        DatasetError: If it is an import path that leads nowhere, or it cannot be pickled either.
    """
    try:
        return UserCode.of(target)
    except DatasetError as unnamed:
        if isinstance(target, str):
            raise
        carried, packed = carry(target, what, advice)
        tables[carried.carried.table] = packed
        if not hasattr(target, "__qualname__"):
            return carried
        return carried.model_copy(update={"why": f"{what}: {str(unnamed).rstrip('.')}. {PRIVATELY}"})


def carry(target: Any, what: str, advice: str, digest: str | None = None) -> tuple[Carried, np.ndarray]:
    """Return how an object travels, and its bytes.

    Args:
        what: What is to be done with it, as "wrap" or "map".
        advice: What to do instead, as the end of a sentence.
        digest: What the key is to know of it; by default, its hash as it is now.
    Raises:
        DatasetError: If it cannot be pickled: names the part that is the reason.
    """
    name = f"{_name(target)!r} ({file_and_line(target)})"
    try:
        packed = pack(target)
    except Exception as error:
        raise DatasetError(
            f"{what}: {name} cannot be sent to workers{_culprit(target)}: {error}. Have the workers make it: {advice}"
        ) from error
    why = f"{what}: {name} has no import path, so workers cannot find it: {advice}. {PRIVATELY}"
    if digest is None:
        digest = digest_of(target)
    return Carried(name=name, why=why, digest=digest, carried=TableRef.of(packed)), packed


def pack(target: Any) -> np.ndarray:
    """Return an object's bytes; raises what pickling raises."""
    buffers: list[memoryview] = []

    def stays(buffer: pickle.PickleBuffer) -> bool:
        """Return whether a buffer stays in the pickle."""
        raw = buffer.raw()
        if raw.nbytes < SMALL:
            return True
        buffers.append(raw)
        return False

    file = io.BytesIO()
    _Pickler(file, buffer_callback=stays).dump(target)
    parts = [file.getbuffer(), *buffers]
    head = json.dumps({"path": _folders(), "sizes": [part.nbytes for part in parts]}).encode()
    sizes = [round_up(nbytes, ALIGNMENT) for nbytes in (HEAD + len(head), *(part.nbytes for part in parts))]
    packed = np.zeros(sum(sizes), np.uint8)
    packed[:HEAD].view(np.int64)[0] = len(head)
    packed[HEAD : HEAD + len(head)] = np.frombuffer(head, np.uint8)
    at = sizes[0]
    for part, room in zip(parts, sizes[1:], strict=True):
        packed[at : at + part.nbytes] = np.frombuffer(part, np.uint8)
        at += room
    return packed


def unpack(packed: np.ndarray) -> Any:
    """Return the object; its arrays lie over `packed`, and writing to them writes there."""
    length = int(packed[:HEAD].view(np.int64)[0])
    head = json.loads(packed[HEAD : HEAD + length].tobytes())
    sys.path[:0] = [folder for folder in head["path"] if folder not in sys.path]
    at = round_up(HEAD + length, ALIGNMENT)
    parts = []
    for nbytes in head["sizes"]:
        parts.append(packed[at : at + nbytes])
        at += round_up(nbytes, ALIGNMENT)
    return pickle.loads(parts[0].data, buffers=parts[1:])


def digest_of(target: Any) -> str:
    """Return the hash of what an object is: of its state, and of the user code in it.

    It is the same in each run that makes the object in the same way. What differs between runs is left out: states of
    random generators, which are seeded anyway, and files and lines of code.
    """
    sink = _Sink()
    pickler = _Digester(sink)
    pickler.dump(target)
    for module in sorted(pickler.modules):
        sink.write(digest_of_own(module).encode())
    return sink.hash.hexdigest()


def _name(target: Any) -> str:
    return str(getattr(target, "__qualname__", type(target).__qualname__))


def _culprit(target: Any) -> str:
    """Return which of its attributes cannot be pickled, as a part of a sentence."""
    for name, value in getattr(target, "__dict__", {}).items():
        try:
            pack(value)
        except Exception:
            return f", because of its attribute {name!r}"
    return ""


def _folders() -> list[str]:
    """Return where this process finds modules that are neither Python's own nor installed."""
    python = Path(json.__file__).parents[1]
    folders = [Path(folder).absolute() for folder in sys.path]
    own = [each for each in folders if each.is_dir() and python not in (each, each.parent)]
    return [str(each) for each in own if "site-packages" not in each.parts]


def _mapped(array: np.ndarray) -> tuple[Any, ...] | None:
    """Return how to map an array again that lies in a file; None of any other."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or root.mode == "c":
        return None
    path = Path(root.filename)
    stamp = (path.stat().st_size, path.stat().st_mtime_ns)
    start: int = root.offset + address_of(array) - address_of(root)
    return _map_again, (str(path), stamp, array.dtype, array.shape, start, array.strides)


def _map_again(
    path: str, stamp: tuple[int, int], dtype: np.dtype, shape: tuple[int, ...], start: int, strides: tuple[int, ...]
) -> np.ndarray:
    now = Path(path).stat()
    if (now.st_size, now.st_mtime_ns) != stamp:
        raise DatasetError(f"the file {path!r} was changed after the dataset was made of it")
    return np.ndarray(shape, dtype, np.memmap(path, np.uint8, "r"), start, strides)


def _refuse_file(file: io.TextIOWrapper) -> Any:
    """Refuse a file that is open for reading: cloudpickle would send its content."""
    if file in (sys.stdout, sys.stderr):
        return cloudpickle.Pickler.dispatch_table[io.TextIOWrapper](file)
    raise TypeError(f"cannot pickle the open file {file.name!r}")


def _code_alone(code: CodeType) -> Any:
    """Return what a code does, whatever file and lines it is from."""
    constants = list(code.co_consts)
    return tuple, ((code.co_name, code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars),)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Knows of arrays that lie in files, and refuses files that are open."""

    dispatch_table: ClassVar[Any] = ChainMap({io.TextIOWrapper: _refuse_file}, cloudpickle.Pickler.dispatch_table)

    def reducer_override(self, found: Any) -> Any:
        if isinstance(found, np.ndarray) and (mapped := _mapped(found)) is not None:
            return mapped
        return super().reducer_override(found)


class _Digester(_Pickler):
    """Writes what an object is, not how it is made again."""

    dispatch_table: ClassVar[Any] = ChainMap({CodeType: _code_alone}, _Pickler.dispatch_table)

    def __init__(self, sink: Any) -> None:
        super().__init__(sink)
        self.modules: set[str] = set()  # users' own, that are named

    def persistent_id(self, found: Any) -> Any:
        """Write sets in an order that is the same in each process."""
        if type(found) in (set, frozenset) and all(isinstance(each, PLAIN) for each in found):
            return sorted(map(repr, found))
        return None

    def reducer_override(self, found: Any) -> Any:
        if isinstance(found, STATELESS):
            return str, (type(found).__name__,)
        reduced = super().reducer_override(found)
        if isinstance(found, type) and reduced is not NotImplemented and len(reduced) > 2:
            maker, arguments, *rest = reduced  # of a class by value; its last but one is a number of this process
            return maker, arguments[:-2], *rest
        if reduced is NotImplemented and callable(found) and isinstance(getattr(found, "__module__", None), str):
            self.modules.add(found.__module__)
        return reduced


class _Sink:
    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)

    def write(self, data: Any) -> None:
        """Take in what a pickler writes."""
        self.hash.update(data)
