"""Parts of pictures in memory: the kernel, what stands in for it, and one picture after the other make the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.draws import uniforms
from loader_service.dataset.fusing import Group, Run
from loader_service.dataset.transforms.geometry import mirroring, windows
from loader_service.dataset.transforms.geometry.crops import CenterCrop, RandomCrop
from loader_service.dataset.transforms.geometry.flip import RandomFlip
from loader_service.dataset.transforms.geometry.moves import Mirror
from loader_service.protocol.errors import SampleError
from tests.dataset.reference import assert_same, plain_batch

is_built = pytest.mark.skipif(windows.kernel() is None, reason="the kernel is not built here")
DTYPES = ("uint8", "bool", "uint16", "float16", "float32", "float64", "complex128")
probabilities = st.sampled_from([0.0, 0.5, 1.0])
flips = st.builds(lambda across, down: RandomFlip(horizontal=across, vertical=down), probabilities, probabilities)


@pytest.fixture(params=[pytest.param(True, marks=is_built), False], ids=["kernel", "no kernel"])
def built(request, monkeypatch):
    """Whether there is a kernel."""
    if not request.param:
        monkeypatch.setattr(windows, "kernel", lambda: None)
        monkeypatch.setattr(mirroring, "kernel", lambda: None)
    return request.param


@st.composite
def chains(draw):
    """Return a size, and steps that choose parts of pictures of it."""
    size = height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    steps = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            steps.append(draw(flips))
        else:
            height, width = draw(st.integers(1, height)), draw(st.integers(1, width))
            steps.append(draw(st.sampled_from([CenterCrop, RandomCrop]))(height=height, width=width))
    return size, steps


@is_built
@given(chains(), st.integers(1, 9), st.sampled_from(DTYPES), st.integers(0, 2**32))
@settings(max_examples=150)
def test_many_at_once_are_exactly_those_one_by_one(chain, channels, dtype, seed):
    (height, width), steps = chain
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 255, (5, height, width, channels)).astype(dtype)
    ids = rng.integers(0, 5, 8)
    run = Run(Group("image"), steps)
    draws = [uniforms(seed % 1000 + number, np.arange(8), step.draws) for number, step in enumerate(steps)]
    expected = [
        run.draw(pictures[number], [drawn[row].tolist() for drawn in draws], None) for row, number in enumerate(ids)
    ]

    assert run.chooses
    made = run.copy(pictures, ids, draws, None)
    assert made.dtype == pictures.dtype
    assert np.array_equal(made, expected)


@is_built
@given(chains(), st.integers(1, 9), st.integers(0, 2**32))
def test_without_the_kernel_they_are_the_same(chain, channels, seed):
    (height, width), steps = chain
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 255, (5, height, width, channels), np.uint8)
    ids = rng.integers(0, 5, 8)
    told = windows.Windows(8, height, width)
    for number, step in enumerate(steps):
        told.follow(step.moves_of_many(told.height, told.width, uniforms(number, np.arange(8), step.draws)))
    one, other = (np.zeros((8, told.height, told.width, channels), np.uint8) for _ in "ab")

    told.copy(pictures, ids, one)
    told.copy_singly(pictures, ids, other)

    assert np.array_equal(one, other)


@is_built
@given(st.sampled_from([1, 16, 32, 48, 64]), st.integers(1, 17), st.integers(0, 17), st.integers(0, 2**32))
def test_what_is_written_past_the_caches_is_the_same(width, channels, shift, seed):
    """Wherever the row begins: where it is not for whole instructions, it is written as ever."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 255, (5, 12, 64, channels), np.uint8)
    ids = rng.integers(0, 5, 8)
    told = windows.Windows(8, 12, 64)
    told.follow(RandomCrop(height=10, width=width).moves_of_many(12, 64, uniforms(1, np.arange(8), 2)))
    told.follow(RandomFlip(vertical=0.5).moves_of_many(10, width, uniforms(2, np.arange(8), 2)))
    expected = np.zeros((8, 10, width, channels), np.uint8)
    around = np.full(expected.nbytes + 64, 7, np.uint8)
    out = around[shift : shift + expected.nbytes].reshape(expected.shape)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(windows, "MUCH", 1)
        told.copy(pictures, ids, out, read_later=True)
    told.copy_singly(pictures, ids, expected)

    assert np.array_equal(out, expected)
    assert set(around[:shift]) | set(around[shift + expected.nbytes :]) == {7}


