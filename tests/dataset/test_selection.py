"""Which samples there are, and how often each comes: what is promised of every selection, for any of them."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.order import GroupOrder, shuffled
from loader_service.dataset.plan import Plan
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.layout import IDS, IDS_SPEC
from tests.dataset.conftest import gradient, write_picture
from tests.dataset.reference import assert_same

SAMPLES = 40
X = np.arange(SAMPLES) + 100
LABELS = np.arange(SAMPLES) * 7 % 5


def arrays(samples=SAMPLES, labels=LABELS):
    return Dataset.from_arrays(x=X[:samples], label=labels[:samples])


def ids_of(dataset, epoch=0):
    """Return the ids of an epoch, in their order; the rows must be those of these samples."""
    batches = dataset.batches_per_epoch
    ids = np.concatenate([dataset.plan.compute(epoch * batches + n)[IDS] for n in range(batches)])
    return ids[ids >= 0].tolist()


counts = st.integers(1, 15)
fixed_steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), counts),
        st.tuples(st.just("skip"), st.integers(0, 10)),
        st.tuples(st.just("filter"), st.lists(st.integers(0, 4), min_size=1, max_size=4)),
    ),
    max_size=5,
)


def selected(dataset, steps):
    """Declare steps; return the dataset, and the ids that are left, worked out the plain way."""
    left = list(range(SAMPLES))
    for name, option in steps:
        if name == "filter":
            dataset, left = dataset.filter(label=option), [i for i in left if LABELS[i] in option]
        else:
            dataset = getattr(dataset, name)(option)
            left = left[:option] if name == "take" else left[option:]
    return dataset, left


@given(fixed_steps)
@settings(max_examples=50)
def test_steps_select_one_after_the_other(steps):
    dataset, left = selected(arrays(), steps)

    if left:
        dataset = dataset.batch(7, remainder="pad")
        assert ids_of(dataset) == left
        assert dataset.samples == len(left)
    else:
        with pytest.raises(DatasetError, match="none of the"):
            dataset.batch(1).plan  # noqa: B018 - it is opened


@given(fixed_steps, st.integers(0, 99), st.sampled_from(["keep", "drop", "pad"]))
@settings(max_examples=50)
def test_each_selected_sample_comes_once_in_every_epoch(steps, seed, remainder):
    dataset, left = selected(arrays(), steps)
    if len(left) < 4:
        return
    dataset = dataset.shuffle(seed).batch(4, remainder)

    for epoch in range(2):
        ids = ids_of(dataset, epoch)
        assert len(set(ids)) == len(ids) == (len(left) // 4 * 4 if remainder == "drop" else len(left))
        assert set(ids) <= set(left)


@given(st.integers(2, SAMPLES), st.floats(0.01, 0.99), st.integers(0, 2**63 - 1))
@settings(max_examples=50)
def test_both_parts_of_a_split_have_no_sample_in_common_and_are_together_all(samples, share, seed):
    train, validation = (ids_of(part.batch(1)) for part in arrays(samples).split(share, seed))

    assert sorted(train + validation) == list(range(samples))
    assert train
    assert validation
    assert abs(len(validation) - share * samples) <= 1


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.floats(0.01, 0.99), st.integers(0, 99))
@settings(max_examples=50)
def test_a_stratified_split_holds_for_each_class(labels, share, seed):
    labels = np.asarray(labels * 2)  # of each class at least two
    parts = Dataset.from_arrays(x=labels, label=labels).split(share, seed, "label")

    train, validation = (ids_of(part.batch(1)) for part in parts)

    assert sorted(train + validation) == list(range(len(labels)))
    for label, count in Counter(labels.tolist()).items():
        held = sum(labels[i] == label for i in validation)
        assert 1 <= held <= count - 1
        assert abs(held - share * count) <= 1


@pytest.mark.parametrize("stratify", [None, "label"])
def test_a_split_depends_on_its_seed_alone(stratify):
    def held(seed, order=0):
        return frozenset(ids_of(arrays().split(0.3, seed, stratify)[1].shuffle(order).batch(5)))

    assert held(3) == held(3, order=8)
    assert len({held(seed) for seed in range(20)}) == 20


def test_a_split_without_a_shuffle_validates_with_the_first_samples():
    labels = np.repeat([0, 1, 2], [13, 5, 2])
    dataset = Dataset.from_arrays(x=np.arange(20), label=labels)

    train, validation = dataset.split(0.2, shuffle=False)
    by_class = dataset.split(0.2, stratify="label", shuffle=False)

    assert ids_of(validation.batch(1)) == [0, 1, 2, 3]
    assert ids_of(train.batch(1)) == list(range(4, 20))
    assert ids_of(by_class[1].batch(1)) == [0, 1, 13, 18]  # 2.6 is 2, and there is at least one
    assert len(ids_of(by_class[0].batch(1))) == 16


def test_a_split_of_a_split_is_a_split():
    rest, test = arrays().split(0.25, seed=1)
    train, validation = rest.split(0.2, seed=1)

    parts = [ids_of(part.batch(1)) for part in (train, validation, test)]

    assert list(map(len, parts)) == [24, 6, 10]
    assert sorted(itertools.chain(*parts)) == list(range(SAMPLES))


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 2**64 - 1)), min_size=1, max_size=8))
def test_places_are_shuffled_within_their_groups(groups):
    sizes = np.repeat([size for size, _ in groups], [size for size, _ in groups])
    keys = np.repeat(np.asarray([key for _, key in groups], np.uint64), [size for size, _ in groups])
    places = np.concatenate([np.arange(size) for size, _ in groups])

    moved = shuffled(places, sizes, keys)

    ends = np.cumsum([size for size, _ in groups])
    for (size, key), own in zip(groups, np.split(moved, ends[:-1]), strict=True):
        assert sorted(own.tolist()) == list(range(size))
        assert own.tolist() == GroupOrder(size, key).ids(np.arange(size)).tolist()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_order_of_a_small_group_occurs_about_equally_often(size):
    orders = list(itertools.permutations(range(size)))
    runs = 40 * len(orders)
    keys = np.arange(runs, dtype=np.uint64).repeat(size)

    moved = shuffled(np.tile(np.arange(size), runs), np.full(runs * size, size), keys)

    found = Counter(map(tuple, moved.reshape(runs, size).tolist()))
    chi_square = sum((found[order] - 40) ** 2 / 40 for order in orders)
    freedom = len(orders) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


# -- draws ----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.integers(1, 50),
    st.integers(0, 99),
    st.booleans(),
)
@settings(max_examples=50)
def test_classes_come_equally_often_and_so_do_the_samples_of_each(labels, samples, seed, shuffle):
    labels = np.asarray(labels)
    dataset = Dataset.from_arrays(x=labels, label=labels).balanced("label", samples=samples)
    dataset = (dataset.shuffle(seed) if shuffle else dataset).batch(1)

    drawn = Counter()
    for epoch in range(3):
        ids = ids_of(dataset, epoch)
        assert len(ids) == samples
        drawn.update(ids)
        come = Counter({label: sum(drawn[i] for i in np.flatnonzero(labels == label)) for label in set(labels)})
        assert max(come.values()) - min(come.values()) <= 1
        for label in come:
            own = [drawn[i] for i in np.flatnonzero(labels == label)]
            assert max(own) - min(own) <= 1


@given(st.lists(st.tuples(counts, st.floats(0.1, 9)), min_size=2, max_size=4), st.integers(30, 90), st.integers(0, 99))
@settings(max_examples=50)
def test_a_mixture_keeps_its_proportions_and_reads_each_part_through(parts, samples, seed):
    sizes, weights = zip(*parts, strict=True)
    dataset = Dataset.mix([arrays(size) for size in sizes], weights, samples=samples).shuffle(seed).batch(9)
    if min(weights) / sum(weights) * samples < 1:
        return
    bounds = np.r_[0, np.cumsum(sizes)]

    drawn, shares = np.zeros(sum(sizes), int), []
    for epoch in range(3):
        come = np.bincount(ids_of(dataset, epoch), minlength=sum(sizes))
        shares.append([come[start:stop].sum() for start, stop in itertools.pairwise(bounds)])
        drawn += come

        for start, stop in itertools.pairwise(bounds):
            assert np.ptp(drawn[start:stop]) <= 1
    assert shares[0] == shares[1] == shares[2]
    assert sum(shares[0]) == samples
    assert np.abs(np.asarray(shares[0]) - np.asarray(weights) / sum(weights) * samples).max() < 1


def test_an_epoch_of_a_mixture_is_as_long_as_its_parts_together():
    dataset = Dataset.mix([arrays(30), arrays(10)], [1, 1]).batch(4)

    assert dataset.samples == 40
    assert Counter(i < 30 for i in ids_of(dataset)) == {True: 20, False: 20}


def test_parts_of_a_mixture_draw_in_epochs_of_their_own():
    """A part that is balanced, or weighted, stays so in the mixture."""
    rare = np.asarray([0] * 9 + [1])
    part = Dataset.from_arrays(x=rare, label=rare)
    weighted = part.weighted([0] * 9 + [1])
    dataset = Dataset.mix([part.balanced(), weighted], [1, 1], samples=40).batch(40)

    for epoch in range(3):
        batch = dataset.plan.compute(epoch)
        own = batch[IDS] < 10
        assert np.bincount(batch["label"][own]).tolist() == [10, 10]
        assert set(batch[IDS][~own]) == {19}


def test_draws_fall_on_samples_as_their_weights_say():
    """Expected chi-square: one less than there are weights above 0; five deviations are allowed."""
    weights = np.asarray([0, 1, 2, 3, 0, 10, 0.5, 0])
    dataset = Dataset.from_arrays(x=np.arange(8)).weighted(weights, samples=5000).batch(5000)

    come = sum(np.bincount(ids_of(dataset, epoch), minlength=8) for epoch in range(4))

    expected = weights / weights.sum() * 20_000
    some = weights > 0
    assert come[~some].sum() == 0
    assert ((come - expected)[some] ** 2 / expected[some]).sum() < 4 + 5 * np.sqrt(8)


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-300, 1e300)), min_size=1, max_size=20), st.integers(0, 99))
@settings(max_examples=50)
def test_a_sample_of_weight_zero_is_never_drawn(weights, seed):
    if not any(weights):
        return
    dataset = Dataset.from_arrays(x=np.arange(len(weights))).weighted(weights, samples=200).shuffle(seed).batch(200)

    assert all(weights[i] > 0 for i in ids_of(dataset))


def test_weights_are_those_of_the_source_whatever_was_selected():
    weights = np.zeros(SAMPLES)
    weights[[3, 17, 25]] = 1
    dataset = arrays().skip(10).weighted(weights, samples=50).batch(10)

    assert set(ids_of(dataset)) == {17, 25}


def test_weights_may_lie_in_a_file(tmp_path):
    weights = np.arange(SAMPLES)
    np.save(tmp_path / "weights.npy", weights)

    of_file, given = (arrays().weighted(w).batch(8) for w in (tmp_path / "weights.npy", weights))

    assert ids_of(of_file) == ids_of(given)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: arrays().balanced(),
        lambda: arrays().weighted(np.ones(SAMPLES)),
        lambda: Dataset.mix([arrays(), arrays()], [1, 2]),
        lambda: Dataset.concat(arrays(), arrays().balanced()),
    ],
    ids=["balanced", "weighted", "mix", "concat"],
)
def test_draws_are_others_in_each_epoch_and_for_each_seed_shuffled_or_not(draw):
    dataset = draw().batch(8)

    epochs = [ids_of(dataset.shuffle(seed), epoch) for seed in range(3) for epoch in range(3)]

    assert len(set(map(tuple, epochs))) == 9
    assert ids_of(dataset) == epochs[0]  # seed 0
    assert dataset.plan.info.shuffled  # so that each pass of Keras over it is another epoch


# -- datasets put together ------------------------------------------------------------------------------------


def test_samples_of_one_dataset_come_after_those_of_the_other_with_ids_of_their_own():
    one, other = arrays(10).take(3), arrays(20).rescale(2.0, field="x").cast("x", "int64").skip(18)
    both = Dataset.concat(one, other).batch(2)

    assert ids_of(both) == [0, 1, 2, 10 + 18, 10 + 19]
    batches = [both.compute(n) for n in range(3)]
    assert np.concatenate([batch["x"] for batch in batches]).tolist() == [100, 101, 102, 236, 238]
    assert len(batches[2]["x"]) == 1


def test_datasets_that_were_put_together_can_be_put_together_again_and_selected_from():
    inner = Dataset.concat(arrays(5), arrays(6).skip(2))  # ids 0 .. 4 and 7 .. 10 of 0 .. 10
    outer = Dataset.concat(arrays(3), inner.skip(4), arrays(2))

    assert ids_of(outer.batch(2)) == [0, 1, 2, 7, 10, 11, 12, 13, 14, 15]
    assert [outer.batch(1).compute(n)["x"][0] - 100 for n in range(10)] == [0, 1, 2, 4, 2, 3, 4, 5, 0, 1]
    assert ids_of(outer.filter(label=[0, 3]).batch(2)) == [0, 7, 12, 13, 14]


AUGMENT = """
import numpy as np

