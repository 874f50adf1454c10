"""Samples that cannot be made: named, or replaced, always by the same ones; whoever makes the batch, and when."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import loader_client
from loader_client import ConfigError, DatasetError, SampleError
from loader_service import Dataset
from loader_service.cli import app
from loader_service.dataset.ledger_file import LedgerFile, ledger_path
from tests.end_to_end.conftest import COMMAND, PATIENCE, digest, expected_digest
from tests.waiting import wait_until

SAMPLES = 60
RAISING, DEADLY = {0, 3, 17, 30, 44}, {8}
MODULE = """
import ctypes, os, sys
import numpy as np

RAISING, DEADLY = {raising!r}, {deadly!r}

def poison(sample, rng):
    i = int(sample["x"][0])
    with open({log!r}, "a") as log:
        log.write(f"{{i}}\\n")
    if i in RAISING:
        raise ValueError(f"{{i}} is rotten")
    if i in DEADLY:
        {die}
    return {{**sample, "drawn": rng.random(3)}}
"""


@pytest.fixture
def touched(tmp_path):
    """Return a function that tells which samples were made since its last call."""
    log = tmp_path / "touched"

    def read():
        found = set(map(int, log.read_text().split())) if log.exists() else set()
        log.unlink(missing_ok=True)
        return found

    return read


@pytest.fixture
def poisoned(tmp_path, user_module):
    """Return a function that makes a dataset of files 00.npy, 01.npy, ...; some raise when they are made, some kill."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(SAMPLES):
        np.save(folder / f"{number:02}.npy", np.full(4, number))

    def make(raising=(), deadly=(), die="os._exit(9)"):
        log = str(tmp_path / "touched")
        user_module("poison", MODULE.format(raising=set(raising), deadly=set(deadly), die=die, log=log))
        return Dataset.from_npy_files(folder).map("poison:poison").shuffle(seed=5).batch(8)

    return make


# -- named -------------------------------------------------------------------------------------------------------


def test_a_sample_that_raises_is_tried_twice_and_named_with_file_and_traceback(poisoned, tmp_path):
    with loader_client.connect(workers=2) as loader:
        with pytest.raises(SampleError, match=r"sample 17 \(.*files/17.npy\): ValueError: 17 is rotten") as raised:
            list(loader.stream(poisoned([17])))

    assert 'poison.py", line' in raised.value.__notes__[0]
    touched = (tmp_path / "touched").read_text().split().count("17")
    assert 2 <= touched <= 4  # on a busy machine the batch may be late, and made a second time in another slot


@pytest.mark.slow
@pytest.mark.parametrize("die", ["os._exit(9)", "sys.exit()", "ctypes.string_at(0)"])
def test_a_sample_that_kills_workers_is_named_with_its_file(poisoned, die):
    """Only a worker knows which sample is in a row; one that lives is asked."""
    with loader_client.connect(workers=2) as loader:
        with pytest.raises(SampleError, match=r"sample 17 \(.*files/17.npy\): .*3 workers .*die"):
            list(loader.stream(poisoned(deadly=[17], die=die)))


@pytest.mark.slow
def test_a_row_of_a_shard_is_named_rightly(poisoned):
    """Its rows are counted from the shard's first one."""
    with loader_client.connect(workers=1) as loader:
        with pytest.raises(SampleError, match=r"sample 17 \(.*files/17.npy\): .*3 workers .*die"):
            for rank in range(2):
                list(loader.stream(poisoned(deadly=[17]), shard=(rank, 2)))


@pytest.mark.slow
def test_a_first_sample_that_kills_is_named_too(poisoned):
    """It is looked at when the dataset is opened, to know what all others look like."""
    with loader_client.connect(workers=1) as loader:
        with pytest.raises(SampleError, match=r"sample 0 \(.*files/00.npy\): 3 workers died while each opened the"):
            loader.stream(poisoned(deadly=[0]))

        replaced = loader.stream(poisoned(deadly=[0]).on_error("replace"))
        assert {sample_id for batch in replaced for sample_id in batch.ids} == set(range(1, SAMPLES))