def test_nothing_beside_the_rows_is_written_to(built):
    pictures = np.full((3, 7, 9, 3), 5, np.uint8)
    around = np.zeros((4, 7, 9, 3), np.uint8)
    told = windows.Windows(2, 7, 9)
    told.follow(RandomFlip(horizontal=1.0).moves_of_many(7, 9, np.zeros((2, 2))))

    told.copy(pictures, np.array([2, 0]), around[1:3])

    assert around.tolist() == [np.zeros((7, 9, 3)).tolist(), *[np.full((7, 9, 3), 5).tolist()] * 2, around[0].tolist()]


def sources(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 255, (11, 20, 30, 3), np.uint8)
    for number, picture in enumerate(pictures):
        np.save(tmp_path / f"{number:02}.npy", picture)
    Dataset.from_npy_files(tmp_path).pack(tmp_path / "rows.pack")
    np.save(tmp_path / "all.npy", pictures)
    return {
        "arrays": Dataset.from_arrays(x=pictures),
        "a mapped file": Dataset.from_arrays(x=tmp_path / "all.npy"),
        "columns first": Dataset.from_arrays(x=np.asfortranarray(pictures)),
        "big-endian": Dataset.from_arrays(x=pictures.astype(">u2")),
        "a pack": Dataset.from_pack(tmp_path / "rows.pack"),
    }


def test_batches_of_pictures_in_memory_are_those_of_samples_made_one_by_one(built, tmp_path):
    for name, source in sources(tmp_path).items():
        chosen = source.random_crop(16, 24, field="x").random_flip(vertical=0.5, field="x")
        for dataset in (
            chosen.shuffle(3).batch(4),
            chosen.rescale(1 / 255, field="x").shuffle(3).batch(4),
            source.rescale(1 / 255, field="x").random_flip(field="x").shuffle(3).batch(4),
        ):
            assert dataset.explain().plain["chains"][0]["many_rows"][:1] == ["x"], name
            for n in range(3):
                assert_same(dataset.compute(n), plain_batch(dataset, n))


def test_pictures_that_a_user_flips_with_their_masks_are_made_sample_by_sample():
    pictures = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3), np.uint8)
    dataset = Dataset.from_arrays(image=pictures, mask=pictures[..., :1]).follow(masks="mask").random_flip().batch(6)

    batch = dataset.compute(0)

    assert dataset.explain().plain["chains"][0]["many_rows"] == []
    assert np.array_equal(batch["image"][..., :1], batch["mask"])


def test_a_crop_that_is_too_large_names_a_sample(built):
    with pytest.raises(SampleError, match=r"sample 0 \(row 0\): random_crop: the picture is 4 x 5 pixels, smaller"):
        Dataset.from_arrays(image=np.zeros((3, 4, 5, 3), np.uint8)).random_crop(5, 5).batch(3).compute(0)


@is_built
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.sampled_from(DTYPES), st.data())
def test_a_part_of_a_picture_is_mirrored_as_numpy_mirrors_it(height, width, channels, dtype, data):
    picture = np.random.default_rng(height).integers(0, 255, (height, width, channels)).astype(dtype)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    part = picture[top : data.draw(st.integers(top + 1, height)), left : data.draw(st.integers(left + 1, width))]
    mirror = Mirror(data.draw(st.booleans()), data.draw(st.booleans()))
    out, seen = np.empty_like(part, order="C"), part.copy()

    made = mirroring.flipped(part, mirror, out)

    expected = seen[:: -1 if mirror.top_bottom else 1, :: -1 if mirror.left_right else 1]
    assert made is out or mirror == (False, False)
    assert np.array_equal(made, expected)
    assert np.array_equal(part, seen)
