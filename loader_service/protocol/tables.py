"""Arrays that travel beside messages: ids, labels, paths, whole datasets in memory.

A message names a table by the hash of its content; its bytes cross as a descriptor over the lifeline, once,
and every process of the machine maps the same memory.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from loader_service.protocol.arena import map_memory, map_privately
from loader_service.protocol.errors import ProtocolError
from loader_service.protocol.spec import Dtype, FieldSpec, Size

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TableRef:
    """The name of an array: the hash of its bytes, and how to read them."""

    table: Hash
    dtype: Dtype
    shape: tuple[Size, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the table; at least 1, since empty memory cannot be mapped."""
        return max(1, FieldSpec(self.shape, self.dtype).nbytes)

    @classmethod
    def of(cls, array: np.ndarray) -> TableRef:
        """Hash `array`, which is in the machine's byte order: its bytes travel, and the name of its dtype.

        >>> TableRef.of(np.arange(3, dtype="int64")).shape
        (3,)
        """
        assert array.dtype.isnative, f"{array.dtype} would be read back in the wrong byte order"
        data = np.ascontiguousarray(array)
        digest = hashlib.blake2b(data.reshape(-1).view(np.uint8).data, digest_size=16)
        return cls(digest.hexdigest(), array.dtype.name, array.shape)


class TableStore:
    """The tables of one process, by hash: descriptors that it was handed, mapped when they are read."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}
        self._copies: Counter[str] = Counter()  # how often each was adopted and not dropped

    def __contains__(self, table: str) -> bool:
        return table in self._fds

    def adopt(self, table: str, fd: int) -> None:
        """Own `fd` from now on; a second copy of a known table is closed."""
        if table in self._fds:
            os.close(fd)
        else:
            self._fds[table] = fd
        self._copies[table] += 1

    def drop(self, table: str) -> None:
        """Close a table, if it was dropped as often as it was adopted; arrays over it stay valid."""
        self._copies[table] -= 1
        if not self._copies[table]:
            del self._copies[table]
            os.close(self._fds.pop(table))

    def fd(self, table: str) -> int:
        """Return the descriptor of a table.

        Raises:
            ProtocolError: If its owner never handed it over.
        """
        if table not in self._fds:
            raise ProtocolError(f"table {table} was named before it was handed over")
        return self._fds[table]

    def array(self, ref: TableRef, *, private: bool = False) -> np.ndarray:
        """Return the table as a read-only array; or as one that can be written to, which nobody else sees."""
        fd = self.fd(ref.table)
        if os.fstat(fd).st_size < ref.nbytes:
            raise ProtocolError(f"table {ref.table} holds fewer than {ref.nbytes:,} bytes")
        memory = map_privately(fd, ref.nbytes) if private else map_memory(fd, ref.nbytes, writable=False)
        return np.ndarray(ref.shape, ref.dtype, memory)

    def forget(self, keep: set[str]) -> None:
        """Close every table that is not in `keep`."""
        for table in self._fds.keys() - keep:
            os.close(self._fds.pop(table))
            del self._copies[table]

    def close(self) -> None:
        """Close every table; arrays over them stay valid."""
        self.forget(set())


def tables_in(plain: Any) -> Iterator[str]:
    """Yield the hash of every table that plain data names.

    >>> list(tables_in({"labels": {"table": "0a", "dtype": "int64", "shape": [3]}}))
    ['0a']
    """
    if isinstance(plain, dict):
        if isinstance(plain.get("table"), str) and "dtype" in plain:
            yield plain["table"]
        else:
            for value in plain.values():
                yield from tables_in(value)
    elif isinstance(plain, list):
        for value in plain:
            yield from tables_in(value)


def carried_in(plain: Any) -> Iterator[str]:
    """Yield, for every object that travels with plain data, what those are told who cannot take it.

    >>> list(carried_in({"source": {"attr": {"carried": {"table": "0a"}, "why": "it is a lambda"}}}))
    ['it is a lambda']
    """
    if isinstance(plain, dict):
        if "carried" in plain:
            yield str(plain.get("why"))
        for value in plain.values():
            yield from carried_in(value)
    elif isinstance(plain, list):
        for value in plain:
            yield from carried_in(value)


def pack_strings(strings: list[str]) -> dict[str, np.ndarray]:
    """Return strings as two arrays: their UTF-8 bytes, and where each one starts and the last one ends.

    >>> packed = pack_strings(["a", "bc"])
    >>> packed["bytes"].tobytes(), packed["offsets"].tolist()
    (b'abc', [0, 1, 3])
    """
    encoded = [os.fsencode(text) for text in strings]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return {"bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8), "offsets": offsets}


class PackedStrings:
    """Read `pack_strings`' arrays without making a million Python strings.

    >>> PackedStrings(pack_strings(["a", "bc"]))[1]
    b'bc'
    """

    def __init__(self, packed: dict[str, np.ndarray]) -> None:
        self.bytes = np.ascontiguousarray(packed["bytes"]).view(np.uint8)
        self.offsets = np.ascontiguousarray(packed["offsets"], np.int64)
        self._memory = self.bytes.data

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        start, end = self.offsets[index], self.offsets[index + 1]
        return self._memory[start:end].tobytes()
