"""What do transforms cost, each by itself, in chains, and beside those of others; per core?

64 pictures of 224 x 224 x 3 in memory (photographs of 500 x 375 for the training chain), one process, one thread, no
loader: rows are made in line, as a worker makes them. `bare` is the call of OpenCV or NumPy for the same work in a loop
over the pictures, with numbers drawn by `random`: what ours takes beyond it is the price of declared steps. A chain is
compared with its steps one by one, each of which writes all pictures before the next begins. The training chain is a
random part scaled to 224, mirrored, its colours jittered, normalized to float32.

Medians of 3 repeats of 0.5 s on one core of an AMD EPYC (Zen 5), Python 3.11, on 2026-11-22:

    training chain            ours 4,187 pictures/s, albumentations 2,629 (1.6 x), by hand 1,726, torch 1,608 (2.6 x),
                              DALI 507 (8.3 x), Keras layers 272 (15 x)
      without jitter          4,547; albumentations 3,716, torch 2,387, by hand 1,975, DALI 1,073, Keras layers 599
    rotate, shift, shear,     2,738 at once, 937 one after the other (2.9 x); other chains: 1.0 to 1.3 times their parts
      zoom, flip
    augment_images            2,751, ImageDataGenerator.random_transform 246 (11 x)
    one step beside its call  1.02 to 1.08 times its call for rotations, perspective, rescale, gamma and
                              augment_images; crops and saturation take as long, and brightness, colour jitter, flips,
                              blur, JPEG and normalize less than the plain call; measured again on 2026-12-01, on a
                              machine of half the speed: resizes as long at most, random parts 0.55 to 0.85 of it; and
                              resize, crop and flip at once 1.3 times as fast as one after the other

    python -m benchmarks.transforms --seconds 0.5 --repeats 3 --longest 1
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import count
from typing import Any

import numpy as np

from benchmarks import transform_peers
from benchmarks.arms import Arm, Case, Drive
from benchmarks.harness import main
from benchmarks.meter import Meter
from benchmarks.transform_peers import MEAN, ROWS, SIZE, STD, Make, photographs, random_part

Bare = Callable[[np.ndarray, np.ndarray], Any]  # a sample, and the row that it is written to


def repeating(prepare: Callable[[], Make]) -> Drive:
    """Drive a function that makes all rows again and again."""

    def drive(meter: Meter) -> None:
        meter.has_epochs = False
        make = prepare()
        while not meter.over:
            make()
            meter.saw(ROWS)

    return drive


# -- what is worked on --------------------------------------------------------------------------------------------


@cache
def pictures() -> np.ndarray:
    return np.stack([photograph[:SIZE, :SIZE] for photograph in photographs()])


@cache
def series() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, 1024, 6), dtype=np.float32)


@cache
def volumes() -> np.ndarray:
    return np.random.default_rng(0).random((ROWS, 32, 32, 32), dtype=np.float32)


# -- the bare calls -----------------------------------------------------------------------------------------------


def _resize(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    cv2.resize(picture, (out.shape[1], out.shape[0]), dst=out)


def _crop_at_random(picture: np.ndarray, out: np.ndarray) -> None:
    height, width = out.shape[:2]
    top = int(random.random() * (picture.shape[0] - height + 1))
    left = int(random.random() * (picture.shape[1] - width + 1))
    out[...] = picture[top : top + height, left : left + width]


def _part_at_random(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    cv2.resize(random_part(picture), (SIZE, SIZE), dst=out)


def _flip(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    if random.random() < 0.5:
        cv2.flip(picture, 1, dst=out)
    else:
        out[...] = picture


def _rescale(picture: np.ndarray, out: np.ndarray) -> None:
    np.multiply(picture, np.float32(1 / 255), out=out, dtype=np.float32, casting="unsafe")


def _normalize(picture: np.ndarray, out: np.ndarray) -> None:
    np.subtract(picture, np.array(MEAN, np.float32), out=out, dtype=np.float32, casting="unsafe")
    np.multiply(out, (1 / np.array(STD)).astype(np.float32), out=out)


def _warp(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 40 * random.random() - 20, 0.8 + 0.4 * random.random())
    cv2.warpAffine(picture, matrix, (width, height), dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _rotate(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 40 * random.random() - 20, 1)
    cv2.warpAffine(picture, matrix, (width, height), dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _perspective(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inwards = np.array([[width, height], [-width, height], [-width, -height], [width, -height]], np.float32)
    moved = corners + 0.2 * inwards * np.array([[random.random() for _ in "xy"] for _ in corners], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved)
    cv2.warpPerspective(picture, matrix, (width, height), dst=out, borderMode=cv2.BORDER_REPLICATE)


def _brighten(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    cv2.convertScaleAbs(picture, dst=out, alpha=random.uniform(0.6, 1.4))


def _saturate(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    factor = random.uniform(0.6, 1.4)
    grey = np.array([0.299, 0.587, 0.114], np.float32)
    cv2.transform(picture, np.eye(3, dtype=np.float32) * factor + (1 - factor) * grey, dst=out)


def _jitter_colours(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    brightness, contrast, saturation = (random.uniform(0.6, 1.4) for _ in range(3))
    grey = np.array([0.299, 0.587, 0.114], np.float32)
    mean = grey @ cv2.mean(picture)[:3]  # contrast is that to the mean grey
    colours = brightness * contrast * (np.eye(3, dtype=np.float32) * saturation + (1 - saturation) * grey)
    offset = np.full((3, 1), (1 - contrast) * brightness * mean)
    cv2.transform(picture, np.hstack([colours, offset]), dst=out)


def _gamma(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    table = (255 * (np.arange(256, dtype=np.float32) / 255) ** random.uniform(0.8, 1.25)).round().astype(np.uint8)
    cv2.LUT(picture, table, dst=out)


def _blur(picture: np.ndarray, out: np.ndarray) -> None:
    import cv2

    sigma = random.uniform(0.1, 2.0)
    side = 2 * max(1, math.ceil(3 * sigma)) + 1
    cv2.GaussianBlur(picture, (side, side), sigma, dst=out)


def _through_jpeg(picture: np.ndarray, out: np.ndarray) -> None:
    import simplejpeg

    encoded = simplejpeg.encode_jpeg(picture, quality=random.randint(50, 100))
    simplejpeg.decode_jpeg(encoded, buffer=out)


def _window(recording: np.ndarray, out: np.ndarray) -> None:
    start = int(random.random() * (len(recording) - len(out) + 1))
    out[...] = recording[start : start + len(out)]


def _jitter(recording: np.ndarray, out: np.ndarray) -> None:
    noise = _generator().standard_normal(recording.shape, dtype=np.float32)
    noise *= np.float32(0.05)
    np.add(recording, noise, out=out)


def _scale(recording: np.ndarray, out: np.ndarray) -> None:
    factors = 1 + 0.1 * _generator().standard_normal(recording.shape[-1], dtype=np.float32)
    np.multiply(recording, factors, out=out)


def _time_warp(recording: np.ndarray, out: np.ndarray) -> None:
    steps = np.arange(len(recording))
    speeds = np.interp(steps, np.linspace(0, len(steps) - 1, 6), np.exp(0.2 * _generator().standard_normal(6)))
    times = np.cumsum(speeds)
    times = (times - times[0]) * ((len(steps) - 1) / (times[-1] - times[0]))
    for channel in range(recording.shape[-1]):
        out[:, channel] = np.interp(times, steps, recording[:, channel])


@cache
def _generator() -> np.random.Generator:
    return np.random.default_rng(7)


def _flip_volume(volume: np.ndarray, out: np.ndarray) -> None:
    out[...] = volume[tuple(slice(None, None, -1 if random.random() < 0.5 else 1) for _ in range(3))]


def _quarter_turn(volume: np.ndarray, out: np.ndarray) -> None:
    out[...] = np.rot90(volume, int(4 * random.random()), (1, 2))


def _turn_volume(volume: np.ndarray, out: np.ndarray) -> None:
    import cv2

    matrix = cv2.getRotationMatrix2D((15.5, 15.5), 30 * random.random() - 15, 1)
    for before, after in zip(volume, out, strict=True):
        cv2.warpAffine(before, matrix, (32, 32), dst=after)


# -- the table ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A method of `Dataset` and its arguments, and the bare call for the same work."""

    method: str
    options: dict[str, Any]
    bare: Bare
    samples: Callable[[], np.ndarray] = pictures

    def declare(self, dataset: Any) -> Any:
        return getattr(dataset, self.method)(**self.options)


