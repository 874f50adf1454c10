"""What is wrong with a selection, or with the samples that it looks at, is said in a sentence, or mended by rule."""

import numpy as np
import pytest

from loader_service import Dataset
from loader_service.dataset.catalog import declare_all
from loader_service.dataset.plan import Plan
from loader_service.protocol.errors import ConfigError, DatasetError, SampleError
from loader_service.protocol.layout import IDS
from tests.dataset.conftest import gradient, write_picture
from tests.dataset.reference import assert_same

X = np.arange(20)
ARRAYS = Dataset.from_arrays(x=X, label=X % 4)


def opened(dataset):
    """Open a dataset in this process."""
    return dataset.batch(2).plan


def ids_of(dataset, epoch=0):
    batches = dataset.batches_per_epoch
    return np.concatenate([dataset.plan.compute(epoch * batches + n)[IDS] for n in range(batches)]).tolist()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: ARRAYS.take(0), "take: n: input should be greater than or equal to 1, got 0"),
        (lambda: ARRAYS.skip(-1), "skip: n: input should be greater than or equal to 0, got -1"),
        (lambda: ARRAYS.batch(4).take(2), r"take stands behind batch, but it is about samples: put it before .batch"),
        (lambda: ARRAYS.batch(4).filter(label=1), "filter stands behind batch"),
        (lambda: ARRAYS.shuffle(1).take(2), r"take stands behind shuffle.* put it before .shuffle"),
        (lambda: ARRAYS.shuffle(1).skip(2), "skip stands behind shuffle"),
        (lambda: ARRAYS.balanced().take(4), "take stands behind balanced, whose samples are others in each epoch"),
        (lambda: ARRAYS.weighted(X).filter(label=1), "filter stands behind weighted"),
        (lambda: ARRAYS.balanced().split(), "split stands behind balanced"),
        (lambda: Dataset.mix([ARRAYS, ARRAYS], [1, 1]).skip(4), "skip stands behind mix"),
        (lambda: Dataset.concat(ARRAYS, ARRAYS.balanced()).balanced(), "balanced stands behind concat"),
        (lambda: ARRAYS.filter(), "filter: expected a function, as in .*, or values of fields"),
        (lambda: ARRAYS.filter("keep:large", label=3), "'keep:large': there is no module 'keep'"),
        (lambda: ARRAYS.filter("numpy:isnan", label=3), "filter: expected a function, as in .*, or values of fields"),
        (lambda: ARRAYS.filter(lambda sample: True), r"lambda.*test_selection_bad_input.py, line \d+.* is a lambda"),
        (lambda: ARRAYS.filter(label=[]), "filter: values.label: tuple should have at least 1 item"),
        (
            lambda: ARRAYS.filter(label=float("nan")),
            "filter: values.label: expected numbers or names of classes, got nan",
        ),
        (lambda: ARRAYS.filter(label=None), "filter: values.label: expected numbers or names of classes, got None"),
        (lambda: ARRAYS.split(0.0), "split: validation: input should be greater than 0, got 0"),
        (lambda: ARRAYS.split(1.0), "split: validation: input should be less than 1, got 1"),
        (lambda: ARRAYS.split(seed=-1), "split: seed: input should be greater than or equal to 0"),
        (lambda: ARRAYS.balanced(samples=0), "balanced: samples: input should be greater than or equal to 1"),
        (lambda: ARRAYS.weighted(np.zeros(20)), r"weighted: the 20 weights sum to 0.0: there is nothing to draw"),
        (lambda: ARRAYS.weighted(X - 3), "weighted: the weight of sample 0 is -3, expected 0 or more"),
        (lambda: ARRAYS.weighted(np.where(X == 7, np.nan, 1)), "weighted: the weight of sample 7 is nan"),
        (lambda: ARRAYS.weighted(np.where(X == 7, np.inf, 1)), "weighted: the weight of sample 7 is inf"),
        (lambda: ARRAYS.weighted(np.full(20, 1e308)), "weighted: the 20 weights sum to inf"),
        (
            lambda: ARRAYS.weighted(np.ones((20, 1))),
            r"weighted: the weights are float64 \(20, 1\), expected one number",
        ),
        (lambda: ARRAYS.weighted(["a"] * 20), "weighted: weights is <U1 .*, expected numbers"),
        (lambda: Dataset.concat(ARRAYS), r"concat needs two datasets or more: Dataset.concat\(a, b\)"),
        (lambda: ARRAYS.concat(ARRAYS), "concat needs two datasets or more"),
        (lambda: Dataset.concat([ARRAYS, ARRAYS]), "concat needs two datasets or more"),
        (lambda: Dataset.concat(ARRAYS, ARRAYS.batch(4)), r"concat: dataset 1 has .batch\(...\), which is for all of"),
        (lambda: Dataset.mix([ARRAYS.shuffle(1), ARRAYS], [1, 1]), r"mix: dataset 0 has .shuffle\(...\)"),
        (lambda: Dataset.concat(ARRAYS, ARRAYS.on_error("replace")), r"concat: dataset 1 has .on_error\(...\)"),
        (lambda: Dataset.mix([ARRAYS, ARRAYS], [1]), "mix: 1 weights for 2 parts: expected one for each"),
        (lambda: Dataset.mix([ARRAYS, ARRAYS], [1, 0]), "mix: weights.1: input should be greater than 0, got 0"),
        (lambda: Dataset.mix([ARRAYS, ARRAYS], [1, float("nan")]), "mix: weights.1: input should be .*, got nan"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_declared(wrong, told):
    with pytest.raises(DatasetError, match=told):
        wrong()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (ARRAYS.skip(20), r"skip\(20\) leaves none of the 20 samples"),
        (ARRAYS.take(5).skip(5), r"skip\(5\) leaves none of the 5 samples"),
        (
            ARRAYS.take(10).filter(label=7),
            "filter keeps none of the 10 samples: label is to be 7, and is 0, 1, 2, 3$",
        ),
        (
            ARRAYS.filter(x=[-1, 99]),
            "filter keeps none of the 20 samples: x is to be -1 or 99, and is 0, 1, 2, 3, 4, ...",
        ),
        (ARRAYS.filter(lable=1), "filter: there is no field 'lable' at the source; did you mean 'label'"),
        (ARRAYS.filter(label="cat"), "filter: there is no class 'cat'; the source knows no names of classes"),
        (ARRAYS.balanced("y"), "balanced: there is no field 'y' at the source; there are 'label', 'x'"),
        (
            Dataset.from_arrays(x=X, label=np.eye(20)).balanced(),
            r"balanced: field 'label' is float64 \(20,\) at the source, expected one number a sample",
        ),
        (
            Dataset.from_arrays(x=X, label=np.where(X % 5 == 3, np.nan, X)).balanced(),
            r"balanced: field 'label' is NaN in 4 of 20 samples, the first of them sample 3 \(row 3\): give them",
        ),
        (
            Dataset.from_arrays(x=X, label=np.where(X % 5 == 3, np.nan, X)).split(stratify="label")[0],
            "split: field 'label' is NaN in 4 of 20 samples",
        ),
        (
            ARRAYS.filter(x=[0, 4, 1]).split(stratify="label")[0],
            "split: 'label' has only one sample of 1, which cannot be in both parts: leave it out with .filter",
        ),
        (
            ARRAYS.split(stratify="x")[1],
            "split: 'x' has only one sample of 0, 1, 2 and 17 more, which cannot be in both",
        ),
        (ARRAYS.take(1).split()[0], "split: one sample cannot be split into two parts"),
        (ARRAYS.weighted(np.ones(19)), "weighted: 19 weights for the 20 samples of the source: expected one for each"),
        (ARRAYS.take(3).weighted(np.ones(3)), "weighted: 3 weights for the 20 samples of the source: expected one for"),
        (ARRAYS.take(5).weighted(X > 9), "weighted: the weights of the selected samples sum to zero"),
        (
            Dataset.concat(ARRAYS, Dataset.from_arrays(x=X * 1.0, y=X)),
            "the samples of parts differ: part 1 has x: float64 .., y: int64 .., part 0 x: int64 .., label: int64 ..",
        ),
        (
            Dataset.concat(ARRAYS, Dataset.concat(ARRAYS, ARRAYS.one_hot("label", 4))),
            r"part 2 has label: float32 \(4,\), part 0 label: int64 \(\). Let the transforms of each part make them",
        ),
        (
            Dataset.mix([ARRAYS, ARRAYS], [1000, 1]),
            "mix: part 1 would get none of the 40 samples of an epoch: raise its weight, or `samples`",
        ),
    ],
)
def test_what_cannot_be_selected_is_refused_when_it_is_opened(wrong, told):
    with pytest.raises(DatasetError, match=told):
        opened(wrong)


