"""Windows over a long series: all of them, none across a border, and those of Keras."""

import os
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.sources.parts import INLINE, MAPPED
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.spec import FieldSpec
from tests.dataset.test_sources import everything

SERIES = np.arange(100, dtype=np.float32)[:, None] + np.array([0, 1000], np.float32)
TARGET = np.arange(100) * 10


def opened(dataset):
    """Return the reader of a dataset's source."""
    source = dataset.declaration.source

    def table(ref):
        return dataset.tables[ref.table]

    return source.reader(source.make_index(table), table)


def columns(reader):
    """Return all samples, read as columns."""
    ids = np.arange(len(reader))
    read = {}
    for field, spec in reader.model(0).items():
        read[field] = np.empty((len(ids), *spec.shape), spec.dtype)
        reader.read_column(field, ids, read[field])
    return read


# -- as in Keras --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({"length": 10}, {"sequence_length": 10}),
        ({"length": 10, "stride": 3}, {"sequence_length": 10, "sequence_stride": 3}),
        ({"length": 10, "sampling_rate": 2}, {"sequence_length": 10, "sampling_rate": 2}),
        (
            {"length": 7, "stride": 5, "sampling_rate": 4},
            {"sequence_length": 7, "sequence_stride": 5, "sampling_rate": 4},
        ),
        ({"length": 8, "start": 20}, {"sequence_length": 8, "start_index": 20}),
        ({"length": 8, "stop": 90}, {"sequence_length": 8, "end_index": 90}),
        (
            {"length": 8, "sampling_rate": 3, "stride": 2, "start": 11, "stop": 77},
            {"sequence_length": 8, "sampling_rate": 3, "sequence_stride": 2, "start_index": 11, "end_index": 77},
        ),
        ({"length": 1}, {"sequence_length": 1}),
        ({"length": 85}, {"sequence_length": 85}),
    ],
)
@pytest.mark.parametrize("target", [TARGET, None], ids=["targets", "no targets"])
def test_windows_are_those_of_keras(ours, theirs, target):
    import keras

    dataset = Dataset.from_series(SERIES, target, **ours).batch(16)
    expected = list(keras.utils.timeseries_dataset_from_array(SERIES, target, batch_size=16, **theirs))

    assert dataset.batches_per_epoch == len(expected)
    for n, batch in enumerate(expected):
        x, *y = batch if target is not None else (batch,)
        made = dataset.compute(n)
        assert np.array_equal(made["x"], x)
        assert not y or np.array_equal(made["y"], y[0])


def test_an_offset_is_what_shifted_arrays_are_in_keras():
    import keras

    shifted = keras.utils.timeseries_dataset_from_array(SERIES[:-1], TARGET[12:], sequence_length=12, batch_size=200)
    (theirs,) = list(shifted)

    ours = everything(Dataset.from_series(SERIES, TARGET, length=12, offset=12))

    assert np.array_equal(ours["x"], theirs[0])
    assert np.array_equal(ours["y"], theirs[1])


# -- which windows ------------------------------------------------------------------------------------------


def plain_windows(recordings, length, stride, rate, offset, target_length):
    """Return (x, y) of each window: every start is tried, and what hangs over is left out."""
    found = []
    for recording in recordings:
        for start in range(0, len(recording), stride):
            x = [start + rate * number for number in range(length)]
            y = [start + offset + rate * number for number in range(target_length or 1)]
            if max(*x, *y) < len(recording):
                y = recording[y]
                found.append((recording[x], y if target_length else y[0]))
    return found


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 9),
    st.none() | st.integers(1, 3),
)
@settings(max_examples=300, deadline=None)
def test_every_window_that_fits_is_there_and_no_other(counts, length, stride, rate, offset, target_length):
    steps = np.arange(sum(counts)) * 3
    recordings = np.split(steps, np.cumsum(counts)[:-1])
    expected = plain_windows(recordings, length, stride, rate, offset, target_length)
    options = {"length": length, "stride": stride, "sampling_rate": rate, "offset": offset}
    options["target_length"] = target_length
    for series, lengths in ((recordings, None), (steps, counts)):
        dataset = Dataset.from_series(series, series, lengths=lengths, **options)
        if not expected:
            with pytest.raises(DatasetError, match="no window fits"):
                opened(dataset)
            continue
        reader = opened(dataset)
        read = columns(reader)

        assert len(reader) == len(expected)
        for number, (x, y) in enumerate(expected):
            sample = reader.read(number, frozenset({"x", "y"}))
            assert read["x"][number].tolist() == sample["x"].tolist() == x.tolist()
            assert read["y"][number].tolist() == sample["y"].tolist() == y.tolist()


