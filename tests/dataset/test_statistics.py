"""Statistics are NumPy's over the whole data, however it is cut up and padded; what cannot be counted is named."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loader_service import Dataset, Stats
from loader_service.dataset.catalog import named_datasets
from loader_service.dataset.statistics.gather import Once
from loader_service.dataset.statistics.moments import (
    COUNT,
    INFINITE,
    LEAST,
    MEAN,
    MOST,
    NAN,
    SQUARES,
    merged,
    moments_of,
    no_moments,
)
from loader_service.dataset.statistics.stats import FieldStats, Histogram
from loader_service.protocol.errors import ConfigError, DatasetError, SampleError, SpecMismatch
from tests.dataset.conftest import gradient, write_picture

NUMBERS = st.one_of(
    st.floats(-1e3, 1e3, width=32), st.floats(1e9, 1e9 + 1), st.sampled_from([np.nan, np.inf, -np.inf, 0.0])
)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """Ledgers lie in a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def count(dataset, *fields, **options):
    """Count in this process."""
    return dataset.stats(fields or None, workers=0, **options)


def same(found, values, axis=None):
    """Whether statistics are NumPy's of these values, in float64."""
    values = np.asarray(values, np.float64)
    for name in ("mean", "std", "min", "max"):
        assert np.asarray(getattr(found, name)) == pytest.approx(getattr(values, name)(axis=axis), rel=1e-6, abs=1e-9)
    return True


# -- the rules ------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=NUMBERS), st.data())
def test_moments_of_any_pieces_are_those_of_the_whole(values, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=5)))
    pieces = np.split(values, cuts)

    found = merged(np.stack([moments_of(piece, values.shape[1]) for piece in pieces]))

    for channel, column in enumerate(values.T):
        finite = column[np.isfinite(column)]
        assert found[COUNT, channel] == len(finite)
        assert found[NAN, channel] == np.isnan(column).sum()
        assert found[INFINITE, channel] == np.isinf(column).sum()
        if len(finite):
            assert found[MEAN, channel] == pytest.approx(finite.mean(), rel=1e-9, abs=1e-9)
            squares = ((finite - finite.mean()) ** 2).sum()
            assert found[SQUARES, channel] == pytest.approx(squares, rel=1e-6, abs=1e-6)
            assert (found[LEAST, channel], found[MOST, channel]) == (finite.min(), finite.max())


def test_a_small_spread_around_a_large_mean_keeps_its_digits():
    """The square of the mean is 1e18 times that of the spread: a sum of squares would have lost it all."""
    values = 1e9 + np.random.default_rng(0).normal(size=100_000)

    found = merged(np.stack([moments_of(part, 1) for part in np.array_split(values, 777)]))

    assert np.sqrt(found[SQUARES, 0] / found[COUNT, 0]) == pytest.approx(values.std(), rel=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_bytes_are_counted_to_the_same_moments_as_any_numbers(channels):
    """Many bytes take a way of their own, as a view with gaps, too."""
    values = np.random.default_rng(channels).integers(3, 250, (200, 90, 2 * channels), dtype=np.uint8)[:, ::2, ::2]

    found = moments_of(values, channels)

    assert found == pytest.approx(moments_of(values.astype(np.float64), channels), rel=1e-12)


def test_no_numbers_change_nothing():
    row = moments_of(np.arange(6.0), 2)

    assert np.array_equal(merged(np.stack([no_moments(2), row, moments_of(np.zeros((0, 2)), 2)])), row)


@given(st.dictionaries(st.integers(0, 2000), st.integers(1, 9), min_size=1))
def test_a_histogram_counts_each_number_once(counted):
    histogram = Histogram.of(counted)

    assert sum(histogram.counts) == sum(counted.values())
    assert (histogram.edges[0], histogram.edges[-1]) == (min(counted), max(counted) + 1)
    for low, high, found in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        assert found == sum(times for number, times in counted.items() if low <= number < high)


@given(st.lists(st.lists(st.integers(-1, 3000), min_size=1, max_size=20), max_size=10))
def test_a_sample_is_counted_when_it_comes_first(batches):
    once, seen = Once(), set()
    for batch in batches:
        expected = []
        for sample in batch:
            expected.append(sample >= 0 and sample not in seen)
            seen.add(sample)

        assert once.first(np.asarray(batch)).tolist() == expected


# -- whole datasets -------------------------------------------------------------------------------------------


def test_pictures_of_all_sizes_have_a_mean_for_each_channel(photos):
    dataset = Dataset.from_image_folder(photos)
    pictures = [dataset.skip(n).take(1).batch(1).compute(0)["image"] for n in range(7)]

    found = count(dataset)

    assert same(found["image"], np.concatenate([picture.reshape(-1, 3) for picture in pictures]), axis=0)
    assert found["label"].classes == {0: 4, 1: 3}
    assert found["label"].class_names == ("cats", "dogs")
    assert found["image"].sizes["20x30x3"] == 1
    assert found["image"].axes["height"].edges == (20, 23, 26, 29, 32, 35, 38, 39)
    assert "channels" not in found["image"].axes


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "bool", "float16"])
def test_arrays_that_are_added_up_by_the_batch_have_numpys_statistics(dtype):
    x = np.random.default_rng(1).normal(20, 9, (5000, 3, 2)).clip(0, 255)
    x = x > 20 if dtype == "bool" else x.astype(dtype)

    found = count(Dataset.from_arrays(x=x, y=np.arange(5000.0)))

    assert same(found["x"], x.reshape(-1, 2), axis=0)
    assert same(found["y"], np.arange(5000.0))
    assert found.samples == 5000


