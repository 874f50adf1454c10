"""A sample that cannot be made is named, or replaced: in line, which is the definition for everybody else."""

import json
import os
import stat

import numpy as np
import pytest

from loader_service import Dataset
from loader_service.dataset.ledger_file import ledger_path
from loader_service.dataset.plan import FIRST_TRIES, Plan
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.ledger import sample_of

SOURCE = """
import numpy as np

BAD, SAMPLES, FLAKY, read = {bad!r}, {samples!r}, {flaky!r}, []

class Source:
    def __len__(self):
        return SAMPLES

    def __getitem__(self, i):
        read.append(i)
        if i in BAD or (i in FLAKY and read.count(i) == 1):
            raise ValueError(f"{{i}} is rotten\\nto the core")
        return {{"x": np.full(3, i, "int64")}}

class Rows(Source):
    def read_rows(self, ids, out):
        assert len(set(ids.tolist())) == len(ids), "a sample twice"
        for row, i in enumerate(ids.tolist()):
            out["x"][row] = self[i]["x"]

def draw(sample, rng):
    return {{**sample, "drawn": rng.random(2)}}
"""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A state folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def source(user_module):
    """A function that makes a dataset whose samples raise, some always and some the first time."""

    def make(bad=(), *, samples=40, flaky=(), kind="Source"):
        module = user_module(SOURCE.format(bad=set(bad), samples=samples, flaky=set(flaky)))
        return Dataset.from_python(f"{module}:{kind}")

    return make


def ids_of(dataset, numbers):
    return [dataset.plan.compute(n)["ids"].tolist() for n in numbers]


def read_by(dataset):
    """Return the list of what the dataset's source has read, in this process."""
    return dataset.declaration.source.attr.load().__getitem__.__globals__["read"]


# -- the policy ----------------------------------------------------------------------------------------------------


def test_without_a_policy_a_bad_sample_raises(source):
    with pytest.raises(SampleError, match=r"sample 3 \(.*:Source\[3\]\): ValueError: 3 is rotten"):
        source([3]).batch(8).compute(0)


def test_raise_is_the_default(source):
    dataset = source([3]).batch(8)

    assert dataset.on_error("raise").key == dataset.key
    assert dataset.on_error("replace").on_error("raise").to_dict() == dataset.to_dict()
    assert Dataset.from_dict({**dataset.to_dict(), "on_error": {"policy": "raise"}}).key == dataset.key


def test_the_policy_is_part_of_the_key_and_travels_with_the_dataset(source):
    dataset = source().batch(8)
    keys = {dataset.key, dataset.on_error("replace").key, dataset.on_error("replace", most=0.5).key}

    assert len(keys) == 3
    assert Dataset.from_dict(json.loads(json.dumps(dataset.on_error("replace").to_dict()))).key in keys
    assert "on_error(policy='replace', most=0.5)" in repr(dataset.on_error("replace", most=0.5))


@pytest.mark.parametrize(
    "policy, most, told",
    [
        ("replac", 0.1, r"on_error: policy: input should be 'raise' or 'replace', got 'replac'"),
        ("replace", 0, r"on_error: most: input should be greater than 0, got 0"),
        ("replace", 1.5, r"on_error: most: input should be less than or equal to 1, got 1.5"),
        ("replace", float("nan"), r"on_error: most: input should be "),
        ("raise", -1, r"on_error: most: input should be greater than 0"),
    ],
)
def test_a_mistake_in_the_policy_is_named(source, policy, most, told):
    with pytest.raises(DatasetError, match=told):
        source().on_error(policy, most=most)


@pytest.mark.parametrize(
    "plain, told",
    [
        ({"policy": "replace", "mots": 0.1}, "on_error: there is no key 'mots'; did you mean 'most'"),
        ({"most": 0.1}, "on_error: 'policy' is missing"),
        ("replace", "on_error: expected a table, got 'replace'"),
        ({"policy": "drop"}, "on_error.policy: input should be 'raise' or 'replace', got 'drop'"),
    ],
)
def test_a_mistake_in_its_plain_form_is_named(source, plain, told):
    with pytest.raises(DatasetError, match=told):
        Dataset.from_dict({**source().batch(4).to_dict(), "on_error": plain})


# -- replacing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Source", "Rows"])
@pytest.mark.parametrize("bad", [[3], [0], [0, 1, 2], [3, 17, 18, 39]])
def test_bad_samples_are_replaced_by_good_ones_and_the_ids_say_so(source, kind, bad):
    dataset = source(bad, kind=kind).shuffle(5).batch(8).on_error("replace", most=0.2)

    batches = [dataset.plan.compute(n) for n in range(3 * dataset.batches_per_epoch)]

    ids = np.concatenate([batch["ids"] for batch in batches])
    assert not set(ids.tolist()) & set(bad)
    assert set(range(40)) - set(bad) == set(ids.tolist())
    assert (np.concatenate([batch["x"] for batch in batches]) == ids[:, None]).all()
    assert {sample.id for sample in dataset.plan.ledger} == set(bad)