def noise(sample, rng):
    return {"x": sample["x"] + rng.normal(), "label": sample["label"]}

def label(sample):
    return {"label": sample["label"]}

def odd(sample):
    return bool(sample["label"] % 2)

class Samples:
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return {"x": np.asarray(float(i)), "label": np.asarray(i % 3)}
"""


@pytest.mark.parametrize("put", [Dataset.concat, lambda *parts: Dataset.mix(parts, [1, 2, 1])], ids=["concat", "mix"])
def test_what_is_done_with_all_is_done_with_each(put, user_module, npy_folder):
    module = user_module(AUGMENT)
    parts = [arrays().cast("x", "float32"), Dataset.from_python(f"{module}:Samples"), arrays(9).cast("x", "float64")]
    then = put(*parts).cast("x", "float64").map(f"{module}:noise").shuffle(5).batch(4)
    before = put(*[part.cast("x", "float64").map(f"{module}:noise") for part in parts]).shuffle(5).batch(4)

    for n in range(2 * then.batches_per_epoch):
        assert_same(then.plan.compute(n), before.plan.compute(n))


def test_names_of_classes_are_kept_where_all_agree(photos, tmp_path, user_module):
    for number, name in enumerate(["cats", "dogs", "owls"]):
        write_picture(tmp_path / "pets" / name / "a.png", gradient(8, 8, number))
    own, other = (Dataset.from_image_folder(folder).resize(8, 8) for folder in (photos, tmp_path / "pets"))
    unnamed = Dataset.from_arrays(image=np.zeros((2, 8, 8, 3), np.uint8), label=np.arange(2))

    assert Dataset.concat(own, own.skip(2)).batch(2).class_names == ["cats", "dogs"]
    assert own.filter(label="dogs").batch(2).class_names == ["cats", "dogs"]
    assert Dataset.concat(own, unnamed).batch(2).class_names == []
    with pytest.raises(
        DatasetError, match="concat: the classes of part 1 are cats, dogs, owls, those of part 0 cats, d"
    ):
        Dataset.concat(own, other).batch(2).plan  # noqa: B018 - it is opened
    renumbered = other.map(f"{user_module(AUGMENT)}:label")
    own = own.map(f"{user_module(AUGMENT)}:label")
    assert Dataset.concat(own, renumbered).batch(2).class_names == []


def test_a_row_is_that_of_the_sample_that_its_id_names(npy_folder):
    one, other = Dataset.from_npy_files(npy_folder), Dataset.from_npy_files(npy_folder).rescale(1.0, -1000.0, field="x")
    dataset = Dataset.concat(one, other).shuffle(3).batch(6)

    for n in range(dataset.batches_per_epoch):
        batch = dataset.plan.compute(n)
        expected = [(i if i < 10 else i - 10) * 10 - (1000 if i >= 10 else 0) for i in batch[IDS].tolist()]
        assert batch["x"][:, 0, 0].tolist() == expected


# -- filters --------------------------------------------------------------------------------------------------


def test_a_function_keeps_samples_as_they_are_at_the_source(user_module):
    module = user_module(AUGMENT)
    before = arrays().filter(f"{module}:odd").one_hot("label", 5).batch(4)
    after = arrays().one_hot("label", 5).filter(f"{module}:odd").batch(4)

    assert ids_of(before) == np.flatnonzero(LABELS % 2).tolist()
    assert before.key == after.key


def test_values_are_read_from_columns_or_from_samples(user_module):
    """A user's source is asked for one sample after the other."""
    module = user_module(AUGMENT)
    source = Dataset.from_python(f"{module}:Samples")

    assert ids_of(source.filter(label=1).batch(2)) == [1, 4, 7, 10]
    assert ids_of(source.filter(label=1).filter(x=[4, 7]).batch(2)) == [4, 7]
    assert ids_of(source.filter(label=1, x=[4, 7, 8]).batch(2)) == [4, 7]
    assert len(ids_of(source.split(0.25, stratify="label")[1].batch(3))) == 3
    assert Counter(i % 3 for i in ids_of(source.skip(1).take(9).balanced().batch(3))) == {0: 3, 1: 3, 2: 3}