def test_rows_of_one_axis_are_one_number_unless_they_are_channels():
    x = np.random.default_rng(2).normal(size=(50, 4))
    dataset = Dataset.from_arrays(x=x)

    assert same(count(dataset)["x"], x)
    assert same(count(dataset, channels="x")["x"], x, axis=0)
    assert same(count(dataset.map("tests.dataset.test_statistics:unchanged"), channels=["x"])["x"], x, axis=0)


def unchanged(sample):
    return sample


@pytest.mark.parametrize("step", ["ragged", "longest", "to", "to_with_lengths", "then_rescaled"])
def test_only_entries_that_are_there_count(step):
    """Padding would draw each mean towards the value that it is padded with."""
    rows = [np.arange(n, dtype=np.float64) + 5 for n in (3, 1, 0, 7)]
    steps = {
        "ragged": lambda ds: ds.ragged("x"),
        "longest": lambda ds: ds.pad("x", mask="mask"),
        "to": lambda ds: ds.pad("x", to=9),
        "to_with_lengths": lambda ds: ds.pad("x", to=9, lengths="n"),
        "then_rescaled": lambda ds: ds.pad("x", to=9, value=99).rescale(1.0, field="x"),
    }

    found = count(steps[step](Dataset.from_arrays(x=rows)).batch(3))

    assert same(found["x"], np.concatenate(rows))
    assert found["x"].axes["length"] == Histogram((0, 1, 3, 7, 8), (1, 1, 1, 1))
    assert list(found) == (["x", "n"] if step == "to_with_lengths" else ["x"])


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_every_sample_counts_once_whatever_becomes_of_the_last_batch(npy_folder, remainder):
    found = count(Dataset.from_npy_files(npy_folder).shuffle(seed=1).batch(4, remainder))

    assert found.samples == 10
    assert list(found) == ["x"]
    assert same(found["x"], np.stack([np.load(npy_folder / f"{n}.npy") for n in range(10)]).reshape(-1, 2), axis=0)


def test_random_transforms_are_those_of_epoch_0(photos):
    dataset = Dataset.from_image_folder(photos).random_resized_crop(8, 8).random_flip().shuffle(seed=3).batch(7)

    assert same(count(dataset)["image"], dataset.compute(0)["image"].reshape(-1, 3), axis=0)


def test_draws_count_as_often_as_they_are_drawn(photos):
    dataset = Dataset.from_image_folder(photos).resize(4, 4).balanced(samples=8).batch(4)

    assert count(dataset)["label"].classes == {0: 4, 1: 4}


