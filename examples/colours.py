"""Draw what each step that changes values makes of a picture: one line for each step, one column for each epoch.

    python examples/colours.py --output colours.jpg

Without `--picture photo.jpg`, a wheel of colours is drawn. The drawing in docs/augmenting-values.md is made by this.
"""

import argparse

import cv2
import numpy as np

from loader_service import Dataset

SIZE = 80  # pixels of a tile, height and width
MARGIN = 190  # pixels for the names of steps
EPOCHS = 4

STEPS = {
    "color_jitter(.4, .4, .4, .1)": lambda pictures: pictures.color_jitter(0.4, 0.4, 0.4, 0.1),
    "random_brightness(.5)": lambda pictures: pictures.random_brightness(0.5),
    "random_contrast(.7)": lambda pictures: pictures.random_contrast(0.7),
    "random_saturation(.9)": lambda pictures: pictures.random_saturation(0.9),
    "random_hue(.3)": lambda pictures: pictures.random_hue(0.3),
    "random_gamma((.4, 2.5))": lambda pictures: pictures.random_gamma((0.4, 2.5)),
    "random_channel_shift(60)": lambda pictures: pictures.random_channel_shift(60),
    "random_grayscale(.5)": lambda pictures: pictures.random_grayscale(0.5),
    "random_invert()": lambda pictures: pictures.random_invert(),
    "random_solarize()": lambda pictures: pictures.random_solarize(),
    "random_posterize(2)": lambda pictures: pictures.random_posterize(2),
    "random_equalize()": lambda pictures: pictures.random_equalize(),
    "random_autocontrast()": lambda pictures: pictures.random_autocontrast(),
    "random_blur((.5, 3))": lambda pictures: pictures.random_blur((0.5, 3)),
    "random_sharpness((0, 6))": lambda pictures: pictures.random_sharpness((0, 6)),
    "random_noise((5, 40))": lambda pictures: pictures.random_noise((5, 40)),
    "random_jpeg((2, 30))": lambda pictures: pictures.random_jpeg((2, 30)),
    "random_erasing(1, fill='noise')": lambda pictures: pictures.random_erasing(1, fill="noise"),
    "rand_augment(2, 15)": lambda pictures: pictures.rand_augment(2, 15, fill=128),
    "mixup(1)": lambda pictures: pictures.mixup(1),
    "cutmix()": lambda pictures: pictures.cutmix(),
}


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description="Draw what each step that changes values makes of a picture.")
    parser.add_argument("--picture", help="a photo; without, a wheel of colours")
    parser.add_argument("--output", default="colours.jpg")
    options = parser.parse_args()

    picture = wheel() if options.picture is None else cv2.imread(options.picture)[..., ::-1]
    picture = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    two = np.stack([picture, 255 - picture[::-1]])  # the second is there to be mixed with
    pictures = Dataset.from_arrays(image=two, label=np.eye(2, dtype=np.float32))
    lines = [line(name, step(pictures).batch(2), picture) for name, step in STEPS.items()]
    half = -(-len(lines) // 2)
    lines += [np.full_like(lines[0], 255)] * (2 * half - len(lines))
    sheet = np.hstack([np.vstack(lines[:half]), np.vstack(lines[half:])])
    cv2.imwrite(options.output, sheet[..., ::-1])
    print(f"{len(STEPS)} steps: {options.output}")


def line(name: str, dataset: Dataset, picture: np.ndarray) -> np.ndarray:
    """Return a line of tiles: the picture, and what becomes of it in each epoch."""
    title = np.full((SIZE, MARGIN, 3), 255, np.uint8)
    cv2.putText(title, name, (6, SIZE // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    epochs = [dataset.compute(epoch * dataset.batches_per_epoch)["image"][0] for epoch in range(EPOCHS)]
    tiles = [cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255,) * 3) for tile in [picture, *epochs]]
    return np.hstack([cv2.copyMakeBorder(title, 2, 2, 0, 0, cv2.BORDER_CONSTANT, value=(255,) * 3), *tiles])


def wheel() -> np.ndarray:
    """Return all hues around a grey middle, over a ramp from black to white."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    radius = np.hypot(x, y)
    hue = np.degrees(np.arctan2(y, x)) % 360
    colours = np.stack([hue, np.minimum(radius, 1), np.full_like(hue, 0.9)], axis=-1).astype(np.float32)
    ramp = np.repeat(((x + 1) / 2)[..., None], 3, axis=-1)
    picture = np.where(radius[..., None] < 0.85, cv2.cvtColor(colours, cv2.COLOR_HSV2RGB), ramp)
    return (255 * picture).round().astype(np.uint8)


if __name__ == "__main__":
    main()