def test_each_source_is_looked_at_by_its_own_fields(user_module, photos):
    module = user_module(AUGMENT)
    sources = Dataset.from_python(f"{module}:Samples"), Dataset.from_image_folder(photos)
    both = Dataset.concat(*(source.map(f"{module}:label") for source in sources))

    assert ids_of(both.filter(f"{module}:odd").batch(2)) == [1, 4, 7, 10, 16, 17, 18]
    assert ids_of(both.filter(label=1).batch(2)) == [1, 4, 7, 10, 16, 17, 18]


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), 3.0, [3], (3, 3), np.asarray([3]), {3}, range(3, 4)])
def test_however_a_value_is_written_it_is_the_same_dataset(value):
    assert ids_of(arrays().filter(label=value).batch(2)) == np.flatnonzero(LABELS == 3).tolist()
    if not isinstance(value, float):
        assert arrays().filter(label=value).batch(2).key == arrays().filter(label=[3]).batch(2).key
    assert arrays().filter(label=[1, 3]).batch(2).key == arrays().filter(label=[3, 1]).batch(2).key


COUNTING = """
from pathlib import Path

def keep(sample):
    with Path({file!r}).open("a") as file:
        file.write("x")
    return sample["x"] % 2 == 0
"""


def test_only_whoever_opens_first_looks_at_the_samples(user_module, tmp_path):
    module = user_module(COUNTING.format(file=str(tmp_path / "calls")))
    dataset = arrays().filter(f"{module}:keep").balanced().batch(4)
    first = dataset.plan
    calls = (tmp_path / "calls").read_text()

    second = Plan(dataset.declaration, dataset._table, first.index)

    assert len(calls) == SAMPLES
    assert (tmp_path / "calls").read_text() == calls
    assert second.key == first.key
    assert_same(second.compute(1), first.compute(1))