def test_classes_are_named_where_the_source_knows_their_names(photos, tmp_path):
    pictures = Dataset.from_image_folder(photos).resize(8, 8)
    write_picture(tmp_path / "cats" / "a.png", gradient(8, 8))
    write_picture(tmp_path / "dogs" / "a.png", gradient(8, 8))

    with pytest.raises(DatasetError, match=r"filter: there is no class 'dog'; did you mean 'dogs'\?"):
        opened(pictures.filter(label="dog"))
    with pytest.raises(
        DatasetError, match=r"split: 'label' has only one sample of 0 \(cats\), 1 \(dogs\), which cannot"
    ):
        opened(Dataset.from_image_folder(tmp_path).split(stratify="label")[0])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return 1", "filter: '.*:keep' returned int, expected True or False"),
        ("return None", "filter: '.*:keep' returned NoneType, expected True or False"),
        ("return sample['y'] > 3", r"sample 0 \(row 0\): KeyError: 'y'"),
        ("return False", "filter keeps none of the 20 samples$"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused(user_module, body, told):
    module = user_module(f"def keep(sample):\n    {body}\n")

    with pytest.raises(DatasetError, match=told):
        opened(ARRAYS.filter(f"{module}:keep"))


def test_a_function_that_is_none_is_refused(user_module):
    with pytest.raises(DatasetError, match="is int, expected a function"):
        opened(ARRAYS.filter(f"{user_module('keep = 3')}:keep"))


# -- in a file ------------------------------------------------------------------------------------------------

FLOWERS = {"source": {"kind": "arrays", "fields": {"x": "x.npy", "label": "label.npy"}}}


@pytest.fixture
def folder(tmp_path):
    """The arrays in files, weights for them, and a module beside them."""
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "label.npy", X % 4)
    np.save(tmp_path / "weights.npy", X)
    (tmp_path / "keep_beside.py").write_text("def large(sample):\n    return bool(sample['x'] > 9)\n")
    return tmp_path