NORMALIZE = Step("normalize", {"mean": MEAN, "std": STD}, _normalize)
FLIP = Step("random_flip", {}, _flip)
PART = Step("random_resized_crop", {"height": SIZE, "width": SIZE, "antialias": False}, _part_at_random, photographs)
JITTER = Step("color_jitter", transform_peers.JITTER, _jitter_colours)  # all of it is one matrix
ROTATE = Step("random_rotate", {"degrees": 20}, _rotate)
WARP = {"rotation_range": 20, "zoom_range": 0.2}
X = {"field": "x"}

STEPS = [
    Step("resize", {"height": 160, "width": 160}, _resize),
    Step("random_crop", {"height": 192, "width": 192}, _crop_at_random),
    PART,
    FLIP,
    Step("rescale", {"scale": 1 / 255}, _rescale),
    NORMALIZE,
    ROTATE,
    Step("random_perspective", {"distortion": 0.4}, _perspective),
    Step("augment_images", WARP, _warp),
    Step("random_brightness", {"factor": 0.4}, _brighten),
    Step("random_saturation", {"factor": 0.4}, _saturate),
    JITTER,
    Step("random_gamma", {"gamma": (0.8, 1.25)}, _gamma),
    Step("random_blur", {}, _blur),
    Step("random_jpeg", {}, _through_jpeg),
    Step("random_window", {"length": 512, **X}, _window, series),
    Step("random_jitter", X, _jitter, series),
    Step("random_scale", X, _scale, series),
    Step("random_time_warp", X, _time_warp, series),
    Step("random_volume_flip", X, _flip_volume, volumes),
    Step("random_volume_rot90", X, _quarter_turn, volumes),
    Step("random_volume_rotation", X, _turn_volume, volumes),
]