def test_a_target_may_be_a_window_itself():
    """From the last 8 steps to the next 4."""
    dataset = Dataset.from_series(SERIES, TARGET, length=8, offset=8, target_length=4).batch(89)

    assert dataset.spec == {"x": FieldSpec((8, 2), "float32"), "y": FieldSpec((4,), "int64")}
    assert dataset.samples == 100 - 12 + 1
    assert dataset.compute(0)["y"][-1].tolist() == [960, 970, 980, 990]


# -- where the series is ------------------------------------------------------------------------------------


@pytest.fixture
def recordings(tmp_path):
    """Three files of 30, 5 and 40 steps."""
    for number, steps in enumerate((30, 5, 40)):
        np.save(tmp_path / f"{number}.npy", SERIES[:steps] + 10_000 * number)
    return [tmp_path / f"{number}.npy" for number in range(3)]


def test_recordings_may_be_files_arrays_or_one_array_that_is_cut(recordings, tmp_path):
    arrays = [np.load(path) for path in recordings]
    np.save(tmp_path / "all.npy", np.concatenate(arrays))
    np.save(tmp_path / "lengths.npy", [30, 5, 40])

    made = [
        everything(dataset)["x"]
        for dataset in (
            Dataset.from_series(recordings, length=6),
            Dataset.from_series(arrays, length=6),
            Dataset.from_series(np.concatenate(arrays), length=6, lengths=[30, 5, 40]),
            Dataset.from_series(tmp_path / "all.npy", length=6, lengths=tmp_path / "lengths.npy"),
        )
    ]

    assert made[0].shape == (25 + 0 + 35, 6, 2)
    assert all(np.array_equal(made[0], other) for other in made[1:])


@pytest.mark.parametrize("dtype, order", [(">f4", "C"), ("<f8", "F"), ("bool", "C"), (">i2", "F")])
def test_a_series_is_read_as_numpy_reads_it(tmp_path, dtype, order):
    array = np.asarray(np.arange(60).reshape(20, 3) % 7, dtype, order=order)
    np.save(tmp_path / "x.npy", array)

    x = everything(Dataset.from_series(tmp_path / "x.npy", length=4, sampling_rate=2))["x"]

    assert x.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(x[5], array[5:13:2])


def test_a_series_may_be_larger_than_memory(tmp_path):
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (2**34, 2))  # 128 GiB, of holes

    dataset = Dataset.from_series(tmp_path / "x.npy", tmp_path / "x.npy", length=24, offset=24).shuffle(1).batch(32)

    assert dataset.samples == 2**34 - 24
    assert dataset.compute(10**6)["x"].shape == (32, 24, 2)