@pytest.mark.slow
def test_a_dataset_that_kills_whoever_opens_it_is_refused(user_module):
    user_module("deadly", "import os\nos._exit(3)\n")
    dataset = Dataset.from_python("deadly:x").batch(1)
    with loader_client.connect(workers=1) as loader:
        with pytest.raises(DatasetError, match=r"^3 workers died while each opened the dataset; the last was ended"):
            loader.stream(dataset)


# -- replaced ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_batches_with_replaced_samples_equal_compute_for_any_number_of_workers_and_after_a_restart(
    start_daemon, poisoned, touched
):
    counts = (1, 2, 4)
    datasets = [poisoned(RAISING, DEADLY).on_error("replace", most=0.2 + count / 100) for count in counts]
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        made, states = [], []
        for count, dataset in zip(counts, datasets, strict=True):  # each has a ledger of its own, which begins empty
            daemon.command("scale", str(count))
            stream = loader.stream(dataset)
            batches = [batch for _ in range(2) for batch in stream]
            assert {sample_id for batch in batches for sample_id in batch.ids} == set(range(SAMPLES)) - RAISING - DEADLY
            assert touched() >= RAISING | DEADLY
            made.append(digest(batches))
            states.append(stream.state_dict())
    daemon.end()

    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        streams = [loader.stream(dataset) for dataset in datasets]
        again = [digest(batch for _ in range(2) for batch in stream) for stream in streams]
        assert [stream.state_dict() for stream in streams] == states
        assert [stream.stats()["replaced_samples"] for stream in streams] == [6, 6, 6]
        assert {sample.id for sample in stream.replaced} == RAISING | DEADLY
        assert daemon.status()["workers_lost"] == 0

    expected = expected_digest(datasets[0], range(16))  # now: a sample that is deadly, and in no ledger, would end us
    assert made == again == [expected] * 3
    assert not touched() & (RAISING | DEADLY)
    assert len({state["ledger"] for state in states}) == 1


def test_in_line_the_same_samples_are_replaced_by_the_same_ones(poisoned):
    dataset = poisoned(RAISING).on_error("replace", most=0.2)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset)
        made, state = digest(list(stream)), stream.state_dict()
    ledger_path(stream.key).unlink()

    with loader_client.connect(workers=0) as loader:
        stream = loader.stream(dataset)

        assert digest(list(stream)) == made
        assert stream.state_dict() == state
        assert stream.stats()["replaced_samples"] == len(RAISING)
    assert {sample.id for sample in LedgerFile(stream.key).news()} == RAISING


@pytest.mark.slow
def test_shards_and_streams_share_a_ledger(start_daemon, poisoned):
    dataset = poisoned(RAISING, DEADLY).on_error("replace", most=0.1)  # room for exactly these
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        whole = loader.stream(dataset)
        parts = [loader.stream(dataset, shard=(rank, 2)) for rank in range(2)]
        batches = [[stream.take(n) for stream in (*parts, whole)] for n in range(8)]
        joined = [
            {name: np.concatenate([part[name] for part in row[:2]]) for name in ("drawn", "x")} for row in batches
        ]
        hashes = {stream.state_dict()["ledger"] for stream in (*parts, whole)}
        counts = [told["replaced_count"] for told in daemon.status()["datasets"]]

        assert digest(joined) == digest(row[2] for row in batches)
    daemon.end()
    assert digest(joined) == expected_digest(dataset, range(8))
    assert len(hashes) == 1
    assert counts == [6, 6, 6]