CHAINS = {
    "part, flip": [PART, FLIP],
    "part, flip, normalize": [PART, FLIP, NORMALIZE],
    "rotate, shift, shear, zoom, flip": [
        ROTATE,
        Step("random_shift", {"horizontal": 0.1, "vertical": 0.1}, _warp),
        Step("random_shear", {"horizontal": 10}, _warp),
        Step("random_zoom", {"zoom": 0.2}, _warp),
        FLIP,
    ],
    "jitter, flip, normalize": [JITTER, FLIP, NORMALIZE],
    "flip, warp": [FLIP, Step("augment_images", WARP, _warp)],
    "resize, crop, flip": [
        Step("resize", {"height": 256, "width": 256}, _resize, photographs),
        Step("random_crop", {"height": SIZE, "width": SIZE}, _crop_at_random),
        FLIP,
    ],
}


# -- arms ---------------------------------------------------------------------------------------------------------


def source(samples: np.ndarray) -> Any:
    from loader_service import Dataset

    name = "image" if samples.dtype == np.uint8 else "x"
    return Dataset.from_arrays(**{name: samples})


def in_line(dataset: Any) -> Make:
    """Return what makes the next batch, as a worker does."""
    import cv2

    cv2.setNumThreads(1)
    plan = dataset.batch(ROWS).plan
    out, numbers = plan.empty_rows(ROWS), count()

    def make() -> np.ndarray:
        plan.fill(next(numbers), 0, ROWS, out)
        return next(iter(out.values()))

    return make


