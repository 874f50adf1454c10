"""What the state of a stream is, and what a state that does not fit is told."""

import json

import numpy as np
import pytest

import loader_client
from loader_client import DatasetError
from loader_service import Dataset


@pytest.fixture
def loader():
    with loader_client.connect(workers=0) as loader:
        yield loader


@pytest.fixture
def dataset():
    x = np.zeros((40, 8, 8, 3), np.uint8)
    return Dataset.from_arrays(image=x, label=np.arange(40) % 3).random_flip().rescale(1 / 255).shuffle(seed=7).batch(4)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module, which workers find."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source)

    return write


def refusal(stream, state):
    with pytest.raises(DatasetError) as refused:
        stream.load_state_dict(state)
    return str(refused.value)


def test_a_state_is_small_plain_json_at_any_batch(loader, dataset):
    stream = loader.stream(dataset)
    for n in (0, 10**6, 10**18):
        stream.load_state_dict({**stream.state_dict(), "n": n})
        state = stream.state_dict()

        assert json.loads(json.dumps(state)) == state
        assert state["n"] == n
        assert len(json.dumps(state)) < 500


def test_a_state_is_small_where_a_dataset_names_much(loader, dataset, module):
    for number in range(20):
        module(f"a_module_with_quite_a_long_name_{number}", "def same(sample):\n    return sample\n")
        dataset = dataset.map(f"a_module_with_quite_a_long_name_{number}:same").rescale(0.5)

    state = loader.stream(dataset.shuffle(seed=2**63 - 1)).state_dict()

    assert len(json.dumps({**state, "n": 2**62})) < 500


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ds: ds.shuffle(seed=8), "the order has changed: seed 7, now seed 8. Give"),
        (
            lambda ds: ds.batch(8),
            "the batches have changed: 4 rows, keep, now 8 rows, keep, so that numbers count other",
        ),
        (lambda ds: ds.batch(4, "pad"), "the batches have changed: 4 rows, keep, now 4 rows, pad"),
        (
            lambda ds: ds.resize(4, 4),
            "the transforms have changed: random_flip, rescale, now random_flip, rescale, resize",
        ),
        (
            lambda ds: Dataset.from_dict({**ds.to_dict(), "transforms": [{"kind": "random_flip"}]}, ds.tables),
            "the transforms have changed: random_flip, rescale, now random_flip",
        ),
    ],
)
def test_a_state_of_another_declaration_is_refused_with_what_has_changed(loader, dataset, change, told):
    state = loader.stream(dataset).state_dict()

    assert told in refusal(loader.stream(change(dataset)), json.loads(json.dumps(state)))


def test_all_that_has_changed_is_told(loader, dataset):
    state = loader.stream(dataset).state_dict()

    told = refusal(loader.stream(dataset.batch(8).shuffle(seed=1)), state)

    assert "the order has changed: seed 7, now seed 1; the batches have changed" in told


def test_other_arguments_of_the_same_transforms_are_told(loader):
    fields = Dataset.from_arrays(x=np.zeros((4, 2), np.float32)).batch(2)
    state = loader.stream(fields.rescale(2.0, field="x")).state_dict()

    told = refusal(loader.stream(fields.rescale(3.0, field="x")), state)

    assert "the transforms have changed: rescale, with other arguments" in told


def test_changed_files_are_told(loader, tmp_path):
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", np.zeros(3))
    dataset = Dataset.from_npy_files(tmp_path).batch(2)
    state = loader.stream(dataset).state_dict()
    np.save(tmp_path / "4.npy", np.zeros(3))

    told = refusal(loader.stream(Dataset.from_npy_files(tmp_path).batch(2)), state)

    assert "the files that the source reads have changed" in told
    assert "source has" not in told


def test_changed_code_is_told_by_the_name_of_its_module(loader, module):
    fields = Dataset.from_arrays(x=np.zeros((4, 2), np.float32)).batch(2)
    module("told_first", "def same(sample):\n    return sample\n")
    module("told_second", "def same(sample):\n    return sample\n")
    state = loader.stream(fields.map("told_first:same").map("told_second:same")).state_dict()
    module("told_second", "def same(sample):\n    return dict(sample)\n")

    told = refusal(loader.stream(fields.map("told_first:same").map("told_second:same")), state)

    assert "another dataset: the code of module told_second has changed. Give" in told


def test_a_state_of_another_dataset_is_taken_if_told_so(loader, dataset):
    state = {**loader.stream(dataset).state_dict(), "n": 3}
    stream = loader.stream(dataset.shuffle(seed=8))

    stream.load_state_dict(state, strict=False)

    assert stream.cursor == 3


def test_a_state_without_parts_goes_on_if_its_key_is_that_of_the_dataset(loader, dataset):
    """As they were before there were parts."""
    stream = loader.stream(dataset)
    stream.load_state_dict({"version": 1, "key": stream.key, "n": 3})
    assert stream.cursor == 3

    told = refusal(stream, {"version": 1, "key": "0" * 32, "n": 3})

    assert "its files, its transforms or the code that it names have changed" in told


def test_keys_that_a_later_version_may_add_are_not_looked_at(loader, dataset):
    stream = loader.stream(dataset)

    stream.load_state_dict({**stream.state_dict(), "n": 3, "ledger": "0" * 8})

    assert stream.cursor == 3


WRONG = [
    (None, "a state is a dict"),
    ([], "a state is a dict"),
    ('{"version": 1, "ke', "a state is a dict"),
    ({}, "'version', 'key', 'n' is missing"),
    ({"version": 1, "key": "abc"}, "'n' is missing"),
    ({"n": 2}, "'version', 'key' is missing"),
    ({"version": 2, "key": "abc", "n": 0}, "has version 2, and version 1 is what"),
    *(
        ({"version": 1, "key": "abc", "n": n}, "is next: expected a whole number from 0 to")
        for n in (-1, 2**63, True, 1.0, "1", None, float("nan"))
    ),
]


@pytest.mark.parametrize(("state", "told"), WRONG)
def test_what_is_no_state_is_refused_in_a_sentence_and_changes_nothing(loader, dataset, state, told):
    stream = loader.stream(dataset)
    if isinstance(state, dict) and "key" in state:
        state = {**state, "key": stream.key}
    stream.take(4)

    assert told in refusal(stream, state)
    assert stream.cursor == 5


def test_all_shards_have_one_state(loader, dataset):
    states = []
    for rank in range(2):
        stream = loader.stream(dataset, shard=(rank, 2))
        stream.take(6)
        states.append(stream.state_dict())

    assert states[0] == states[1]