def test_parts_that_were_put_together_are_counted_together(photos):
    one = Dataset.from_image_folder(photos)

    found = count(Dataset.concat(one, one).resize(4, 4))

    assert (found.samples, found["label"].classes) == (14, {0: 8, 1: 6})


def test_items_of_a_sequence_are_counted_row_by_row(user_module):
    name = user_module(
        "import numpy as np\n"
        "class Items:\n"
        "    def __len__(self):\n        return 3\n"
        "    def __getitem__(self, i):\n        return np.full((4 + i, 2, 1), i, np.float32), np.arange(4 + i) % 2\n"
    )

    found = count(Dataset.from_keras(f"{name}:Items"))

    assert found.samples == 15
    assert [told.classes for told in found.values()] == [None, {0: 8, 1: 7}]
    assert next(iter(found.values())).mean == (pytest.approx(17 / 15),)


def test_a_bad_sample_is_left_out_and_nobody_is_counted_in_its_place(photos, tmp_path):
    folder = tmp_path / "photos"
    for label, size in (("a", 3), ("b", 4)):
        for number in range(size):
            write_picture(folder / label / f"{number}.png", gradient(8, 8, number))
    (folder / "a" / "1.png").write_bytes(b"torn")
    dataset = Dataset.from_image_folder(folder)

    found = count(dataset.on_error("replace", most=0.5))

    assert (found.samples, found.left_out) == (6, 1)
    assert found["label"].classes == {0: 2, 1: 4}
    with pytest.raises(SampleError, match=r"1\.png"):
        count(dataset)


def test_a_batch_of_a_sequence_that_cannot_be_made_is_left_out(user_module):
    name = user_module(
        "import numpy as np\n"
        "class Items:\n"
        "    def __len__(self):\n        return 3\n"
        "    def __getitem__(self, i):\n        return np.full((4, 1), 1 / (i - 1)), np.zeros(4)\n"
    )

    found = count(Dataset.from_keras(f"{name}:Items").on_error("replace", most=0.5))

    assert (found.samples, found.left_out) == (8, 1)


@pytest.mark.parametrize("lengths", [[1, 5, 2, 9, 4, 7, 3]])
def test_batches_of_one_length_have_the_same_samples(lengths):
    rows = [np.arange(length, dtype=np.float32) for length in lengths]
    dataset = Dataset.from_arrays(x=rows).bucket_by_length("x", [4, 8]).pad("x", to="bucket").shuffle().batch(2, "drop")

    found = count(dataset)

    assert found.samples == 7
    assert same(found["x"], np.concatenate(rows))


def numbers():
    for number in range(100):
        yield {"x": np.full((2, 2), number)}


def test_live_samples_are_counted_as_they_come():
    found = count(Dataset.from_generator("tests.dataset.test_statistics:numbers", samples=10).batch(4))

    assert (found.samples, found["x"].max) == (10, (9, 9))


def test_numbers_that_are_none_are_counted_apart():
    x = np.asarray([1, np.nan, 3, np.inf, np.nan])

    found = count(Dataset.from_arrays(x=x))["x"]

    assert (found.mean, found.min, found.max) == (2, 1, 3)
    assert (found.entries, found.nan, found.infinite) == (2, 2, 1)


def test_progress_is_told_up_to_the_last_sample(npy_folder):
    told = []

    count(Dataset.from_npy_files(npy_folder).batch(4), progress=lambda done, of: told.append((done, of)))

    assert told == [(4, 10), (8, 10), (10, 10)]


# -- what cannot be counted -----------------------------------------------------------------------------------


