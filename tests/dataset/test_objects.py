import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from loader_service.dataset.objects import carry, digest_of, pack, unpack
from loader_service.protocol.errors import DatasetError

SCRIPT = """
import sys
import numpy as np
from loader_service.dataset.objects import digest_of, pack

class Base:
    kinds = frozenset({"a", "b", "c"})

class Batches(Base):
    def __init__(self, ids):
        self.ids, self.rng, self.scale = ids, np.random.default_rng(), lambda x: x * SCALE
        self.big = np.arange(100_000)

    def __getitem__(self, i):
        known = self.ids[i] in {"x", "y", "z"}
        return super().__init__, known, self.scale(i)

SCALE = 3
made = Batches([f"id-{number}" for number in range(10)])
open(sys.argv[1], "wb").write(pack(made).tobytes())
print(digest_of(made), digest_of(made.scale))
"""


def run_script(path, source):
    file = path / "script.py"
    file.write_text(source)
    told = subprocess.check_output([sys.executable, file, path / "packed"], text=True)
    return told.split(), np.fromfile(path / "packed", np.uint8)


@pytest.fixture
def script(tmp_path):
    return lambda source=SCRIPT: run_script(tmp_path, source)


def test_an_object_of_the_running_script_is_made_again_in_another_process(script):
    made = unpack(script()[1])

    assert made.ids == [f"id-{number}" for number in range(10)]
    assert made[2][1:] == (False, 6)
    assert made.big.tolist() == list(range(100_000))


def test_the_digest_is_the_same_in_each_run_of_a_script(script):
    """cloudpickle numbers the classes of a script anew in each process, and sets of text have another order."""
    assert script()[0] == script()[0]


def test_the_digest_knows_nothing_of_lines(script):
    assert script()[0] == script("\n\n\n" + SCRIPT)[0]


@pytest.mark.parametrize(
    ("old", "new"), [("x * SCALE", "x + SCALE"), ("SCALE = 3", "SCALE = 4"), ('"z"', '"w"'), ("range(10)", "range(11)")]
)
def test_the_digest_is_another_one_for_other_code_or_other_content(script, old, new):
    assert script()[0][0] != script(SCRIPT.replace(old, new))[0][0]


def test_the_digest_knows_the_source_of_modules_that_are_named(user_module):
    name = user_module("class Batches:\n    size = 1\n")
    made = __import__(name).Batches()
    before = digest_of(made)
    user_module("class Batches:\n    size = 2\n", name)

    assert digest_of(made) != before


def test_the_digest_is_blind_to_the_states_of_generators():
    assert digest_of([random.Random(1), np.random.default_rng(1)]) == digest_of(
        [random.Random(2), np.random.default_rng(2)]
    )


def test_arrays_lie_over_the_bytes_and_can_be_written_to():
    given = np.arange(10_000)

    packed = pack({"x": given, "small": np.arange(3)})
    made = unpack(packed)

    assert np.shares_memory(made["x"], packed)
    assert not np.shares_memory(made["x"], given)
    made["x"][0] = 7
    made["small"][0] = 7


@pytest.mark.parametrize("part", [np.s_[:], np.s_[3:90:7], np.s_[::-1, 2:]])
def test_an_array_that_is_mapped_from_a_file_stays_one(tmp_path, part):
    np.save(tmp_path / "x.npy", np.arange(1_000_000.0).reshape(100, -1))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    for given in (mapped[part], np.asarray(mapped)[part]):
        packed = pack(given)
        assert packed.nbytes < 10_000
        assert np.array_equal(unpack(packed), given)


def test_a_mapped_file_that_was_changed_since_is_told_of(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(10_000))
    carried, packed = carry(np.load(tmp_path / "x.npy", mmap_mode="r"), "wrap", "name it")
    np.save(tmp_path / "x.npy", np.arange(10_001))

    with pytest.raises(DatasetError, match=r"x.npy' was changed after the dataset was made of it"):
        carried.load(packed)


class Holds:
    def __init__(self, what):
        self.ids = [1, 2, 3]
        self.what = what


@pytest.mark.parametrize("mode", ["r", "rb", None])
def test_what_cannot_be_sent_is_named_with_its_place_and_with_what_to_do(mode):
    with Path(__file__).open(mode) if mode else threading.Lock() as held, pytest.raises(DatasetError) as told:
        carry(Holds(held if mode else threading.Lock()), "wrap", "name a function")

    assert "'Holds'" in str(told.value)
    assert "test_objects.py, line " in str(told.value)
    assert "because of its attribute 'what'" in str(told.value)
    assert str(told.value).endswith("Have the workers make it: name a function")


def test_who_cannot_take_an_object_is_told_where_it_is_defined():
    carried, _ = carry(lambda: 3, "map", "move it into a module")

    assert "<lambda>' (" in carried.why
    assert f"{__file__}, line {sys._getframe().f_lineno - 3})" in carried.why
    assert "has no import path, so workers cannot find it: move it into a module. Or start a daemon" in carried.why