def ours(*steps: Step) -> Make:
    dataset = source(steps[0].samples())
    for step in steps:
        dataset = step.declare(dataset)
    return in_line(dataset)


def one_by_one(*steps: Step) -> Make:
    """Return what does each step for all samples before the next step begins."""
    made, samples = [], steps[0].samples()
    for step in steps:
        dataset = step.declare(source(samples))
        made.append(in_line(dataset))
        (samples,) = dataset.batch(ROWS).compute(0).values()

    def make() -> None:
        for each in made:
            each()

    return make


def bare(step: Step) -> Make:
    import cv2

    cv2.setNumThreads(1)
    samples = step.samples()
    (shape_of,) = step.declare(source(samples)).batch(ROWS).compute(0).values()
    out = np.empty_like(shape_of)

    def make() -> np.ndarray:
        for sample, row in zip(samples, out, strict=True):
            step.bare(sample, row)
        return out

    return make


@dataclass(frozen=True)
class Peer:
    """Another's way of doing the training chain; `needs` names a module that may be missing."""

    name: str
    prepare: Callable[[bool], Make]  # told whether colours are jittered
    needs: str | None = field(default=None)


PEERS = [
    Peer("albumentations", transform_peers.albumentations, "albumentations"),
    Peer("Keras layers on the CPU", transform_peers.keras_layers, "tensorflow"),
    Peer("torchvision-style, by torch's functions", transform_peers.torch_functions, "torch"),
    Peer("NVIDIA DALI on the CPU", transform_peers.dali, "nvidia"),
    Peer("bare: OpenCV and NumPy, by hand", transform_peers.by_hand),
]


def training(*, jitter: bool) -> Case:
    name = "training chain" if jitter else "training chain, without jitter"
    steps = [PART, FLIP, *([JITTER] if jitter else []), NORMALIZE]
    arms = [Arm("loader-service: the chain", repeating(partial(ours, *steps)))]
    arms += [Arm(peer.name, repeating(partial(peer.prepare, jitter)), peer.needs) for peer in PEERS]
    return Case(name, _nbytes(SIZE, SIZE, 3, itemsize=4), ROWS, arms)


def image_data_generator() -> Case:
    options = transform_peers.GENERATOR
    step = Step("augment_images", options, _warp)
    arms = [
        Arm("loader-service: augment_images", repeating(partial(ours, step))),
        Arm(
            "ImageDataGenerator.random_transform",
            repeating(partial(transform_peers.image_data_generator, pictures)),
            "keras",
        ),
    ]
    return Case("ImageDataGenerator", _nbytes(SIZE, SIZE, 3), ROWS, arms)


def _nbytes(*shape: int, itemsize: int = 1) -> int:
    return ROWS * math.prod(shape) * itemsize


CASES = [
    *(
        Case(
            step.method,
            _nbytes(SIZE, SIZE, 3),
            ROWS,
            [
                Arm(f"loader-service: {step.method}", repeating(partial(ours, step))),
                Arm("bare: the call itself", repeating(partial(bare, step))),
            ],
        )
        for step in STEPS
    ),
    *(
        Case(
            f"chain: {name}",
            _nbytes(SIZE, SIZE, 3),
            ROWS,
            [
                Arm("loader-service: the chain", repeating(partial(ours, *steps))),
                Arm("sum of its parts", repeating(partial(one_by_one, *steps))),
            ],
        )
        for name, steps in CHAINS.items()
    ),
    image_data_generator(),
    training(jitter=False),
    training(jitter=True),
]

if __name__ == "__main__":
    main("benchmarks.transforms", __doc__ or "", CASES)