@pytest.mark.slow
def test_a_daemon_that_is_killed_finds_its_ledger_again(start_daemon, poisoned, touched):
    dataset = poisoned(RAISING, DEADLY).on_error("replace", most=0.2)
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(dataset, prefetch=2)
        first = [stream.take(n) for n in range(8)]
        wait_until(lambda: len(LedgerFile(stream.key).news()) == len(RAISING | DEADLY), seconds=PATIENCE)
        daemon.process.kill()
        daemon.process.communicate()
        touched()
        start_daemon("--workers", "2")
        rest = [stream.take(n) for n in range(8, 16)]

        assert not touched() & (RAISING | DEADLY)
        assert digest(first + rest) == expected_digest(dataset, range(16))


@pytest.mark.slow
def test_too_many_are_an_error_that_names_some_and_says_what_to_do(start_daemon, poisoned):
    dataset = poisoned(range(10, 20)).on_error("replace", most=0.05)
    start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(dataset)
        with pytest.raises(SampleError, match=r"^4 of 60 samples cannot be made, and no more than 3") as raised:
            list(stream)

    assert str(raised.value).count(".npy): ValueError: ") == 3
    assert "; and 1 more. Mend or remove them" in str(raised.value)
    assert str(ledger_path(stream.key)) in str(raised.value)
    assert 'poison.py", line' in raised.value.__notes__[0]


@pytest.mark.slow
def test_a_full_disk_costs_no_training_and_the_ledger_is_written_when_there_is_space(start_daemon, poisoned):
    """/dev/full takes the place of the file that is written first: there is no space for it."""
    bad = RAISING - {0}  # nothing is written when the dataset is opened
    dataset = poisoned(bad).on_error("replace", most=0.2)
    ledger_path(dataset.key).parent.mkdir(parents=True)
    ledger_path(dataset.key).with_suffix(".new").symlink_to("/dev/full")
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(dataset)
        made = digest(list(stream))
        assert {sample.id for sample in stream.replaced} == bad
    log = daemon.end()

    assert f"{ledger_path(dataset.key)} cannot be written (No space left on device)" in log
    assert {sample.id for sample in LedgerFile(dataset.key).news()} == bad
    assert made == expected_digest(dataset, range(8))


@pytest.mark.slow
def test_a_ledger_that_was_cut_in_half_is_found_anew(start_daemon, poisoned):
    dataset = poisoned(RAISING).on_error("replace", most=0.2)
    with loader_client.connect(workers=1) as loader:
        stream = loader.stream(dataset)
        made = digest(list(stream))
    path = ledger_path(stream.key)
    path.write_bytes(path.read_bytes()[:100])

    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        assert digest(list(loader.stream(dataset))) == made
    log = daemon.end()

    assert f"{path} is no ledger" in log
    assert {sample.id for sample in LedgerFile(stream.key).news()} == RAISING


# -- told ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_status_lists_them_with_file_and_reason(start_daemon, poisoned):
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(poisoned([17, 30]).on_error("replace", most=0.2))
        list(stream)
        (told,) = daemon.status()["datasets"]
        table = daemon.command("status")

    assert told["replaced_count"] == 2
    assert {bad["id"]: (Path(bad["file"]).name, bad["reason"]) for bad in told["replaced"]} == {
        17: ("17.npy", "ValueError: 17 is rotten"),
        30: ("30.npy", "ValueError: 30 is rotten"),
    }
    assert "replaced samples" in table
    assert "17 is rotten" in table


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_the_trainer_is_warned_of_each_sample_once(poisoned, workers, caplog):
    with loader_client.connect(workers=workers) as loader:
        stream = loader.stream(poisoned([17, 30]).on_error("replace", most=0.2))
        list(stream)
        list(stream)

    told = [record.getMessage() for record in caplog.records if record.name == "loader_client"]
    assert all("cannot be made; another takes its place: " in line for line in told)
    assert [("17.npy" in line, "30.npy" in line) for line in sorted(told, key=lambda line: "30.npy" in line)] in (
        [(True, False), (False, True)],
        [(True, True)],
    )