def words():
    return [{"word": "moss", "n": 1, "z": 1j}, {"word": "ivy", "n": 2, "z": 2j}]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fields": ["lable"]}, "no field 'lable'; did you mean 'label'"),
        ({"channels": "q"}, "no field 'q'; there are 'empty', 'label', 'nan', 'z'"),
        ({"fields": "z"}, r"'z' is complex128 \(\), expected real numbers"),
        ({"fields": "nan"}, "'nan': none of its numbers is finite: 3 are NaN"),
        ({"fields": "empty"}, "'empty': it has no entries in any sample"),
        ({"fields": []}, "expected names of fields"),
        ({"fields": 3}, "expected names of fields"),
    ],
)
def test_a_field_that_cannot_be_counted_is_named(plain, options, told):
    dataset = Dataset.from_arrays(
        label=np.arange(3), z=np.zeros(3, complex), nan=np.full(3, np.nan), empty=np.zeros((3, 0))
    )
    if not plain:
        dataset = dataset.map("tests.dataset.test_statistics:unchanged")

    with pytest.raises(DatasetError, match=told):
        dataset.stats(workers=0, **options)


def test_what_has_no_numbers_is_skipped_where_nobody_asked_for_it():
    found = count(Dataset.from_python("tests.dataset.test_statistics:words"))

    assert list(found) == ["n"]
    assert found.skipped == {"word": "it is text", "z": "complex128 has no order, and no one mean"}
    with pytest.raises(DatasetError, match="nothing was found of field 'word': it is text"):
        found["word"]
    with pytest.raises(DatasetError, match="nothing can be found of any field"):
        count(Dataset.from_arrays(x=np.full(3, np.nan)))


def test_a_sample_with_other_channels_is_named(tmp_path):
    for number, channels in enumerate((3, 3, 4)):
        np.save(tmp_path / f"{number}.npy", np.zeros((2, 2, channels)))

    with pytest.raises(SpecMismatch, match=r"2\.npy.*has 4 channels, the first sample has 3"):
        count(Dataset.from_npy_files(tmp_path))


def test_a_field_of_many_different_numbers_has_no_classes():
    found = count(Dataset.from_arrays(y=np.arange(5000)))

    assert found["y"].classes is None
    with pytest.raises(DatasetError, match=r"field 'y' numbers no classes: it is int64, from 0\.0 to 4999\.0"):
        found.balanced("y")


# -- the file, and what is declared with it -------------------------------------------------------------------

ODD = Stats(
    samples=3,
    left_out=1,
    skipped={"a word": 'it is "text"\\\n'},
    fields={
        "x/left.eye": FieldStats("float32", (1.5, float("inf")), (0.5, 1e-9), (-1.0, 0.0), (2.0, 1e300), 6, nan=2),
        "label": FieldStats(
            "int64", 1.0, 0.5, 0.0, 2.0, 3, classes={0: 1, -2: 2}, class_names=('say "moß"', "\x7f"), sizes={"2x3": 3}
        ),
        "length": FieldStats("int8", 1.0, 0.5, 0.0, 2.0, 3, axes={"axis 1": Histogram((1, 2), (3,))}, other_sizes=4),
    },
)


def test_a_file_holds_all_that_was_found(tmp_path):
    ODD.save(tmp_path / "stats.toml")

    assert Stats.load(tmp_path / "stats.toml") == ODD


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file"),
        ("x = [", "is no TOML"),
        ("mean = 3.0", "has no version, expected 1"),
        ("version = 2", "is of version 2, expected 1"),
        ("version = 1\nsamples = 'many'\nfields = {}", "samples: input should be a valid integer"),
        ("version = 1\nsamples = 3", "fields: field required"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, told):
    if text is not None:
        (tmp_path / "stats.toml").write_text(text)

    with pytest.raises(DatasetError, match=rf"stats\.toml' ?{told}|stats\.toml': {told}"):
        Dataset.from_arrays(x=np.zeros(3)).normalize(stats=tmp_path / "stats.toml", field="x")


@pytest.fixture
def measured(photos, tmp_path):
    """Pictures of one size, and the file of their statistics."""
    dataset = Dataset.from_image_folder(photos).resize(8, 8)
    found = count(dataset)
    found.save(tmp_path / "stats.toml")
    return dataset, found, tmp_path / "stats.toml"


