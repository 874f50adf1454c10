"""Rows that differ in length, and functions on whole batches: in line, without workers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.ragged import Ragged, Text

sequences = st.lists(st.integers(0, 7), min_size=2, max_size=12).filter(lambda lengths: len(set(lengths)) > 1)
LENGTHS = [3, 0, 5, 2]
ROWS = [np.arange(2 * k, dtype=np.float32).reshape(k, 2) + 10 * i for i, k in enumerate(LENGTHS)]


def rows_of(lengths):
    """Return sequences whose numbers tell the sample and the step."""
    return [np.arange(k, dtype=np.float32) + 100 * i for i, k in enumerate(lengths)]


@given(sequences, st.integers(1, 5))
def test_rows_are_padded_to_the_longest_of_their_batch(lengths, size):
    size = min(size, len(lengths))
    dataset = Dataset.from_arrays(x=rows_of(lengths)).pad("x", value=-1, mask="mask", lengths="n").batch(size)

    for number in range(dataset.batches_per_epoch):
        expected = rows_of(lengths)[number * size : (number + 1) * size]
        batch = dataset.compute(number)
        longest = max(len(row) for row in expected)
        assert batch["x"].shape == batch["mask"].shape == (len(expected), longest)
        assert batch["n"].tolist() == [len(row) for row in expected]
        for row, mask, wanted in zip(batch["x"], batch["mask"], expected, strict=True):
            assert row.tolist() == [*wanted, *[-1] * (longest - len(wanted))]
            assert mask.tolist() == [True] * len(wanted) + [False] * (longest - len(wanted))


@given(sequences, st.integers(1, 5))
def test_ragged_rows_come_back_as_they_were(lengths, size):
    size = min(size, len(lengths))
    dataset = Dataset.from_arrays(x=rows_of(lengths)).ragged("x").batch(size)

    got = [row for number in range(dataset.batches_per_epoch) for row in dataset.compute(number)["x"]]

    assert [row.tolist() for row in got] == [row.tolist() for row in rows_of(lengths)]


def test_rows_are_padded_to_one_length():
    batch = Dataset.from_arrays(x=ROWS).pad("x", to=6, value=7, mask="mask", lengths="n").batch(4).compute(0)

    assert batch["x"].shape == (4, 6, 2)
    assert batch["x"][3].tolist() == [[30, 31], [32, 33], *[[7, 7]] * 4]
    assert batch["mask"].sum(axis=1).tolist() == batch["n"].tolist() == LENGTHS


def test_what_is_longer_is_cut_off_if_told_so_and_else_refused_by_name():
    rows = Dataset.from_arrays(x=ROWS)

    batch = rows.pad("x", to=3, truncate=True, lengths="n").batch(4).compute(0)
    with pytest.raises(SpecMismatch, match=r"sample 2 \(row 2\): field 'x' has 5 entries, and is to be padded to 3"):
        rows.pad("x", to=3).batch(4).compute(0)

    assert batch["x"][2].tolist() == ROWS[2][:3].tolist()
    assert batch["n"].tolist() == [3, 0, 3, 2]


def test_a_row_longer_than_was_declared_is_refused_by_name(user_module):
    module = user_module("source = [{'x': [1.0] * k} for k in (3, 1, 9)]\n")

    with pytest.raises(
        SpecMismatch, match=rf"sample 2 \({module}:source\[2\]\): field 'x' has 9 entries, and the longest"
    ):
        Dataset.from_python(f"{module}:source").pad("x", most=5).batch(3).compute(0)


def test_what_elementwise_steps_do_is_done_to_rows_of_any_length():
    dataset = Dataset.from_arrays(x=ROWS).rescale(2, field="x").cast("x", "float64").pad("x").batch(4)

    assert dataset.spec["x"].shape == (None, 2)
    assert dataset.spec["x"].dtype == dataset.compute(0)["x"].dtype == "float64"
    assert dataset.compute(0)["x"][0].tolist() == [*(2 * ROWS[0]).tolist(), [0, 0], [0, 0]]


def test_steps_of_class_numbers_may_be_one_hot():
    rows = [np.arange(k, dtype=np.int64) for k in LENGTHS]

    batch = Dataset.from_arrays(x=rows).one_hot("x", 5).ragged("x").batch(4).compute(0)

    assert isinstance(batch["x"], Ragged)
    assert [row.tolist() for row in batch["x"]] == [np.eye(5)[:k].tolist() for k in LENGTHS]


def test_strings_are_text_of_any_length(user_module):
    words = ["", "a", "größer", "日本"]
    module = user_module(f"source = [{{'x': [1.0], 'said': word}} for word in {words!r}]\n")
    dataset = Dataset.from_python(f"{module}:source").batch(4)

    said = dataset.compute(0)["said"]

    assert isinstance(said, Text)
    assert list(said) == words
    assert said.encoded() == [word.encode() for word in words]
    assert str(dataset.spec["said"]) == "text uint8 (None,)"


def test_a_string_longer_than_there_is_room_for_is_refused_by_name(user_module):
    module = user_module("source = [{'said': 'x' * k} for k in (1, 1001)]\n")
    source = Dataset.from_python(f"{module}:source")

    with pytest.raises(
        SpecMismatch, match=r"sample 1 .*: field 'said' has 1,001 entries, and the longest was declared"
    ):
        source.batch(2).compute(0)

    assert source.text("said", most=1001).batch(2).compute(0)["said"][1] == "x" * 1001


MIXING = """
import numpy as np