def test_a_source_that_cannot_read_a_sample_twice_at_once_is_asked_for_one_row_at_a_time(source):
    """A replacement may stand in the same task, once for itself and once for the other: h5py refuses that."""
    dataset = source([3], samples=9, kind="Rows").batch(9).on_error("replace")

    batch = dataset.plan.compute(0)

    assert len(set(batch["ids"].tolist())) == 8
    assert (batch["x"] == batch["ids"][:, None]).all()


def test_all_other_rows_stay_as_they_are_and_so_do_the_random_numbers_of_all(source):
    module = source([5, 21]).declaration.source.attr.name.partition(":")[0]
    dataset = source([5, 21]).map(f"{module}:draw").shuffle(5).batch(8).on_error("replace", most=0.1)
    sound = source().map(f"{module}:draw").shuffle(5).batch(8)

    for n in range(10):
        replaced, batch = dataset.plan.compute(n), sound.plan.compute(n)
        good = ~np.isin(batch["ids"], [5, 21])
        assert (replaced["x"][good] == batch["x"][good]).all()
        assert (replaced["drawn"] == batch["drawn"]).all()


def test_a_replaced_sample_is_not_read_again(source):
    dataset = source([3]).batch(8).on_error("replace")
    ids = ids_of(dataset, range(5))
    read_by(dataset).clear()

    assert ids_of(dataset, range(5, 15)) == ids * 2
    assert ids_of(Dataset(dataset.declaration), range(5)) == ids  # opened anew
    assert 3 not in read_by(dataset)


def test_a_sample_that_raises_once_is_made_once_more(source):
    dataset = source([20], flaky=[3, 4]).batch(8).on_error("replace")

    ids_of(dataset, range(5))

    assert [sample.id for sample in dataset.plan.ledger] == [20]


def test_a_bad_first_sample_is_replaced_before_it_can_set_the_spec(source):
    dataset = source([0, 1]).batch(8).on_error("replace", most=0.1)

    assert dataset.spec["x"].shape == (3,)
    assert [sample.id for sample in dataset.plan.ledger] == [0]


def test_a_first_sample_that_is_blamed_is_not_touched(source):
    """Workers died while each opened the dataset."""
    declaration = source([0]).batch(8).on_error("replace").declaration

    plan = Plan(declaration, {}.__getitem__, blame="3 workers died")

    assert [(sample.id, sample.reason) for sample in plan.ledger] == [(0, "3 workers died")]
    assert 0 not in read_by(Dataset(declaration))
    with pytest.raises(SampleError, match=r"sample 0 \(.*:Source\[0\]\): 3 workers died"):
        Plan(declaration.model_copy(update={"on_error": None}), {}.__getitem__, blame="3 workers died")


def test_a_dataset_whose_samples_all_fail_is_refused_with_the_reason_and_has_no_ledger(source):
    """A mistake in the user's code must not look like bad samples, nor take ages to be told."""
    dataset = source(range(1000), samples=1000).batch(8).on_error("replace", most=1)

    with pytest.raises(SampleError, match=r"ValueError: .* is rotten"):
        dataset.compute(0)

    assert len(read_by(dataset)) <= 2 * FIRST_TRIES + 1
    assert not ledger_path("x").parent.exists()


def test_a_failure_of_many_rows_together_is_nobodys(source, user_module):
    module = user_module(SOURCE.format(bad=set(), samples=40, flaky=set()).replace("a sample twice", "never"))
    broken = (
        f"from {module} import Source\n"
        "class Broken(Source):\n    def read_rows(self, ids, out):\n"
        "        assert len(ids) == 1, 'the disk is on fire'\n        out['x'][:] = 0\n"
    )
    dataset = Dataset.from_python(f"{user_module(broken)}:Broken").batch(8).on_error("replace")

    with pytest.raises(SampleError, match=r"samples 8 .. 15, read_rows: AssertionError: the disk is on fire") as raised:
        dataset.compute(1)
    assert sample_of(raised.value) is None


def test_pictures_that_are_damaged_missing_or_of_another_size_are_replaced(tmp_path):
    for number in range(50):
        np.save(tmp_path / f"{number:02}.npy", np.full((4, 4), number))
    dataset = Dataset.from_npy_files(tmp_path).rescale(1.0, field="x").batch(10).on_error("replace", most=0.2)
    assert dataset.samples == 50
    (tmp_path / "07.npy").unlink()
    (tmp_path / "11.npy").write_bytes((tmp_path / "11.npy").read_bytes()[:-3])
    np.save(tmp_path / "30.npy", np.zeros(3))
    (tmp_path / "31.npy").write_bytes(b"")

    x = np.concatenate([dataset.compute(n)["x"][:, 0, 0] for n in range(5)])

    assert {sample.id: os.path.basename(sample.file) for sample in dataset.plan.ledger} == {  # noqa: PTH119
        number: f"{number:02}.npy" for number in (7, 11, 30, 31)
    }
    assert not {7, 11, 30, 31} & set(x.tolist())
    assert "siblings" in next(sample.reason for sample in dataset.plan.ledger if sample.id == 30)


