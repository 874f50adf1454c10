"""Callables of albumentations' form: stand-ins here, and the package itself where it is installed."""

import importlib.util

import numpy as np
import pytest

from loader_service import Dataset
from loader_service.protocol.errors import DatasetError, SampleError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 10, 8, 3), np.uint8)
MASKS = IMAGES[..., :1] // 64

CODE = """
import random

import numpy as np


class Flip:
    "Draws from the global generators, as albumentations 1 does."

    def __call__(self, image, mask=None, **others):
        flip = random.random() < 0.5
        turned = {"image": image[:, ::-1] if flip else image, **others}
        return turned if mask is None else {**turned, "mask": (mask[:, ::-1] if flip else mask)[..., 0]}


class Noise:
    "Draws from generators that it is handed, as albumentations 2 does."

    def __init__(self):
        self.random_generator = np.random.default_rng(1)

    def set_random_state(self, random_generator, py_random):
        self.random_generator = random_generator

    def __call__(self, image):
        return {"image": image + self.random_generator.integers(0, 50, image.shape).astype("uint8")}


class Seeded(Noise):
    set_random_state = None

    def set_random_seed(self, seed):
        self.random_generator = np.random.default_rng(seed)


del Seeded.set_random_state
flip, noise = Flip(), Noise()
shuffled = [Flip()]


def lists(image):
    return [image]


def forgets(image, mask):
    return {"image": image}
"""
REAL = """
import albumentations as A

both = A.Compose([A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast(p=0.5), A.GaussNoise(p=1)], seed=1)
flip = A.HorizontalFlip(p=0.5)
"""


@pytest.fixture
def code(user_module):
    return user_module(CODE)


@pytest.fixture
def scans():
    return Dataset.from_arrays(image=IMAGES, mask=MASKS, label=np.arange(12)).shuffle(5).batch(6)


@pytest.fixture
def real(user_module, monkeypatch):
    """A module with transforms of the package's own, where it is installed."""
    if importlib.util.find_spec("albumentations") is None:
        pytest.skip("albumentations is not installed")
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version
    return user_module(REAL)


def assert_rows_can_be_made_again(dataset):
    """Another worker makes them, alone and in another order."""
    plan = dataset.plan
    whole = plan.compute(1)
    for row in (3, 0, 5):
        out = {name: np.empty_like(rows[:1]) for name, rows in whole.items()}
        plan.fill(1, row, row + 1, out)
        assert all(np.array_equal(out[name][0], rows[row]) for name, rows in whole.items())
    assert plan.doubts() == []


def test_picture_and_mask_are_handed_over_together(scans, code):
    dataset = scans.albumentations(f"{code}:flip")

    batch = dataset.plan.compute(0)

    assert dataset.spec == scans.spec
    flipped = [not np.array_equal(row, IMAGES[i]) for row, i in zip(batch["image"], batch["ids"], strict=True)]
    assert 0 < sum(flipped) < 6
    for row, flip in enumerate(flipped):
        expected = MASKS[batch["ids"][row]]
        assert np.array_equal(batch["mask"][row], expected[:, ::-1] if flip else expected)


def test_random_numbers_are_each_samples_own(scans, code):
    """Whatever the transform was seeded with, and whichever way it wants to be."""
    for dataset in (scans.albumentations(f"{code}:flip"), scans.map("copy:copy").albumentations(f"{code}:flip")):
        assert_rows_can_be_made_again(dataset)
    noise = Dataset.from_arrays(image=np.zeros((12, 4, 4, 3), np.uint8)).batch(6).albumentations(f"{code}:noise")
    assert_rows_can_be_made_again(noise)
    assert len({row.tobytes() for n in range(4) for row in noise.compute(n)["image"]}) == 24


def test_a_transform_may_be_given_and_other_fields_named(code):
    import sys

    __import__(code)
    dataset = Dataset.from_arrays(x=IMAGES, y=MASKS).albumentations(sys.modules[code].Seeded(), targets={"image": "x"})

    assert_rows_can_be_made_again(dataset.batch(6))
    assert not np.array_equal(dataset.batch(6).compute(0)["x"], IMAGES[:6])


@pytest.mark.parametrize(
    ("name", "options", "error", "told"),
    [
        (
            "lists",
            {"targets": {"image": "image"}},
            DatasetError,
            "returned list, expected a dict, as albumentations does",
        ),
        ("forgets", {}, DatasetError, r"forgets' returned \['image'\]: 'mask' is missing"),
        (
            "flip",
            {"targets": {"image": "picture"}},
            DatasetError,
            "albumentations: there is no field 'picture'; the sample",
        ),
        ("flip", {"targets": {"mask": "mask"}}, DatasetError, r"none of them is 'image': say which is, as in targets="),
        ("shuffled", {}, DatasetError, "is list, expected a function"),
        ("noise", {}, SampleError, "unexpected keyword argument 'mask'"),
    ],
)
def test_what_cannot_be_called_is_told(scans, code, name, options, error, told):
    with pytest.raises(error, match=told):
        scans.albumentations(f"{code}:{name}", **options).compute(0)


@pytest.mark.parametrize("name", ["both", "flip"])
def test_albumentations_itself_is_pure(scans, real, name):
    dataset = scans.albumentations(f"{real}:{name}")

    assert_rows_can_be_made_again(dataset)
    assert not np.array_equal(dataset.compute(0)["image"], dataset.compute(2)["image"])
    assert dataset.spec == scans.spec
