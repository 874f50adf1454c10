"""Which small batches come as one, and how those are numbered."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.protocol.bundles import LEAST_BUNDLES, MOST, MOST_NBYTES, Bundles, bundle_of, bundled, unbundled
from loader_service.protocol.spec import DatasetInfo, FieldSpec

X = FieldSpec((4,), "float32")


def info_of(samples, rows, remainder="keep", **more):
    whole, rest = divmod(samples, rows)
    short = [rest] if rest and remainder == "keep" else []
    told = {"x": X}, rows, samples, whole + len(short), True, ["x"], [], []
    return DatasetInfo("key", *told, remainder=remainder, short=short, **more)


infos = st.builds(info_of, st.integers(1000, 100_000), st.integers(1, 300), st.sampled_from(["keep", "drop"]))


@given(infos)
def test_what_is_bundled_is_the_same_when_it_is_taken_apart(info):
    assert unbundled(bundled(info)) == info


@given(infos, st.integers(0, 3))
def test_bundles_have_the_rows_of_their_batches(info, epoch):
    bundles = bundled(info)
    size = bundles.bundle
    places = Bundles(size, info.batches_per_epoch)
    first, last = epoch * info.batches_per_epoch, (epoch + 1) * info.batches_per_epoch

    rows: dict[int, int] = {}
    for n in range(first, last):
        number, part = places.place(n)
        assert places.first(number) + part == n
        assert rows.get(number, 0) == part * info.batch_size, "batches lie one after the other"
        rows[number] = rows.get(number, 0) + info.rows(n)

    whole = bundles.batches_per_epoch
    assert rows == {number: bundles.rows(number) for number in range(epoch * whole, (epoch + 1) * whole)}


@given(infos)
def test_bundles_are_small_and_an_epoch_has_many(info):
    size = bundle_of(info)

    assert 1 <= size <= MOST
    assert size == 1 or size * info.batch_size * 24 <= MOST_NBYTES
    assert size == 1 or info.batches_per_epoch // size >= LEAST_BUNDLES


@pytest.mark.parametrize(
    "other",
    [
        {"batch_size": 10_000},
        {"live": True},
        {"whole": True},
        {"remainder": "pad"},
        {"stage": {"x": X}},
        {"spec": {"x": FieldSpec((None,), "float32", (5,))}},
        {"batches_per_epoch": 2 * LEAST_BUNDLES - 1},
    ],
    ids=lambda other: next(iter(other)),
)
def test_batches_that_are_no_use_in_bundles_come_one_by_one(other):
    info = info_of(100_000, 100)

    assert bundled(info).bundle > 1
    assert bundled(replace(info, **other)) == replace(info, **other)