def test_the_reason_is_kept_in_one_line(source):
    dataset = source([3]).batch(8).on_error("replace")
    dataset.compute(0)

    (sample,) = dataset.plan.ledger
    assert sample.file.endswith(":Source[3]")
    assert sample.reason == "ValueError: 3 is rotten"


# -- the bound -----------------------------------------------------------------------------------------------------


def test_above_the_bound_it_raises_with_the_number_the_first_few_and_what_to_do(source):
    dataset = source([2, 9, 12], samples=100).batch(10).on_error("replace", most=0.02)
    dataset.compute(0)

    with pytest.raises(
        SampleError, match=r"^3 of 100 samples cannot be made, and no more than 2 may be replaced: "
    ) as e:
        dataset.compute(1)

    assert "sample 12 (" in str(e.value)
    assert "12 is rotten; sample 2 (" in str(e.value)
    assert f"delete {ledger_path(dataset.key)}" in str(e.value)
    assert dataset.compute(2)["x"].shape == (10, 3)


def test_one_sample_may_be_replaced_in_any_case_but_never_all(source):
    assert set(ids_of(source([3], samples=7).batch(7).on_error("replace"), [0])[0]) == {0, 1, 2, 4, 5, 6} - set()

    with pytest.raises(SampleError, match="0 is rotten"):
        source([0], samples=1).batch(1).on_error("replace", most=1).compute(0)


# -- the ledger ----------------------------------------------------------------------------------------------------


def test_the_ledger_belongs_to_the_key(source):
    dataset = source([3]).batch(8).on_error("replace")
    dataset.compute(0)

    assert ledger_path(dataset.key).exists()
    assert len(dataset.batch(4).plan.ledger) == 0


def test_what_another_process_finds_is_heeded_from_the_next_batch_on(source):
    """A sample that kills whoever touches it is found by workers, and must not be tried in the trainer."""
    ours = source([3], samples=80).batch(8).on_error("replace")
    theirs = Dataset(ours.declaration)
    assert len(ours.plan.ledger) == 0
    theirs.compute(0)
    read_by(ours).clear()

    ours.compute(0)

    assert [sample.id for sample in ours.plan.ledger] == [3]
    assert 3 not in read_by(ours)


def test_it_goes_on_in_memory_where_nothing_can_be_written(source, monkeypatch, caplog):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc")
    dataset = source([3]).batch(8).on_error("replace")

    ids = ids_of(dataset, range(5))

    assert 3 not in ids[0]
    assert ids_of(dataset, range(5)) == ids
    assert caplog.text.count("cannot be written") == 1


def test_its_folder_is_for_its_owner_alone(source):
    dataset = source([3]).batch(8).on_error("replace")
    dataset.compute(0)

    assert stat.S_IMODE(ledger_path(dataset.key).parent.stat().st_mode) == 0o700


def test_a_dataset_without_the_policy_reads_and_writes_no_ledger(source):
    source().batch(8).compute(0)

    assert not ledger_path("x").parent.exists()


# -- workers -------------------------------------------------------------------------------------------------------


def test_a_plan_that_is_told_what_to_replace_decides_nothing_itself(source):
    """A worker's: the daemon decides, so that all workers make the same batches."""
    declaration = source([3, 5]).batch(8).on_error("replace", most=0.1).declaration
    index = Plan(declaration, {}.__getitem__).index
    told = Plan(declaration, {}.__getitem__, index, [3])

    with pytest.raises(SampleError, match="5 is rotten"):
        told.compute(0)
    told.replace([5])

    assert told.compute(0)["ids"].tolist() == Plan(declaration, {}.__getitem__).compute(0)["ids"].tolist()


def test_a_row_is_named_without_being_touched(source):
    dataset = source([3], samples=20).shuffle(3).batch(8, remainder="pad")
    expected = dataset.plan.error_of(5, range(4), 2, "3 workers died")
    row = sample_of(expected).id
    read_by(dataset).clear()

    assert str(dataset.plan.error_of(5, range(4), 2, "3 workers died")) == (
        f"sample {row} ({dataset.declaration.source.attr.name}[{row}]): 3 workers died"
    )
    assert read_by(dataset) == []
    assert source(samples=20).shuffle(3).batch(8, remainder="pad").plan.compute(5)["ids"][2] == row
    assert (
        str(dataset.plan.error_of(2, range(8), 7, "3 workers died"))
        == "row 7 of batch 2, which is padding: 3 workers died"
    )


def test_a_sample_unlike_the_others_knows_itself(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros(4))

    with pytest.raises(SpecMismatch) as raised:
        Dataset.from_npy_files(tmp_path).batch(2).compute(0)
    assert sample_of(raised.value).id == 1