def test_pictures_that_are_normalized_with_their_statistics_have_mean_0_and_std_1(measured):
    dataset, found, path = measured

    normal = dataset.normalize(stats=path).batch(7)

    pixels = normal.compute(0)["image"].astype(float).reshape(-1, 3)
    assert pixels.mean(axis=0) == pytest.approx([0, 0, 0], abs=1e-6)
    assert pixels.std(axis=0) == pytest.approx([1, 1, 1])
    by_hand = dataset.normalize(found["image"].mean, found["image"].std).batch(7)
    assert normal.key == by_hand.key == dataset.normalize(stats=found).batch(7).key


def test_a_config_names_a_file_of_statistics_beside_itself(measured, photos):
    """The numbers are read when the dataset is declared: whoever edits the file afterwards has another dataset."""
    _, found, path = measured
    config = path.with_name("service.toml")
    config.write_text(
        f"[datasets.a]\nbatch = {{ size = 2 }}\n"
        f'source = {{ kind = "image_folder", path = {json.dumps(str(photos))} }}\n'
        'transforms = [{ kind = "resize", height = 8, width = 8 }, { kind = "normalize", stats = "stats.toml" }]'
    )

    declared = named_datasets(config)["a"]

    assert declared.transforms[1].mean == found["image"].mean
    config.write_text(config.read_text().replace('stats = "', 'std = 1, stats = "'))
    with pytest.raises(ConfigError, match=r"datasets\.a: normalize: std come from stats: give either"):
        named_datasets(config)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"field": "imag"}, r"stats\.toml': there is no field 'imag'; did you mean 'image'"),
        ({"mean": 3}, "mean and std come from stats: give either"),
    ],
)
def test_statistics_of_another_field_are_refused(measured, options, told):
    dataset, _, path = measured

    with pytest.raises(DatasetError, match=told):
        dataset.normalize(stats=path, **options)


def test_statistics_of_other_channels_are_refused(measured, photos):
    _, found, _ = measured
    gray = Dataset.from_image_folder(photos, color="grayscale").resize(8, 8)

    with pytest.raises(DatasetError, match="mean has 3 numbers, field 'image' is uint8"):
        gray.normalize(stats=found).batch(1).compute(0)


def test_what_is_the_same_everywhere_cannot_be_normalized():
    found = count(Dataset.from_arrays(x=np.ones((4, 2, 2)) * [1, 2]))

    with pytest.raises(DatasetError, match=r"std of channel 0 of field 'x' is 0\.0, expected more than 0"):
        Dataset.from_arrays(x=np.ones((4, 2, 2))).normalize(stats=found, field="x")


def test_normalize_without_numbers_is_refused():
    with pytest.raises(DatasetError, match="normalize: 'mean' is missing"):
        Dataset.from_arrays(x=np.ones(4)).normalize(field="x")


# -- classes without reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "counts"),
    [
        (lambda ds: ds, [4, 3]),
        (lambda ds: ds.one_hot("label", 2), [4, 3]),
        (lambda ds: ds.cast("label", "int32").take(5), [4, 1]),
        (lambda ds: ds.filter(label="dogs"), [0, 3]),
        (lambda ds: ds.rescale(2.0, field="label"), []),
        (lambda ds: ds.balanced(), []),
        (lambda ds: ds.map("tests.dataset.test_statistics:unchanged"), []),
        (lambda ds: ds.map_batch("tests.dataset.test_statistics:unchanged"), []),
    ],
)
def test_classes_are_counted_without_reading_where_labels_stay_what_they_are(photos, steps, counts):
    dataset = steps(Dataset.from_image_folder(photos).resize(4, 4)).batch(2)

    assert dataset.plan.info.class_counts == counts


@pytest.mark.parametrize(
    ("y", "counts"),
    [
        (np.asarray([2, 0, 2], np.uint8), [1, 0, 2]),
        (np.asarray([[2], [0], [2]]), [1, 0, 2]),
        (np.asarray([-1, 0, 2]), []),
        (np.asarray([2**40, 0, 2]), []),
        (np.asarray([0.0, 1.0, 1.0]), []),
    ],
)
def test_labels_in_arrays_are_counted_if_they_number_classes(y, counts):
    assert Dataset.from_arrays(x=np.zeros(3), y=y).batch(2).plan.info.class_counts == counts
