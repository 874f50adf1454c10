"""The training chain as others have it, one thread each: a random part of the picture, mirrored, jittered, normalized.

    part       8 to 100 percent of the area, ratio 3/4 to 4/3, scaled to 224 x 224 bilinearly, without antialiasing
    mirrored   half of the time
    jittered   brightness, contrast and saturation by 0.6 to 1.4, each
    normalized (value - mean) / std for each channel, as float32

Each is written as its own documentation has it, for pictures that lie decoded in memory. Keras has no layer that cuts
such a part: `tf.image.crop_and_resize` does it for the whole batch, and Keras' layers do the rest, compiled into one
function. torchvision has no build for the CPU here, and its operations on tensors are those of torch that stand below.
DALI is handed the batch without a copy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

ROWS = 64
SIZE = 224
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
STRENGTH = 0.4
JITTER = {"brightness": STRENGTH, "contrast": STRENGTH, "saturation": STRENGTH}
GENERATOR = {
    "rotation_range": 20,
    "width_shift_range": 0.2,
    "height_shift_range": 0.2,
    "shear_range": 10,
    "zoom_range": 0.2,
    "horizontal_flip": True,
}
GRAY = (0.299, 0.587, 0.114)

Make = Callable[[], Any]  # makes ROWS rows


@cache
def photographs() -> np.ndarray:
    """Return 64 photographs of 375 x 500, cut out of two that come with scikit-learn."""
    from sklearn.datasets import load_sample_image

    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    places = [divmod(7 * number, 53) for number in range(ROWS)]
    return np.stack([photos[k % 2][top : top + 375, left : left + 500] for k, (top, left) in enumerate(places)])


def random_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random part; of ten attempts, the first that lies inside."""
    for _ in range(10):
        area = height * width * random.uniform(*SCALE)
        ratio = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            return random.randint(0, height - box_height), random.randint(0, width - box_width), box_height, box_width
    return 0, 0, height, width


def random_part(picture: np.ndarray) -> np.ndarray:
    top, left, height, width = random_box(*picture.shape[:2])
    return picture[top : top + height, left : left + width]


def factor() -> float:
    return random.uniform(1 - STRENGTH, 1 + STRENGTH)


def by_hand(jitter: bool) -> Make:
    import cv2

    cv2.setNumThreads(1)
    photos, out = photographs(), np.empty((ROWS, SIZE, SIZE, 3), np.float32)
    mean, scale = np.array(MEAN, np.float32), (1 / np.array(STD)).astype(np.float32)

    def make() -> None:
        for photo, row in zip(photos, out, strict=True):
            picture = cv2.resize(random_part(photo), (SIZE, SIZE))
            if random.random() < 0.5:
                picture = cv2.flip(picture, 1)
            if jitter:
                picture = cv2.convertScaleAbs(picture, alpha=factor())
                contrast = factor()
                gray = cv2.mean(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))[0]
                picture = cv2.convertScaleAbs(picture, alpha=contrast, beta=(1 - contrast) * gray)
                saturation = factor()
                gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
                picture = cv2.addWeighted(picture, saturation, gray, 1 - saturation, 0)
            np.subtract(picture, mean, out=row, dtype=np.float32)
            np.multiply(row, scale, out=row)

    return make


def albumentations(jitter: bool) -> Make:
    import albumentations as A
    import cv2

    cv2.setNumThreads(1)
    steps = [A.RandomResizedCrop(size=(SIZE, SIZE), scale=SCALE, ratio=RATIO, p=1), A.HorizontalFlip(p=0.5)]
    if jitter:
        steps.append(A.ColorJitter(brightness=STRENGTH, contrast=STRENGTH, saturation=STRENGTH, hue=0, p=1))
    mean, std = (tuple(value / 255 for value in values) for values in (MEAN, STD))
    chain = A.Compose([*steps, A.Normalize(mean=mean, std=std, max_pixel_value=255)])
    photos, out = photographs(), np.empty((ROWS, SIZE, SIZE, 3), np.float32)

    def make() -> None:
        for photo, row in zip(photos, out, strict=True):
            row[...] = chain(image=photo)["image"]

    return make


