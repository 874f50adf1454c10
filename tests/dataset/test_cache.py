"""Samples that are kept: the same batches with a cache and without, whatever happens to its files."""

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loader_service import Dataset
from loader_service.dataset.cache import folder
from loader_service.dataset.cache.folder import FORMAT, caches_in, size_of
from loader_service.dataset.cache.record import pack, unpack
from loader_service.dataset.catalog import named_datasets
from loader_service.dataset.schema import json_schema
from loader_service.protocol.errors import DatasetError, SampleError
from tests.end_to_end.conftest import digest

SAMPLES = 24
ROOT = Path(__file__).parents[2]
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # prctl(2), capabilities(7)


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """The folder of the user's caches: the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(folder, "memory_folder", lambda: tmp_path / "in memory")
    return tmp_path / "caches" / "loader-service" / "samples"


@pytest.fixture
def photos(tmp_path):
    """Pictures of two classes and many sizes."""
    for i in range(SAMPLES):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(i).integers(0, 255, (20 + i, 30, 3), dtype=np.uint8))
    return tmp_path / "photos"


def decoded(photos, **options):
    """Return augmented pictures that are decoded once, and the same without a cache."""
    source = Dataset.from_image_folder(photos)
    return tuple(
        dataset.random_resized_crop(8, 8).random_flip().shuffle(3).batch(5)
        for dataset in (source.cache(**options), source)
    )


def epochs(dataset, *numbers):
    """Return the hash of whole epochs; of a dataset that is opened anew."""
    fresh = Dataset(dataset.declaration, dataset.tables)
    batches = fresh.batches_per_epoch
    return digest(fresh.compute(n) for epoch in numbers for n in range(epoch * batches, (epoch + 1) * batches))


def only(caches):
    """Return the folder of the one cache that there is."""
    (folder,) = caches_in(caches)
    return folder


def test_batches_are_the_same_with_it_and_without_cold_and_warm(photos, caches):
    cached, plain = decoded(photos)

    assert cached.key == plain.key
    assert epochs(cached, 0, 1) == epochs(plain, 0, 1)
    assert size_of(only(caches)).samples == SAMPLES
    assert epochs(cached, 0, 1) == epochs(plain, 0, 1)


def test_what_is_kept_is_not_read_again(photos):
    cached, plain = decoded(photos)
    expected = epochs(plain, 0, 1)
    epochs(cached, 0)
    warm = Dataset(cached.declaration)
    warm.compute(0)
    read = []
    reader = warm.plan._reader.read
    warm.plan._reader.read = lambda *arguments: read.append(arguments) or reader(*arguments)

    batches = warm.batches_per_epoch
    assert digest(warm.compute(n) for n in range(2 * batches)) == expected
    assert read == []


def test_a_chain_with_the_same_beginning_finds_the_same_samples_and_another_one_others(photos, caches):
    small = Dataset.from_image_folder(photos).resize(6, 6).cache()

    for dataset in (small.batch(4), small.rescale(1 / 255).shuffle(9).batch(7), small.filter(label=[0]).batch(3)):
        epochs(dataset, 0)
    assert len(list(caches_in(caches))) == 1
    epochs(Dataset.from_image_folder(photos).resize(6, 7).cache().batch(4), 0)
    assert len(list(caches_in(caches))) == 2


def test_a_picture_that_changed_is_read_again(photos):
    """Its size is the same, so the dataset's key is."""
    picture = np.zeros((20, 30, 3), np.uint8)
    for path, value in ((photos / "a" / "00.bmp", 7), (photos / "b" / "00.bmp", 7)):
        cv2.imwrite(str(path), picture + np.uint8(value))
    cached, plain = decoded(photos)
    epochs(cached, 0)
    cv2.imwrite(str(photos / "a" / "00.bmp"), picture + np.uint8(200))

    assert epochs(cached, 0, 1) == epochs(plain, 0, 1)


