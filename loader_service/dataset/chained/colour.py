"""What happens to the values of pictures: colours, quality, boxes covered; samples brought to mean 0.

Pictures have 1, 3 or 4 channels, uint8 or float32. A float picture is taken to be in 0 .. 1, unless `value_range` says
otherwise; alpha, the fourth channel, is left alone. A range is (low, high), from which each sample draws a
number; `probability` is the share of the samples that something is done to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from loader_service.dataset.chained.declared import Declared
from loader_service.dataset.transforms.colour.adjust import HueSpace
from loader_service.dataset.transforms.colour.channel_shift import RandomChannelShift
from loader_service.dataset.transforms.colour.grey import Grayscale, RandomGrayscale
from loader_service.dataset.transforms.colour.jitter import (
    ColorJitter,
    RandomBrightness,
    RandomContrast,
    RandomHue,
    RandomSaturation,
)
from loader_service.dataset.transforms.colour.tables import (
    RandomAutocontrast,
    RandomEqualize,
    RandomGamma,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from loader_service.dataset.transforms.erasing import RandomErasing
from loader_service.dataset.transforms.quality.blur import RandomBlur, RandomSharpness
from loader_service.dataset.transforms.quality.jpeg import RandomJpeg
from loader_service.dataset.transforms.quality.noise import RandomNoise
from loader_service.dataset.transforms.rand_augment import RandAugment
from loader_service.dataset.transforms.standardize import Standardize

Range = float | tuple[float, float]
ValueRange = tuple[float, float] | None


class Colour(Declared):
    """Values of pictures changed, in place and one sample at a time."""

    # -- colour ----------------------------------------------------------------------------------------------

    def color_jitter(
        self,
        brightness: Range = 0.0,
        contrast: Range = 0.0,
        saturation: Range = 0.0,
        hue: Range = 0.0,
        *,
        hue_space: HueSpace = "hsv",
        value_range: ValueRange = None,
        probability: float = 1.0,
        field: str = "image",
    ) -> Self:
        """Change brightness, contrast, saturation and hue at random, in one pass.

        Args:
            brightness: f for factors from 1 - f to 1 + f; or both ends. So for contrast and saturation.
            hue: Share of a full turn, t for -t .. t, 0.5 at most; or both ends.
            hue_space: "hsv" keeps lightest and darkest channel, as torchvision and Keras do. "yiq" turns colours about
                the grey axis, as DALI does: several times faster, and less true for strong turns of vivid colours.
            value_range: Black and white of float pictures, 0 and 1 if nothing is said.
            probability: Share of the samples.
        """
        return self._then(
            ColorJitter,
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
            hue=hue,
            hue_space=hue_space,
            value_range=value_range,
            probability=probability,
            field=field,
        )

    def random_brightness(
        self, factor: Range, *, value_range: ValueRange = None, probability: float = 1.0, field: str = "image"
    ) -> Self:
        """Multiply by a factor from 1 - f to 1 + f, or from a range (low, high)."""
        return self._then(
            RandomBrightness, factor=factor, value_range=value_range, probability=probability, field=field
        )

    def random_contrast(
        self, factor: Range, *, value_range: ValueRange = None, probability: float = 1.0, field: str = "image"
    ) -> Self:
        """Spread values about the mean grey by a factor from 1 - f to 1 + f, or from a range (low, high)."""
        return self._then(RandomContrast, factor=factor, value_range=value_range, probability=probability, field=field)

    def random_saturation(
        self, factor: Range, *, value_range: ValueRange = None, probability: float = 1.0, field: str = "image"
    ) -> Self:
        """Spread each pixel's channels about its grey by a factor from 1 - f to 1 + f, or from a range (low, high)."""
        return self._then(
            RandomSaturation, factor=factor, value_range=value_range, probability=probability, field=field
        )

    def random_hue(
        self,
        factor: Range,
        *,
        hue_space: HueSpace = "hsv",
        value_range: ValueRange = None,
        probability: float = 1.0,
        field: str = "image",
    ) -> Self:
        """Turn hues by a share of the full circle, -t .. t or a range within -0.5 .. 0.5; see `color_jitter`."""
        return self._then(
            RandomHue,
            factor=factor,
            hue_space=hue_space,
            value_range=value_range,
            probability=probability,
            field=field,
        )

    def random_gamma(
        self, gamma: Range, *, value_range: ValueRange = None, probability: float = 1.0, field: str = "image"
    ) -> Self:
        """Raise values of 0 .. 1 to a power from 1 - g to 1 + g, or from a range (low, high), above 0."""
        return self._then(RandomGamma, gamma=gamma, value_range=value_range, probability=probability, field=field)

    def random_channel_shift(
        self,
        shift: Range,
        *,
        per_channel: bool = True,
        value_range: ValueRange = None,
        probability: float = 1.0,
        field: str = "image",
    ) -> Self:
        """Add a number from -s .. s, or from a range, to each channel, in the picture's own units.

        Args:
            per_channel: A number for each channel. False is Keras' `channel_shift_range`: one number for all, and
                values are cut off at the picture's own least and largest one.
        """
        return self._then(
            RandomChannelShift,
            shift=shift,
            per_channel=per_channel,
            value_range=value_range,
            probability=probability,
            field=field,
        )

    def grayscale(self, channels: Literal[1, 3] = 1, *, field: str = "image") -> Self:
        """Make pictures grey, of one channel or of three equal ones."""
        return self._then(Grayscale, channels=channels, field=field)

    def random_grayscale(self, probability: float = 0.1, *, field: str = "image") -> Self:
        """Make some pictures grey, and leave them their channels."""
        return self._then(RandomGrayscale, probability=probability, field=field)

    def random_invert(self, probability: float = 0.5, *, value_range: ValueRange = None, field: str = "image") -> Self:
        """Turn black into white, in some pictures."""
        return self._then(RandomInvert, probability=probability, value_range=value_range, field=field)

    def random_solarize(
        self,
        threshold: float | None = None,
        *,
        value_range: ValueRange = None,
        probability: float = 0.5,
        field: str = "image",
    ) -> Self:
        """Invert values from a threshold on, in some pictures.

        Args:
            threshold: In the picture's own units; the middle of its range, if nothing is said.
        """
        return self._then(
            RandomSolarize, threshold=threshold, value_range=value_range, probability=probability, field=field
        )

    def random_posterize(self, bits: int, *, probability: float = 0.5, field: str = "image") -> Self:
        """Keep the highest `bits` bits of each value, in some pictures of uint8."""
        return self._then(RandomPosterize, bits=bits, probability=probability, field=field)

    def random_equalize(self, probability: float = 0.5, *, field: str = "image") -> Self:
        """Spread the values of each channel so that all are about equally frequent, in some pictures of uint8."""
        return self._then(RandomEqualize, probability=probability, field=field)

    def random_autocontrast(
        self, probability: float = 0.5, *, value_range: ValueRange = None, field: str = "image"
    ) -> Self:
        """Stretch each channel to the whole range, in some pictures."""
        return self._then(RandomAutocontrast, probability=probability, value_range=value_range, field=field)

    # -- quality ---------------------------------------------------------------------------------------------

    def random_blur(self, sigma: Range = (0.1, 2.0), *, probability: float = 1.0, field: str = "image") -> Self:
        """Blur with a Gaussian whose standard deviation, in pixels, is drawn from a range; or is always one."""
        return self._then(RandomBlur, sigma=sigma, probability=probability, field=field)

    def random_sharpness(
        self, factor: Range, *, value_range: ValueRange = None, probability: float = 1.0, field: str = "image"
    ) -> Self:
        """Sharpen by a factor from 1 - f to 1 + f, or from a range: 0 is smooth, 1 the picture itself."""
        return self._then(RandomSharpness, factor=factor, value_range=value_range, probability=probability, field=field)

    def random_noise(
        self, std: Range, *, value_range: ValueRange = None, probability: float = 1.0, field: str = "image"
    ) -> Self:
        """Add Gaussian noise; its standard deviation, in the picture's own units, is drawn from a range, or is one."""
        return self._then(RandomNoise, std=std, value_range=value_range, probability=probability, field=field)

    def random_jpeg(self, quality: Range = (50, 100), *, probability: float = 1.0, field: str = "image") -> Self:
        """Show what JPEG of a random quality, 1 to 100, leaves of pictures of uint8."""
        return self._then(RandomJpeg, quality=quality, probability=probability, field=field)

    # -- regularisers ----------------------------------------------------------------------------------------

    def random_erasing(
        self,
        probability: float = 0.5,
        *,
        boxes: int = 1,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        fill: float | Sequence[float] | Literal["noise"] = 0.0,
        value_range: ValueRange = None,
        field: str = "image",
    ) -> Self:
        """Cover boxes of random size, shape and place.

        Args:
            probability: Share of the samples.
            boxes: How many are covered in each picture, 8 at most.
            scale: Least and largest share of the area, of each box.
            ratio: Least and largest width / height.
            fill: A number, one for each channel, or "noise": any value, for each pixel.
            value_range: Black and white of float pictures, which noise is between.
        """
        return self._then(
            RandomErasing,
            probability=probability,
            boxes=boxes,
            scale=scale,
            ratio=ratio,
            fill=fill,
            value_range=value_range,
            field=field,
        )

    def rand_augment(
        self, num_ops: int = 2, magnitude: float = 9, *, fill: int = 0, probability: float = 1.0, field: str = "image"
    ) -> Self:
        """Do some random operations out of fourteen to each picture of uint8: torchvision's RandAugment.

        Args:
            num_ops: Operations on each sample, 8 at most.
            magnitude: Of all of them, 0 to 30.
            fill: What stands at the edges where shear, shift and rotation leave nothing.
        """
        return self._then(
            RandAugment, num_ops=num_ops, magnitude=magnitude, fill=fill, probability=probability, field=field
        )

    # -- normalisation ---------------------------------------------------------------------------------------

    def standardize(
        self, *, center: bool = True, std: bool = True, per_channel: bool = False, field: str = "image"
    ) -> Self:
        """Bring each sample to mean 0 and standard deviation 1 by its own numbers, as float32.

        Args:
            center: Subtract the mean.
            std: Divide by the standard deviation.
            per_channel: Each entry of the last axis by its own mean and deviation.
        """
        return self._then(Standardize, center=center, std=std, per_channel=per_channel, field=field)
