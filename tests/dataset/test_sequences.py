"""Rows of different lengths: the kernel, and what stands in for it, copy the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.dataset import sequences
from loader_service.dataset.sequences import Sequences

is_built = pytest.mark.skipif(sequences.kernel() is None, reason="the kernel is not built here")
DTYPES = st.sampled_from(["uint8", "float16", "float32", "int64", "complex128"])


@st.composite
def some_rows(draw):
    """Return rows anywhere in some entries, overlapping or not, some of them empty."""
    shape = draw(st.lists(st.integers(0, 3), max_size=2))
    entries = np.random.default_rng(0).integers(0, 100, (40, *shape)).astype(draw(DTYPES))
    lengths = np.asarray(draw(st.lists(st.integers(0, 9), max_size=8)), np.int64)
    starts = np.asarray([draw(st.integers(0, 40 - int(length))) for length in lengths], np.int64)
    return Sequences(entries, starts, lengths)


def with_and_without(do):
    """Return what is written by the kernel, and without it."""
    written = do()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sequences, "kernel", lambda: None)
        return written, do()


@is_built
@given(some_rows(), st.integers(0, 3), st.sampled_from([0.0, 7.0, -1.0]))
def test_rows_are_padded_alike(rows, more, value):
    longest = int(rows.lengths.max(initial=0)) + more
    value = abs(value) if rows.entries.dtype.kind == "u" else value

    def pad():
        out = np.full((len(rows), longest, *rows.entries.shape[1:]), 99, rows.entries.dtype)
        rows.pad(out, value)
        return out

    one, other = with_and_without(pad)
    assert np.array_equal(one, other)
    for row, start, length in zip(one, rows.starts, rows.lengths, strict=True):
        assert np.array_equal(row[:length], rows.entries[start : start + length])
        assert (row[length:] == value).all()


@is_built
@given(some_rows())
def test_rows_are_written_one_after_the_other_alike(rows):
    ends = np.cumsum(rows.lengths)

    def write():
        out = np.full((int(rows.lengths.sum()), *rows.entries.shape[1:]), 99, rows.entries.dtype)
        rows.write(out, ends - rows.lengths)
        return out

    one, other = with_and_without(write)
    assert np.array_equal(one, other)
    for start, length, end in zip(rows.starts, rows.lengths, ends, strict=True):
        assert np.array_equal(one[end - length : end], rows.entries[start : start + length])


@is_built
@pytest.mark.parametrize(("start", "length"), [(38, 3), (41, 0), (-1, 1), (0, -1), (0, 41), (2**50, 1), (1, 6)])
def test_a_row_that_lies_outside_is_refused_and_nothing_beside_its_place_is_written(start, length):
    entries, around = np.ones((40, 2), np.float32), np.zeros((7, 2), np.float32)
    rows = Sequences(entries, np.asarray([0, start]), np.asarray([1, length]))

    with pytest.raises(IndexError, match=f"row 1, of {length} entries, lies outside"):
        rows.write(around[:6], np.asarray([0, 1]))

    assert around.sum() == 2