def keras_layers(jitter: bool) -> Make:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    strength = {"brightness_factor": STRENGTH, "contrast_factor": STRENGTH, "saturation_factor": (0.3, 0.7)}
    layers = [keras.layers.RandomFlip("horizontal")]
    if jitter:
        layers.append(keras.layers.RandomColorJitter(value_range=(0, 255), **strength))
    layers.append(keras.layers.Normalization(mean=MEAN, variance=[std**2 for std in STD]))
    photos = tf.constant(photographs())

    @tf.function
    def chain(boxes: Any) -> Any:
        x = tf.image.crop_and_resize(photos, boxes, tf.range(ROWS), (SIZE, SIZE))
        for layer in layers:
            x = layer(x, training=True) if "Random" in type(layer).__name__ else layer(x)
        return x

    _, height, width, _ = photographs().shape

    def make() -> None:
        found = np.array([random_box(height, width) for _ in range(ROWS)], np.float32)
        ends = found[:, :2] + found[:, 2:] - 1
        size = np.array([height - 1, width - 1], np.float32)
        chain(tf.constant(np.concatenate([found[:, :2] / size, ends / size], axis=1))).numpy()

    return make


def torch_functions(jitter: bool) -> Make:
    """What torchvision's transforms do to a tensor: its functions, without its classes."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    photos = torch.from_numpy(photographs()).permute(0, 3, 1, 2).contiguous()
    out = torch.empty((ROWS, 3, SIZE, SIZE))
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    weights = torch.tensor(GRAY)[:, None, None]

    def blended(picture: Any, other: Any, share: float) -> Any:
        return (picture * share + other * (1 - share)).clamp_(0, 255)

    def make() -> None:
        for photo, row in zip(photos, out, strict=True):
            top, left, height, width = random_box(*photo.shape[1:])
            part = photo[None, :, top : top + height, left : left + width]
            x = functional.interpolate(part, (SIZE, SIZE), mode="bilinear", antialias=False)[0]
            if random.random() < 0.5:
                x = x.flip(-1)
            x = x.to(torch.float32)
            if jitter:
                x = (x * factor()).clamp_(0, 255)
                x = blended(x, (x * weights).sum(0).mean(), factor())
                x = blended(x, (x * weights).sum(0, keepdim=True), factor())
            torch.sub(x, mean, out=row).div_(std)

    return make


def dali(jitter: bool) -> Make:
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    photos = photographs()
    pipeline = Pipeline(ROWS, num_threads=1, device_id=None, seed=7, exec_pipelined=False, exec_async=False)
    with pipeline:
        x = fn.external_source(lambda: photos, no_copy=True)
        part = {"random_area": list(SCALE), "random_aspect_ratio": list(RATIO), "interp_type": types.INTERP_LINEAR}
        part["antialias"] = False
        x = fn.random_resized_crop(x, size=(SIZE, SIZE), **part)
        if jitter:
            brightness, contrast, saturation = (fn.random.uniform(range=(1 - STRENGTH, 1 + STRENGTH)) for _ in range(3))
            x = fn.color_twist(x, brightness=brightness, contrast=contrast, saturation=saturation)
        how = {"mean": list(MEAN), "std": list(STD), "output_layout": "HWC", "dtype": types.FLOAT}
        pipeline.set_outputs(fn.crop_mirror_normalize(x, mirror=fn.random.coin_flip(), **how))
    pipeline.build()

    def make() -> None:
        (found,) = pipeline.run()
        found.as_tensor()

    return make


def image_data_generator(pictures: Callable[[], np.ndarray]) -> Make:
    import warnings

    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    warnings.simplefilter("ignore", DeprecationWarning)  # of where it finds scipy's function
    generator = ImageDataGenerator(**GENERATOR)
    floats = pictures().astype(np.float32)  # as its `flow` hands them over

    def make() -> None:
        for picture in floats:
            generator.random_transform(picture)

    return make
