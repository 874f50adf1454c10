"""Files -> records: what is kept of each in a pack. Made in threads: reading, decoding and hashing let others run."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from xxhash import xxh3_64_intdigest

from loader_service.dataset.collate import native
from loader_service.dataset.packing.format import FILE, Form
from loader_service.dataset.sources.contents import Decoding, FieldFiles
from loader_service.dataset.sources.decoding import decode_image
from loader_service.dataset.sources.mask import decode_mask
from loader_service.dataset.sources.npy_bodies import MAX_HEADER, NpyHeader
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

Encoded = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Record:
    """What is written of one sample in one field, and the file that it was made of."""

    form: Form
    body: Encoded
    checksum: int
    size: int  # of the file, bytes
    mtime_ns: int


def make_record(files: FieldFiles, sample_id: int, *, decode: bool) -> Record:
    """Read a file, and decode it if that is wanted.

    Raises:
        DatasetError: If it cannot be read, or decoded; it is named.
    """
    path = files.path_of(sample_id)
    try:
        with open(path, "rb", buffering=0) as file:
            stat = os.fstat(file.fileno())
            content = file.read()
    except OSError as error:
        raise DatasetError(f"sample {sample_id} ({os.fsdecode(path)}) cannot be read: {error.strerror}") from error
    if decode:
        try:
            form, body = _decoded(files.decoding, content)
        except DatasetError as error:
            raise DatasetError(
                f"sample {sample_id} ({os.fsdecode(path)}): {error}. Take it out of the source, or pack without "
                "--decode: then it is kept as it is"
            ) from error
    else:
        form, body = _kept(files.decoding, content)
    return Record(form, body, xxh3_64_intdigest(body), stat.st_size, stat.st_mtime_ns)


def _kept(decoding: Decoding, content: bytes) -> tuple[Form, Encoded]:
    """Keep all bytes; where numbers are those of a row, apart from what stands before them."""
    if decoding != "npy":
        return FILE, content
    try:
        header = NpyHeader.parse(content[:MAX_HEADER])
    except DatasetError:
        return FILE, content  # whoever reads it will be told
    if not header.direct or len(content) != len(header.raw) + header.spec.nbytes:
        return FILE, content
    return Form(header.spec.dtype, header.spec.room, header.raw), memoryview(content)[len(header.raw) :]


def _decoded(decoding: Decoding, content: bytes) -> tuple[Form, Encoded]:
    array = decoder(decoding)(content)
    spec = FieldSpec.of(array)
    return Form(spec.dtype, array.shape), array.tobytes()


def decoder(decoding: str) -> Callable[[Encoded], np.ndarray]:
    """Return what makes an array of the bytes of a file."""
    return DECODERS.get(decoding, _colors)


def decode_npy(content: Encoded) -> np.ndarray:
    """Return the array of a `.npy` file.

    Raises:
        DatasetError: If it holds none, or anything but numbers.
    """
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DatasetError(str(error)) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DatasetError("it is an archive of arrays: save each one as .npy")
    return native(array)


def _grey(content: Encoded) -> np.ndarray:
    return decode_image(content, "grayscale")


def _colors(content: Encoded) -> np.ndarray:
    return decode_image(content, "rgb")


def _with_alpha(content: Encoded) -> np.ndarray:
    return decode_image(content, "rgba")


DECODERS: dict[str, Callable[[Encoded], np.ndarray]] = {
    "npy": decode_npy,
    "mask": decode_mask,
    "grayscale": _grey,
    "rgb": _colors,
    "rgba": _with_alpha,
}