def mix(batch, rng):
    other = rng.permutation(len(batch["x"]))
    return {"x": (batch["x"] + batch["x"][other]) / 2, "y": np.stack([batch["y"], batch["y"][other]], axis=1)}

def double(batch):
    batch["x"] *= 2
    return batch

def fails(batch):
    raise ValueError("no")

def one(batch):
    return {"x": batch["x"][:1]}

def nothing(batch):
    return None

def forgets(batch):
    return batch if batch["y"][0] == batch["y"][-1] else {"y": batch["y"]}

def pools(batch):
    return {"x": batch["x"].mean(axis=1), "n": batch["x"].astype(bool)}
"""


@pytest.fixture
def mixing(user_module):
    return user_module(MIXING)


def table(**fields):
    return Dataset.from_arrays(x=np.arange(24, dtype=np.float32).reshape(12, 2), y=np.arange(12), **fields)


def test_a_function_on_batches_sees_all_rows_and_its_random_numbers_are_the_batchs_own(mixing):
    dataset = table().map_batch(f"{mixing}:mix").shuffle(3).batch(4)
    x = np.arange(24, dtype=np.float32).reshape(12, 2)

    batches = [dataset.compute(n) for n in range(6)]

    assert dataset.spec["y"].shape == (2,)
    for batch in batches:
        assert np.array_equal(batch["x"], (x[batch["y"][:, 0]] + x[batch["y"][:, 1]]) / 2)
        assert sorted(batch["y"][:, 0]) == sorted(batch["y"][:, 1])
    orders = {tuple(np.argsort(batch["y"][:, 0])[np.argsort(np.argsort(batch["y"][:, 1]))]) for batch in batches}
    assert len(orders) > 1
    assert all(np.array_equal(batch["x"], dataset.compute(n)["x"]) for n, batch in enumerate(batches))


def test_a_function_on_batches_may_change_what_it_is_given(mixing):
    dataset = table().map_batch(f"{mixing}:double").map_batch(f"{mixing}:double").batch(12)

    assert np.array_equal(dataset.compute(0)["x"], 4 * np.arange(24, dtype=np.float32).reshape(12, 2))
    assert np.array_equal(dataset.compute(0)["x"], dataset.compute(0)["x"])


def test_a_function_on_padded_batches_may_make_what_differs_as_well(mixing):
    dataset = Dataset.from_arrays(x=ROWS, y=np.arange(4)).pad("x").map_batch(f"{mixing}:pools").batch(2)

    assert dataset.spec["x"].shape == (2,)
    assert dataset.spec["n"].shape == (None, 2)
    assert [dataset.compute(n)["n"].shape for n in range(2)] == [(2, 3, 2), (2, 5, 2)]


@pytest.mark.parametrize(
    ("function", "error", "told"),
    [
        ("fails", SampleError, r"the first batch, map_batch: '{}:fails': ValueError: no"),
        (
            "one",
            DatasetError,
            r"map_batch: '{}:one' returned \(1, 2\) in field 'x' for a batch of 4 rows: expected one",
        ),
        ("nothing", DatasetError, r"map_batch: '{}:nothing' returned NoneType, expected a dict of arrays"),
        ("forgets", SpecMismatch, r"batch 0: field 'x' is missing; of the first batch it was float32 \(2,\)"),
    ],
)
def test_what_a_function_on_batches_must_not_do_is_told(mixing, function, error, told):
    with pytest.raises(error, match=told.format(mixing)):
        table().map_batch(f"{mixing}:{function}").batch(4).compute(0)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            lambda rows: rows.batch(2).plan,
            r"rows of field 'x' differ in length .*: say what a batch makes of them, with",
        ),
        (lambda rows: rows.pad("z").batch(2).plan, r"pad: there is no field 'z'; the sample has \['x', 'y'\]"),
        (lambda rows: rows.pad("y").batch(2).plan, r"pad: field 'y' is int64 \(\), which has no length"),
        (
            lambda rows: rows.pad("x").ragged("x").batch(2).plan,
            r"ragged: what becomes of the lengths of 'x' is said twice",
        ),
        (lambda rows: rows.pad("x", mask="y").batch(2).plan, r"pad: there is a field 'y' already"),
        (lambda rows: rows.pad("x", to=9, mask="y").batch(2).plan, r"pad: there is a field 'y' already"),
        (lambda rows: rows.pad("x", to=9, most=9), r"pad: all rows get 9 entries: leave out most=..."),
        (lambda rows: rows.pad("x", truncate=True), r"pad: truncate=True needs a length to cut rows off at"),
        (lambda rows: rows.pad("x", to=0), r"pad_to: length: input should be greater than or equal to 1, got 0"),
        (lambda rows: rows.pad("x").rescale(2, field="x"), r"rescale: it acts on samples, so say it before pad"),
        (lambda rows: rows.map_batch("copy:copy").pad("x"), r"pad: say it before map_batch"),
        (
            lambda rows: Dataset.from_arrays(x=[np.zeros(2), np.zeros((3, 1))]),
            r"row 1 of 'x' is float64 \(3, 1\), the first",
        ),
        (
            lambda rows: Dataset.from_arrays(x=Ragged(np.zeros(3), np.asarray([0, 2]))).ragged("x").batch(1).plan,
            r"row_splits are no",
        ),
        (
            lambda rows: Dataset.from_arrays(x=ROWS, y=np.arange(3)).pad("x").batch(1).plan,
            r"arrays of different lengths",
        ),
    ],
)
def test_what_cannot_be_is_told(made, told):
    with pytest.raises(DatasetError, match=told):
        made(Dataset.from_arrays(x=ROWS, y=np.arange(4)))


def test_a_source_that_does_not_know_its_longest_row_has_to_be_told(user_module):
    module = user_module("source = [{'x': [1.0] * k} for k in (3, 1, 9)]\n")

    with pytest.raises(DatasetError, match=r"this source does not say how long that is: add most=\.\.\., for example"):
        Dataset.from_python(f"{module}:source").pad("x").batch(3).compute(0)


def test_impure_functions_on_batches_are_told_of(user_module):
    module = user_module("import itertools\nc = itertools.count()\ndef f(b): return {'x': b['x'] + next(c)}\n")

    (doubt,) = table().map_batch(f"{module}:f").batch(4).plan.doubts()

    assert doubt.startswith(f"map_batch: '{module}:f' makes another")


def test_a_finish_is_part_of_the_key_and_of_its_plain_form():
    rows = Dataset.from_arrays(x=ROWS)
    padded, ragged = rows.pad("x").batch(2), rows.ragged("x").batch(2)

    again = Dataset.from_dict(padded.to_dict(), padded.tables)

    assert again.key == padded.key != ragged.key
    assert repr(rows.pad("x").batch(2)) == (
        "<Dataset arrays(fields={x: rows of float32 (10, 2)}) -> pad(field='x') -> batch(size=2)>"
    )
    assert padded.plan.parts["finish"].startswith("pad #")


def test_nan_that_a_function_on_batches_makes_is_told_of(user_module):
    module = user_module("import numpy as np\ndef f(batch): return {'x': batch['x'] * np.nan}\n")

    (doubt,) = table().map_batch(f"{module}:f").batch(4).plan.doubts()

    assert doubt.startswith(
        f"map_batch: '{module}:f' returns NaN in field 'x' of the first sample, 8 times in 8 numbers"
    )