def declared(folder, **plain):
    plain = {"batch": {"size": 4}, **plain}
    return Dataset(declare_all({"flowers": plain}, folder / "service.toml")["flowers"])


def test_a_file_declares_what_methods_do(folder):
    arrays = Dataset.from_arrays(x=folder / "x.npy", label=folder / "label.npy")
    large = {"kind": "filter", "function": "keep_beside:large"}
    select = [large, {"kind": "skip", "n": 1}, {"kind": "weighted", "weights": "weights.npy"}]
    of_file = declared(folder, **FLOWERS, select=select)
    parts = [{**FLOWERS, "select": [large]}, {**FLOWERS, "select": [{"kind": "filter", "values": {"label": 3}}]}]
    both = declared(folder, source={"kind": "mix", "parts": parts, "weights": [1, 2]})

    weighted = arrays.filter(x=range(10, 20)).skip(1).weighted(folder / "weights.npy").batch(4)
    assert ids_of(of_file) == ids_of(weighted)
    mixed = Dataset.mix([arrays.skip(10), arrays.filter(label=3)], [1, 2]).batch(4)
    assert ids_of(both) == ids_of(mixed)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"select": [{"kind": "tak", "n": 3}]}, r"select.0: there is no kind 'tak'; did you mean 'take'\?"),
        ({"select": [{"n": 3}]}, "select.0: 'kind' is missing; there are 'balanced', 'filter', 'skip'"),
        ({"select": [{"kind": "take", "m": 3}]}, r"select.0.take: there is no key 'm'; there are 'kind', 'n'"),
        ({"select": [{"kind": "filter", "value": {}}]}, r"select.0.filter: .*'value'; did you mean 'values'\?"),
        ({"select": [{"kind": "balanced"}, {"kind": "take", "n": 3}]}, "take stands behind balanced"),
        (
            {"source": {"kind": "concat", "parts": [FLOWERS, {**FLOWERS, "selct": []}]}},
            r"source.concat.parts.1: there is no key 'selct'; did you mean 'select'\?",
        ),
        (
            {"source": {"kind": "concat", "parts": [FLOWERS, {"source": {"path": "b"}}]}},
            "source.concat.parts.1.source: 'kind' is missing; there are 'arrays', 'concat'",
        ),
        ({"source": {"kind": "concat", "parts": [FLOWERS]}}, "source.concat.parts: tuple should have at least 2 items"),
        ({"source": {"kind": "mix", "parts": [FLOWERS, FLOWERS]}}, "source.mix: 'weights' is missing"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(folder, wrong, told):
    with pytest.raises(ConfigError, match=told):
        declared(folder, **{**FLOWERS, **wrong})


# -- samples that cannot be made ------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    """Three cats and five dogs; of these, the first two and the last are damaged."""
    for number in range(8):
        write_picture(
            tmp_path / "pictures" / ("cats" if number < 3 else "dogs") / f"{number}.png", gradient(8, 8, number)
        )
    for number in (3, 4, 7):
        (tmp_path / "pictures" / "dogs" / f"{number}.png").write_bytes(b"")
    return Dataset.from_image_folder(tmp_path / "pictures")


@pytest.fixture(autouse=True)
def _ledgers(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_replacements_are_samples_that_are_selected(pictures):
    dogs = pictures.filter(label="dogs").on_error("replace", most=1).shuffle(3).batch(2)

    for epoch in range(3):
        ids = ids_of(dogs, epoch)
        assert len(ids) == 5
        assert set(ids) == {5, 6}
    assert sorted(dogs.plan.ledger.ids) == [3, 4, 7]


def test_a_sample_that_is_not_selected_harms_nobody(pictures):
    assert ids_of(pictures.filter(label="dogs").skip(2).take(2).batch(2)) == [5, 6]
    assert ids_of(Dataset.concat(pictures.take(3), pictures).skip(8).take(2).batch(2)) == [8 + 5, 8 + 6]


def test_a_sample_that_a_filter_cannot_read_is_kept_for_whoever_makes_it_to_name(pictures, user_module):
    module = user_module("def dogs(sample):\n    return sample['label'] == 1\n")
    dogs = pictures.filter(f"{module}:dogs")

    with pytest.raises(SampleError, match=r"sample 3 \(.*3.png\): the file is empty"):
        opened(dogs)
    assert set(ids_of(dogs.on_error("replace", most=1).batch(5))) == {5, 6}


@pytest.mark.parametrize("drawing", [False, True])
def test_bad_samples_are_named_and_replaced_by_the_ids_of_the_whole(pictures, drawing):
    parts = pictures.take(3), pictures.skip(3)
    both = Dataset.mix(parts, [1, 3], samples=40) if drawing else Dataset.concat(*parts)

    with pytest.raises(SampleError, match=r"sample 11 \(.*3.png\): the file is empty") as raised:
        opened(both)
    replacing = both.on_error("replace", most=1).shuffle(2).batch(4)
    batches = [replacing.plan.compute(n) for n in range(3 * replacing.batches_per_epoch)]

    assert raised.value.sample.id == 11
    assert sorted(replacing.plan.ledger.ids) == [11, 12, 15]
    assert set(np.concatenate([batch[IDS] for batch in batches]).tolist()) == {0, 1, 2, 13, 14}
    again = both.on_error("replace", most=1).shuffle(2).batch(4)
    for n, batch in enumerate(batches):
        assert_same(again.plan.compute(n), batch)


def test_no_sample_is_blamed_where_workers_died_over_the_first_of_some_part(pictures):
    both = Dataset.concat(pictures, pictures).on_error("replace").batch(4)

    with pytest.raises(DatasetError, match=r"^3 workers died\. Each part is opened with a sample of it") as raised:
        Plan(both.declaration, both._table, blame="3 workers died")
    assert raised.value.sample is None


def test_a_share_of_the_samples_may_be_replaced_not_of_the_draws(pictures):
    """Of the 8 samples, 3 are bad: a share of 0.25 allows 2, however many draws an epoch has."""
    dataset = pictures.balanced(samples=100).on_error("replace", most=0.25).batch(100)

    assert dataset.plan.info.most_replaced == 2
    with pytest.raises(SampleError, match="3 of 8 samples cannot be made, and no more than 2 may be replaced"):
        dataset.compute(0)


def test_samples_of_weight_zero_replace_nothing(pictures):
    dataset = pictures.weighted([0, 0, 0, 1, 1, 1, 0, 0], samples=50).on_error("replace", most=1).batch(50)

    assert set(ids_of(dataset)) == {5}