@pytest.mark.slow
def test_a_state_from_before_a_sample_was_replaced_goes_on_with_a_warning(poisoned, caplog):
    dataset = poisoned(deadly=[17]).on_error("replace", most=0.2)
    with loader_client.connect(workers=1) as loader:
        stream = loader.stream(dataset)
        early = stream.state_dict()
        list(stream)
        late = stream.state_dict()
        caplog.clear()
        stream.load_state_dict(late)
        assert not caplog.records
        stream.load_state_dict(early)

    assert "ledger" not in early
    assert len(late["ledger"]) == 16
    assert stream.cursor == 0
    (told,) = caplog.messages
    assert told.startswith(
        "since the state was saved, a sample had to be replaced; batches differ in their rows: sample"
    )
    assert "17.npy" in told


@pytest.mark.slow
def test_a_state_whose_ledger_is_unknown_goes_on_with_a_warning(poisoned, caplog):
    """Its file was deleted, or it was saved on another machine."""
    dataset = poisoned([17]).on_error("replace", most=0.2)
    with loader_client.connect(workers=0) as loader:
        stream = loader.stream(dataset)
        stream.load_state_dict({**stream.state_dict(), "n": 3, "ledger": "0123456789abcdef"})

    assert stream.cursor == 3
    (told,) = caplog.messages
    assert "saved with other samples replaced (ledger 0123456789abcdef) than are replaced here (ledger none)" in told


# -- check --all ---------------------------------------------------------------------------------------------------


CONFIG = """
workers = 2

[datasets.bad]
source = { kind = "npy_files", path = "files" }
transforms = [{ kind = "map", function = "user_code.poison:poison" }]
shuffle = { seed = 5 }
batch = { size = 8, remainder = "drop" }

[datasets.no]
source = { kind = "npy_files", path = "no" }
batch = { size = 1 }

[datasets.good]
source = { kind = "npy_files", path = "files" }
batch = { size = 8 }
"""


@pytest.fixture
def config(poisoned, tmp_path):
    """A config beside the files: a dataset with bad samples, one without a folder, and a good one."""
    (tmp_path / "user_code" / "__init__.py").touch()
    poisoned(RAISING, DEADLY, die="ctypes.string_at(0)")
    file = tmp_path / "service.toml"
    file.write_text(CONFIG)
    return file


def check(*arguments):
    return subprocess.run([COMMAND, "check", *arguments], capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.slow
def test_check_all_finds_exactly_the_bad_samples_also_those_that_kill(config):
    done = check(str(config), "--all", "--json")

    told = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert {bad["id"]: Path(bad["file"]).name for bad in told["bad"]["bad"]} == {
        number: f"{number:02}.npy" for number in RAISING | DEADLY
    }
    reasons = {bad["id"]: bad["reason"] for bad in told["bad"]["bad"]}
    assert reasons[17] == "ValueError: 17 is rotten"
    assert reasons[8].startswith("3 workers ")
    assert told["bad"]["samples"] == SAMPLES
    assert "no' does not exist" in told["no"]["error"]
    assert (told["good"]["bad"], "error" in told["good"]) == ([], False)
    assert not Path(os.environ["XDG_STATE_HOME"]).exists(), "it leaves no ledger"


@pytest.mark.slow
def test_check_all_lists_them_for_people_too(config):
    done = check(str(config), "--all", "--dataset", "bad")

    assert done.returncode == 1
    assert done.stdout.count("bad: sample ") == len(RAISING | DEADLY)
    assert f"({config.parent}/files/17.npy): ValueError: 17 is rotten" in done.stdout
    assert done.stdout.endswith("0 of 1 datasets are sound\n")
    assert "good" not in done.stdout


@pytest.mark.slow
def test_check_names_the_dataset_that_may_be_meant(config):
    with pytest.raises(ConfigError, match="there is no dataset 'godo'; did you mean 'good'"):
        CliRunner().invoke(app(), ["check", str(config), "--dataset", "godo"], catch_exceptions=False)