def test_a_thousand_recordings_need_no_thousand_descriptors(tmp_path):
    for number in range(MAPPED + 100):
        np.save(tmp_path / f"{number}.npy", np.full(4, number))
    paths = [tmp_path / f"{number}.npy" for number in range(MAPPED + 100)]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + MAPPED + 40, hard))
    try:
        x = everything(Dataset.from_series(paths, length=4))["x"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert x[:, 0].tolist() == list(range(MAPPED + 100))


def test_a_list_of_files_is_plain_data_and_a_long_one_a_table(tmp_path):
    short, long = [f"/recordings/{number}.npy" for number in range(3)], ["/recordings/1.npy"] * INLINE

    assert Dataset.from_series(short, length=4).to_dict()["source"]["x"] == short
    assert Dataset.from_series(long, length=4).to_dict()["source"]["x"].keys() == {"bytes", "offsets"}
    assert repr(Dataset.from_series(long, length=4)) == f"<Dataset series(x={INLINE:,} names, length=4)>"


# -- what a dataset must be ---------------------------------------------------------------------------------


def test_a_changed_file_and_every_option_make_another_dataset(tmp_path):
    np.save(tmp_path / "x.npy", SERIES)

    def key(x=tmp_path / "x.npy", y=TARGET, **options):
        return Dataset.from_series(x, y, **{"length": 5, **options}).batch(4).key

    keys = [key(), key(length=6), key(stride=2), key(sampling_rate=2), key(offset=1), key(target_length=1)]
    keys += [key(start=1), key(stop=90), key(y=None), key(lengths=[50, 50]), key(x=SERIES)]
    os.utime(tmp_path / "x.npy", ns=(0, 1))
    keys.append(key())

    assert len(set(keys)) == len(keys)


def test_repr_tells_how_many_recordings_there_are(recordings):
    assert repr(Dataset.from_series(recordings, length=6)) == "<Dataset series(x=3 names, length=6)>"
    assert repr(Dataset.from_series([SERIES, SERIES], length=6)) == "<Dataset series(x=2 arrays of float32, length=6)>"


@pytest.mark.parametrize(
    "form, sample, told",
    [
        ("files", 26, "2.npy, recording 2, steps 1 .. 6"),
        ("arrays", 26, "recording 2, steps 1 .. 6"),
        ("cut", 26, "recording 2, steps 1 .. 6"),
        ("one", 26, "steps 26 .. 31"),
        ("from 7", 26, "steps 33 .. 38"),
        ("every other", 26, "steps 26 .. 36"),
    ],
)
def test_a_window_is_called_by_its_file_its_recording_and_its_steps(recordings, form, sample, told):
    arrays = [np.load(path) for path in recordings]
    dataset = {
        "files": lambda: Dataset.from_series(recordings, length=6),
        "arrays": lambda: Dataset.from_series(arrays, length=6),
        "cut": lambda: Dataset.from_series(np.concatenate(arrays), length=6, lengths=[30, 5, 40]),
        "one": lambda: Dataset.from_series(SERIES, length=6),
        "from 7": lambda: Dataset.from_series(SERIES, length=6, start=7),
        "every other": lambda: Dataset.from_series(SERIES, length=6, sampling_rate=2),
    }[form]()

    assert opened(dataset).describe(sample).endswith(told)
    assert opened(dataset).describe(sample).startswith("/" if form == "files" else told)


def test_a_window_that_cannot_be_made_is_named_or_replaced(recordings, user_module, address):
    """`address` gives the ledger of what was replaced a folder of its own."""
    module = user_module(
        "def refuse(sample):\n    if 20_003 in sample['x']:\n        raise ValueError('artefact')\n    return sample\n"
    )
    dataset = Dataset.from_series(recordings, length=6, stride=6).map(f"{module}:refuse").batch(11)

    with pytest.raises(SampleError, match=r"sample 5 \(.*/2.npy, recording 2, steps 0 .. 5\): ValueError: artefact"):
        dataset.compute(0)
    replaced = dataset.on_error("replace", most=0.2).compute(0)["x"]

    assert 20_003 not in replaced
    assert replaced.shape == (11, 6, 2)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"length": 101}, "^no window fits: it reaches over 101 steps, and the longest recording has 100$"),
        ({"length": 10, "sampling_rate": 12}, "reaches over 109 steps, and the longest recording has 100"),
        ({"length": 10, "y": TARGET, "offset": 100}, "reaches over 101 steps"),
        ({"length": 10, "y": TARGET[:90]}, "^x has 100 steps, and y 90: expected as many. Give both whole"),
        ({"length": 10, "y": [TARGET, TARGET]}, "^x has 1 recordings, and y 2: expected as many, in the same order"),
        (
            {"length": 5, "x": [SERIES, SERIES], "y": [TARGET, TARGET[1:]]},
            "^recording 1: x has 100 steps, and y 99: expected as many",
        ),
        ({"length": 10, "start": 100}, "^steps 100 to 100 are not all in the series: it has 100$"),
        ({"length": 10, "stop": 101}, "^steps 0 to 101 are not all in the series: it has 100$"),
        ({"length": 10, "x": [SERIES, SERIES], "start": 2}, "^start and stop cut one series: cut the recordings"),
        ({"length": 10, "lengths": [60, 39]}, "^lengths add up to 99, and the series has 100 steps$"),
        ({"length": 10, "lengths": [110, -10]}, r"^lengths is int64 \(2,\), expected the number of steps of each"),
        ({"length": 10, "lengths": [[100]]}, r"^lengths is int64 \(1, 1\), expected"),
        ({"length": 10, "lengths": [100.0]}, r"^lengths is float64 \(1,\), expected"),
        ({"length": 10, "lengths": [50, 50], "stop": 7}, "^lengths cut one array into recordings: give one, without"),
        ({"length": 10, "x": [SERIES, SERIES], "lengths": [50, 50]}, "^lengths cut one array into recordings"),
        ({"length": 10, "x": "/no/such.npy"}, "^field 'x': array file '/no/such.npy' does not exist"),
        ({"length": 10, "x": ["/no/1.npy", "/no/2.npy"]}, "^field 'x': array file '/no/1.npy' does not exist"),
        ({"length": 1, "x": np.zeros((0, 2))}, "^no window fits: it reaches over 1 steps, and the longest .* has 0"),
    ],
)
def test_what_gives_no_windows_is_refused_when_the_dataset_is_opened(options, told):
    with pytest.raises(DatasetError, match=told):
        opened(Dataset.from_series(**{"x": SERIES, **options}))