# -- what else holds of a dataset -----------------------------------------------------------------------------


def every_kind(module):
    rows = Dataset.from_python(f"{module}:Samples").cast("x", "int64")
    return {
        "take": arrays().skip(3).take(17),
        "filter": arrays().filter(f"{module}:odd").filter(label=[1, 3]),
        "split": arrays().split()[0],
        "stratified": arrays().split(0.3, stratify="label")[1],
        "balanced": arrays().balanced(),
        "weighted": arrays().weighted(np.arange(SAMPLES), samples=23),
        "concat": Dataset.concat(arrays(9), rows, Dataset.concat(arrays(11).skip(3), rows)).skip(2),
        "mix": Dataset.mix([arrays(9), rows.balanced(), Dataset.concat(rows, arrays(3))], [1, 2, 3]),
    }


KINDS = ["take", "filter", "split", "stratified", "balanced", "weighted", "concat", "mix"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("remainder", ["keep", "pad"])
@given(data=st.data())
@settings(max_examples=8)
def test_however_a_batch_is_cut_into_tasks_its_bytes_are_the_same(kind, remainder, selections, data):
    dataset = selections[kind].shuffle(1).batch(5, remainder)
    plan = dataset.plan
    n = data.draw(st.integers(0, 3 * plan.batches_per_epoch))
    rows = plan.info.rows(n)
    cuts = sorted({0, rows, *data.draw(st.lists(st.integers(0, rows), max_size=4))})

    specs = {**dataset.spec, IDS: IDS_SPEC}
    out = {name: np.full((rows, *spec.shape), 77, spec.dtype) for name, spec in specs.items()}
    for start, stop in data.draw(st.permutations(list(itertools.pairwise(cuts)))):
        plan.fill(n, start, stop, {name: buffer[start:stop] for name, buffer in out.items()})

    assert_same(out, plan.compute(n))


@pytest.fixture(scope="module")
def selections(tmp_path_factory):
    """A dataset of each kind."""
    folder = tmp_path_factory.mktemp("selection_code")
    (folder / "selection_code.py").write_text(AUGMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield every_kind("selection_code")


@pytest.mark.parametrize("kind", KINDS)
def test_plain_data_carries_a_selection(kind, selections):
    dataset = selections[kind].shuffle(1).batch(5)

    carried = Dataset.from_dict(json.loads(json.dumps(dataset.to_dict())), dataset.tables)

    assert carried.to_dict() == dataset.to_dict()
    assert carried.key == dataset.key
    assert carried != dataset
    assert_same(carried.compute(1), dataset.compute(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_has_the_rows_of_its_ids_in_any_epoch(kind, selections):
    dataset = selections[kind].batch(5)

    first = ids_of(dataset, 0)
    assert len(first) == dataset.samples
    assert ids_of(dataset, 1) == first or dataset.plan.info.shuffled
    for n in (0, dataset.batches_per_epoch, 10**6 * dataset.batches_per_epoch):
        assert len(dataset.compute(n)["x"]) == min(5, dataset.samples)


def test_keys_and_what_they_are_made_of_tell_selections_apart(selections):
    datasets = [*(dataset.batch(5) for dataset in selections.values()), arrays().batch(5), arrays().take(40).batch(5)]

    assert len({dataset.key for dataset in datasets}) == len(datasets)
    assert selections["take"].batch(5).plan.parts["selection"].startswith("skip, take #")
    assert arrays().batch(5).plan.parts["selection"].startswith("all samples #")


def test_a_filters_code_is_part_of_the_key(user_module):
    module = user_module("def keep(sample):\n    return True\n")
    before = arrays().filter(f"{module}:keep").batch(4).key
    user_module("def keep(sample):\n    return 1 == 1\n", module)

    assert arrays().filter(f"{module}:keep").batch(4).key != before


def test_a_dataset_shows_its_selection():
    part = arrays(4).filter(label=[0, 1]).balanced(samples=8)

    assert repr(Dataset.mix([part, arrays(3).skip(1)], [0.5, 1]).batch(2)) == (
        "<Dataset mix(parts=[arrays(fields={x: int64 (4,), label: int64 (4,)}) -> filter(values={label: (0, 1)}) -> "
        "balanced(samples=8), arrays(fields={x: int64 (3,), label: int64 (3,)}) -> skip(n=1)], weights=(0.5, 1.0)) -> "
        "batch(size=2)>"
    )