@pytest.mark.parametrize("harm", ["flip", "cut", "zeros", "index", "empty"])
def test_what_is_damaged_is_made_again(photos, caches, harm):
    cached, plain = decoded(photos)
    epochs(cached, 0)
    data, index = only(caches) / "data", only(caches) / "index"
    content = bytearray(data.read_bytes())
    if harm == "flip":
        for at in range(100, len(content), 3000):
            content[at] ^= 4
        data.write_bytes(content)
    elif harm == "cut":
        os.truncate(data, len(content) // 3 + 5)
    elif harm == "zeros":
        data.write_bytes(bytes(len(content)))
    elif harm == "index":
        rng = np.random.default_rng(0)
        index.write_bytes(rng.bytes(index.stat().st_size))
    else:
        os.truncate(data, 0)

    assert epochs(cached, 0, 1) == epochs(plain, 0, 1)
    assert epochs(cached, 0, 1) == epochs(plain, 0, 1)


def test_it_takes_no_more_than_it_may_and_what_came_first_stays(photos, caches):
    cached, plain = decoded(photos, most=2**20 + 0)
    assert epochs(cached, 0) == epochs(plain, 0)
    whole = size_of(only(caches)).nbytes
    assert whole < 2**20
    big = Dataset.from_image_folder(photos).resize(300, 300).cache(most="1 MiB")
    epochs(big.batch(4), 0, 1)

    (folder,) = (folder for folder in caches_in(caches) if folder != only_named(caches, whole))
    kept = size_of(folder)
    assert kept.samples == 2**20 // (300 * 300 * 3 + 128)
    assert kept.nbytes <= 2**20


def only_named(caches, nbytes):
    """Return the cache that takes so many bytes."""
    return next(folder for folder in caches_in(caches) if size_of(folder).nbytes == nbytes)


READS = """
import sys
from loader_service import Dataset
from tests.end_to_end.conftest import digest
cached = Dataset.from_image_folder(sys.argv[1]).cache().random_resized_crop(8, 8).random_flip().shuffle(3).batch(5)
print(digest(cached.compute(n) for n in range(cached.batches_per_epoch)))
"""


def without_roots_rights():
    """Heed the permissions of files, as root does not."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)


def read_by_a_process(photos, limit):
    """Return what a process with some limit makes of an epoch."""
    ran = subprocess.run(
        [sys.executable, "-c", READS, photos],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=limit,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_samples_may_be_kept_in_memory_where_nobody_else_looks(photos, caches, tmp_path):
    kept, plain = decoded(photos, in_memory=True)

    assert epochs(kept, 0, 1) == epochs(plain, 0, 1)
    (cache,) = caches_in(tmp_path / "in memory")
    assert size_of(cache).samples == SAMPLES
    assert cache.parent.stat().st_mode & 0o777 == 0o700
    assert not caches.exists()
    folder.clear(cache)
    assert not cache.parent.exists()


def test_memory_for_a_cache_is_what_both_shared_memory_and_the_machine_have_left():
    shared = os.statvfs("/dev/shm")

    assert 0 < folder.memory_left() <= shared.f_bavail * shared.f_frsize


def test_a_full_disk_costs_nothing_but_samples_that_are_made_again(photos, caches):
    """A limit on the size of files is as good: a write ends in the middle, and the next one fails."""
    cached, plain = decoded(photos)
    expected = epochs(plain, 0)

    for _ in range(2):
        assert (
            read_by_a_process(photos, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_001, 20_001))) == expected
        )
    assert 0 < size_of(only(caches)).samples < SAMPLES
    assert (only(caches) / "data").stat().st_size == 20_001
    assert epochs(cached, 0, 1) == epochs(plain, 0, 1)
    assert size_of(only(caches)).samples == SAMPLES


def test_a_folder_that_cannot_be_written_is_read_all_the_same(photos, caches):
    cached, plain = decoded(photos)
    cached.compute(0)
    kept = size_of(only(caches))
    for file in (*only(caches).iterdir(), only(caches), caches):
        file.chmod(0o555 if file.is_dir() else 0o444)

    assert read_by_a_process(photos, without_roots_rights) == epochs(plain, 0)
    assert size_of(only(caches)) == kept


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda d: d.random_flip().cache(), "cache: random_flip stands before it, and makes something else"),
        (lambda d: d.map("draws:by_rng").cache().batch(4), "cache: map: 'draws:by_rng' draws random numbers"),
        (lambda d: d.map("draws:globally").cache().batch(4), "cache: map: 'draws:globally' draws random numbers"),
        (lambda d: d.cache().cache(), "there is one already"),
        (lambda d: d.cache(path="kept", in_memory=True), "say either"),
        (lambda d: d.cache(most="many"), "'many' is no size"),
        (lambda d: d.cache(most=5), "greater than or equal to 1048576"),
        (lambda d: Dataset.from_keras("draws:nothing").cache(), "keras is read whole batches"),
        (lambda d: Dataset.from_generator("draws:nothing", samples=3).cache(), "generator is read live"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_a_sentence(photos, user_module, declare, told):
    user_module(
        "import random\n"
        "def by_rng(sample, rng):\n    return {**sample, 'x': rng.random()}\n"
        "def globally(sample):\n    return {**sample, 'x': random.random()}\n",
        "draws",
    )
    with pytest.raises(DatasetError, match=told):
        declare(Dataset.from_image_folder(photos)).plan  # noqa: B018 - it is opened


def test_a_function_that_draws_nothing_may_stand_before_it(user_module, caches):
    said = "{**sample, 'said': 'é' * int(sample['y'])}"
    user_module(f"def twice(sample):\n    sample['x'] *= 2\n    return {said}\n", "twice_it")
    rows = Dataset.from_arrays(x=np.arange(40.0).reshape(20, 2), y=np.arange(20) % 4)
    plain = rows.map("twice_it:twice")
    cached = plain.cache()

    for dataset in (plain, cached, cached):
        got = dataset.map("twice_it:twice").batch(6).compute(2)
        assert got["x"].tolist() == (4 * np.arange(40.0).reshape(20, 2)[12:18]).tolist()
        assert list(got["said"]) == ["é" * (i % 4) for i in range(12, 18)]


def test_in_a_config_it_stands_among_the_transforms(photos, tmp_path):
    plain = {"source": {"kind": "image_folder", "path": str(photos)}, "batch": {"size": 4}}
    steps = [{"kind": "resize", "height": 5, "width": 5}, {"kind": "cache", "most": "3 MiB"}, {"kind": "random_flip"}]

    jsonschema.validate({"datasets": {"photos": {**plain, "transforms": steps}}}, json_schema())
    dataset = Dataset.from_dict({**plain, "transforms": steps})

    assert [step.kind for step in dataset.declaration.transforms] == ["resize", "random_flip"]
    assert (dataset.declaration.cache.after, dataset.declaration.cache.most) == (1, 3 * 2**20)
    assert Dataset.from_dict(dataset.to_dict()).declaration == dataset.declaration
    with pytest.raises(DatasetError, match="two caches"):
        Dataset.from_dict({**plain, "transforms": [*steps, {"kind": "cache"}]})


def test_its_folder_is_beside_the_config(photos, tmp_path):
    config = tmp_path / "service.toml"
    config.write_text(
        '[datasets.photos]\nsource = { kind = "image_folder", path = "photos" }\nbatch = { size = 4 }\n'
        'transforms = [{ kind = "cache", path = "kept" }, { kind = "resize", height = 5, width = 5 }]\n'
    )

    assert named_datasets(config)["photos"].cache.path == str(tmp_path / "kept")


def test_a_damaged_sample_is_named_and_nothing_of_it_is_kept(photos, caches):
    (photos / "a" / "04.png").write_bytes(b"no picture")
    dataset = Dataset.from_image_folder(photos).cache().random_resized_crop(4, 4).batch(24)

    with pytest.raises(SampleError, match=r"04\.png"):
        dataset.compute(0)
    assert size_of(only(caches)).samples < SAMPLES


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no cache can be made in"),
        ("{", "is no cache, or a damaged one"),
        (json.dumps({"format": 99}), f"has format 99, and this version reads {FORMAT}"),
    ],
)
def test_a_folder_that_is_none_of_ours_is_an_error_that_says_so(photos, tmp_path, content, told):
    root = tmp_path / "elsewhere"
    cached, _ = decoded(photos, path=root)
    epochs(cached, 0)
    folder = only(root)
    if content is None:
        shutil.rmtree(root)
        root.write_text("a file")
    else:
        (folder / "about.json").write_text(content)

    with pytest.raises(DatasetError, match=told):
        epochs(cached, 0)


KILLED = """
import sys
from loader_service import Dataset
dataset = Dataset.from_image_folder(sys.argv[1]).cache().random_resized_crop(8, 8).random_flip().shuffle(3).batch(5)
print("open", flush=True)
for n in range(10**6):
    dataset.compute(n)
"""


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_whoever_fills_it_and_is_killed_at_any_moment_leaves_nothing_wrong(photos, caches, rounds):
    cached, plain = decoded(photos)
    for _ in range(rounds):
        two = [
            subprocess.Popen(
                [sys.executable, "-c", KILLED, photos], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
            )
            for _ in range(2)
        ]
        for process in two:
            process.stdout.readline()
        for process in two:
            process.kill()
            process.wait()
            process.stdout.close()

    assert epochs(cached, 0, 1) == epochs(plain, 0, 1)


fields = hnp.arrays(
    st.sampled_from(["u1", "i8", "f4", "f8", "?", ">i4", "c8"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@given(st.dictionaries(st.text(max_size=5), fields | st.text(max_size=9) | st.binary(max_size=9), max_size=4))
def test_a_record_holds_any_sample(sample):
    found = unpack(np.frombuffer(b"".join(pack(sample)), np.uint8))

    assert list(found) == list(sample)
    for name, value in sample.items():
        if isinstance(value, str | bytes):
            assert found[name] == value
        else:
            assert np.asarray(found[name]).shape == value.shape
            assert np.asarray(found[name]).dtype == value.dtype.newbyteorder("=")
            assert np.asarray(found[name]).tobytes() == value.astype(value.dtype.newbyteorder("=")).tobytes()