@pytest.mark.parametrize(
    "options, told",
    [
        ({"length": 0}, "^series: length: input should be greater than or equal to 1, got 0"),
        ({"length": 4, "stride": 0}, "^series: stride: input should be greater than or equal to 1, got 0"),
        ({"length": 4, "sampling_rate": -1}, "^series: sampling_rate: input should be greater"),
        ({"length": 4, "start": 9, "stop": 9}, "^series: stop 9 must be above start 9"),
        (
            {"length": 4, "offset": 4},
            "^series: offset and target_length say where a target lies: give y, which may be x",
        ),
        ({"length": 4, "x": "text", "y": 7}, r"^from_series: y is int64 \(\), expected an array of numbers"),
        ({"length": 4, "x": []}, r"^from_series: x .*expected|no window fits"),
        ({"length": 4, "x": [SERIES, "a.npy"]}, "^from_series: x is a list of several kinds of things: expected paths"),
        (
            {"length": 4, "x": [SERIES, TARGET]},
            r"^from_series: x\[1\] is int64 \(100,\), and from_series: x\[0\] float32 \(100, 2\): expected one dtype",
        ),
    ],
)
def test_a_wrong_argument_is_refused_by_name_when_it_is_declared(options, told):
    with pytest.raises(DatasetError, match=told):
        opened(Dataset.from_series(**{"x": SERIES, **options}))


def test_recordings_with_other_rows_are_refused(tmp_path):
    np.save(tmp_path / "0.npy", SERIES)
    np.save(tmp_path / "1.npy", SERIES[:, :1])
    np.save(tmp_path / "2.npy", SERIES.astype(np.float64))

    with pytest.raises(DatasetError, match=r"recording 1 of field 'x' has steps of the shape \(1,\), .* 0 \(2,\)"):
        opened(Dataset.from_series([tmp_path / "0.npy", tmp_path / "1.npy"], length=4))
    with pytest.raises(DatasetError, match=r"2.npy' is float64 \(100, 2\), and '.*0.npy' float32 \(100, 2\)"):
        opened(Dataset.from_series([tmp_path / "0.npy", tmp_path / "2.npy"], length=4))
