"""What `explain` tells is what runs: it is held against the plan, and against batches."""

import json

import numpy as np
import pytest

from loader_service.dataset.dataset import Dataset
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.shard import WHOLE, layout_of


def steps_of(dataset, chain=0):
    return dataset.explain().plain["chains"][chain]["steps"]


def told_of(dataset):
    return [(step["step"].partition("(")[0], step["many_rows"], step["into_row"], step["random"]) for step in dataset]


def test_each_step_is_told_with_the_fields_after_it(photos):
    dataset = Dataset.from_image_folder(photos).resize(8, 6).rescale(1 / 255).one_hot("label", 2).batch(3)

    resize, rescale, one_hot = steps_of(dataset)

    assert resize["changes"] == {"image": {"shape": [8, 6, 3], "dtype": "uint8", "nbytes": 144}}
    assert rescale["changes"]["image"]["dtype"] == "float32"
    assert one_hot["changes"] == {"label": {"shape": [2], "dtype": "float32", "nbytes": 8}}
    assert one_hot["row"] == dataset.explain().plain["row"]


def test_a_step_writes_into_the_row_from_where_the_fields_stay_as_they_are(photos):
    """What comes before a change of dtype works beside the row; a crop returns a view, and never writes."""
    bytes_ = Dataset.from_image_folder(photos).resize(16, 16).random_flip().batch(3)
    floats = Dataset.from_image_folder(photos).resize(16, 16).center_crop(8, 8).random_flip().rescale(2.0).batch(3)

    assert told_of(steps_of(bytes_)) == [("resize", False, True, False), ("random_flip", False, True, True)]
    assert [writes for _, _, writes, _ in told_of(steps_of(floats))] == [False, False, False, True]
    assert told_of(steps_of(Dataset.from_image_folder(photos).center_crop(8, 8).batch(3)))[0][2] is False


def test_fields_of_arrays_take_many_rows_at_once_until_a_function_wants_samples(user_module):
    module = user_module("def same(sample):\n    return sample\n")
    dataset = Dataset.from_arrays(x=np.zeros((9, 4, 4, 1), "uint8"), y=np.arange(9)).random_flip(field="x")

    (chain,) = dataset.batch(3).explain().plain["chains"]
    (mapped,) = dataset.map(f"{module}:same").batch(3).explain().plain["chains"]

    assert (chain["many_rows"], chain["read_into_row"]) == (["x", "y"], ["x", "y"])
    assert (mapped["many_rows"], mapped["read_into_row"]) == ([], [])
    assert [step["many_rows"] for step in mapped["steps"]] == [False, False]


def test_sizes_are_those_of_batches_and_of_slots():
    dataset = Dataset.from_arrays(x=np.zeros((10, 5), "float32"), y=np.arange(10)).batch(4, "pad")
    told = dataset.explain().plain

    batch = dataset.plan.compute(0)

    assert told["bytes"]["batch"] == sum(array.nbytes for array in batch.values())
    assert told["bytes"]["sample"] == 5 * 4 + 8 + 4  # and the weight
    assert told["bytes"]["slot"] == layout_of(dataset.plan.info, WHOLE).slot_nbytes
    assert told["memory"]["nbytes"] == told["memory"]["slots"] * told["bytes"]["slot"]


def test_order_selection_and_finish_are_told():
    rows = [np.arange(length) for length in range(1, 21)]
    dataset = Dataset.from_arrays(x=rows).take(15).bucket_by_length("x", [4, 8]).pad("x", "bucket").shuffle(3).batch(4)

    told = dataset.explain()

    assert told.plain["samples"] == {"source": 20, "epoch": 15}
    assert told.plain["order"] == {
        "shuffled": True,
        "seed": 3,
        "selection": ["take(n=15)"],
        "draws": False,
        "buckets": {"field": "x", "boundaries": [4, 8]},
    }
    assert [step["step"].partition("(")[0] for step in told.plain["finish"]] == ["pad"]
    for line in ("15 samples an epoch", "with seed 3", "of about one length of 'x': up to 4, 8, and longer"):
        assert line in str(told)


def test_each_part_of_several_sources_is_told_by_itself():
    x = np.zeros((10, 4, 4, 1), "uint8")
    first, second = Dataset.from_arrays(x=x[:4]).random_flip(field="x"), Dataset.from_arrays(x=x[4:])

    told = Dataset.concat(first, second).random_crop(2, 2, field="x").batch(5).explain()

    assert [chain["first"] for chain in told.plain["chains"]] == [0, 4]
    assert [len(chain["steps"]) for chain in told.plain["chains"]] == [2, 1]
    assert "part 1" in str(told)


def test_the_key_is_told_with_what_went_into_it():
    dataset = Dataset.from_arrays(x=np.arange(10)).shuffle(5).batch(5)

    told = dataset.explain()

    assert told.plain["key"] == dataset.key
    assert told.plain["parts"] == dataset.plan.parts
    assert dataset.key in str(told)
    assert json.loads(json.dumps(told.plain)) == told.plain


def test_code_that_is_not_pure_is_told_of(user_module):
    module = user_module(
        "import numpy as np\nrng = np.random.default_rng()\n"
        "def noisy(sample):\n    return {'x': rng.random(3)}\ndef quiet(sample):\n    return sample\n"
    )
    dataset = Dataset.from_arrays(x=np.zeros((4, 3)))

    noisy, quiet = (dataset.map(f"{module}:{name}").batch(2).explain() for name in ("noisy", "quiet"))

    assert quiet.plain["pure"] == {"live": False, "user_code": [f"{module}:quiet"], "doubts": []}
    assert "made the same sample again" in str(quiet)
    assert "makes another sample each time" in str(noisy)


def test_a_live_source_is_told_as_such(user_module):
    module = user_module("def numbers():\n    yield from ({'x': [k]} for k in range(3))\n")

    told = Dataset.from_generator(f"{module}:numbers", samples=6).batch(2).explain()

    assert told.plain["pure"]["live"]
    assert "it is live" in str(told)


def test_a_sequence_is_told_as_whole_batches(user_module):
    module = user_module(
        "import numpy as np\nclass Batches:\n    def __len__(self):\n        return 3\n"
        "    def __getitem__(self, i):\n        return np.zeros((4, 2)), np.arange(4)\n"
    )

    told = Dataset.from_keras(f"{module}:Batches").explain()

    assert told.plain["chains"] == []
    assert told.plain["batch"]["whole"]
    assert "3 whole batches" in str(told)


def test_what_cannot_be_opened_cannot_be_explained():
    with pytest.raises(DatasetError, match="no batch size"):
        Dataset.from_arrays(x=np.arange(3)).explain()
